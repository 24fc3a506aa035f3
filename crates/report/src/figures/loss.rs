//! Loss by step of several plans, which must coincide.

use crate::chart::Size;
use crate::chart::axis::{Frame, Scale, range};
use crate::chart::canvas::{Area, Canvas, Ink, Point};
use crate::chart::legend::{Swatch, column, column_size, header};
use crate::chart::style::{HEADER, MARGIN, MUTED, SERIES, SMALL};
use crate::error::ReportError;

/// Size of the figure that fits it best, in points.
pub const LOSS_SIZE: Size = (820, 520);

/// Width of a curve's stripes, and their length, in points.
const STRIPE: f64 = 3.6;
const STRIPE_LENGTH: f64 = 9.0;

/// The losses of one plan, step 1 first.
#[derive(Clone, Debug, PartialEq)]
pub struct LossCurve {
    /// Name of the plan.
    pub name: String,
    /// Mean loss of each step, nats; what is not finite is left out.
    pub losses: Vec<f64>,
}

/// Draws the loss of each plan by step. Where curves coincide, their colours take turns along the line. `vocab`, the number of classes, draws ln(vocab), the loss of a uniform guess.
///
/// # Errors
/// [`ReportError::Draw`].
pub fn loss_curves(canvas: &Canvas<'_>, curves: &[LossCurve], vocab: Option<u64>) -> Result<(), ReportError> {
    let reference = vocab.filter(|vocab| *vocab > 0).map(|vocab| (vocab as f64).ln());
    let names: Vec<(Swatch, &str)> = curves
        .iter()
        .enumerate()
        .map(|(index, curve)| (Swatch::Line(color(index), STRIPE), curve.name.as_str()))
        .collect();
    let (legend, _) = column_size(canvas, &names)?;
    let frame = frame(canvas, curves, reference, if names.is_empty() { 0.0 } else { legend + 12.0 });
    header(canvas, MARGIN, "Training loss of each plan", &subtitle(curves))?;
    frame.x_axis(canvas, &whole(frame.x), "step")?;
    frame.y_axis(canvas, &frame.y.ticks(6), "loss (nats)")?;
    let lines: Vec<Vec<Point>> =
        curves.iter().map(|curve| finite(curve).map(|(step, loss)| frame.at(step, loss)).collect()).collect();
    for (index, line) in lines.iter().enumerate() {
        canvas.line(line, color(index), 1.3)?;
    }
    for (index, line) in lines.iter().enumerate() {
        stripes(canvas, line, index, curves.len())?;
    }
    if let (Some(level), Some(vocab)) = (reference, vocab) {
        uniform(canvas, &frame, level, vocab)?;
    }
    if names.is_empty() { Ok(()) } else { column(canvas, (frame.area.right + 12.0, frame.area.top), &names) }
}

fn color(index: usize) -> plotters::style::RGBAColor {
    SERIES[index % SERIES.len()]
}

fn finite(curve: &LossCurve) -> impl Iterator<Item = (f64, f64)> {
    let steps = curve.losses.iter().enumerate().map(|(i, loss)| (i as f64 + 1.0, *loss));
    steps.filter(|(_, loss)| loss.is_finite())
}

fn frame(canvas: &Canvas<'_>, curves: &[LossCurve], reference: Option<f64>, legend: f64) -> Frame {
    let (width, height) = canvas.size();
    let area = Area::new(78.0, HEADER + 12.0, width - MARGIN - legend, height - 60.0);
    let longest = curves.iter().map(|curve| curve.losses.len()).max().unwrap_or(0);
    let losses = curves.iter().flat_map(|curve| finite(curve).map(|(_, loss)| loss));
    let (low, high) = range(losses.chain(reference)).unwrap_or((0.0, 1.0));
    let room = ((high - low) * 0.08).max(1e-3);
    let x = Scale::Linear { min: 1.0, max: longest.max(2) as f64 };
    Frame { area, x, y: Scale::Linear { min: low - room, max: high + room } }
}

/// Ticks at whole steps.
fn whole(x: Scale) -> Vec<crate::chart::axis::Tick> {
    x.ticks(10).into_iter().filter(|tick| tick.value.fract() == 0.0).collect()
}

fn subtitle(curves: &[LossCurve]) -> String {
    let Some(spread) = largest_spread(curves) else { return "loss by step".to_owned() };
    format!("the lines coincide: at no step do two plans differ by more than {spread:.1e} of the loss")
        .replace(": at no", if spread < 1e-2 { ": at no" } else { " only in part: at no" })
}

/// Largest relative difference between two plans at one step; `None` with fewer than two curves.
fn largest_spread(curves: &[LossCurve]) -> Option<f64> {
    let steps = curves.iter().map(|curve| curve.losses.len()).min().filter(|_| curves.len() > 1)?;
    let spread = |step: usize| {
        let (low, high) = range(curves.iter().map(|curve| curve.losses[step]))?;
        (high != 0.0).then(|| (high - low) / high.abs())
    };
    (0..steps).filter_map(spread).max_by(f64::total_cmp)
}

/// The stripes of curve `index` of `count`, where none of the others has its own; a dot for a single step.
fn stripes(canvas: &Canvas<'_>, line: &[Point], index: usize, count: usize) -> Result<(), ReportError> {
    if let [only] = line {
        return canvas.dot(*only, STRIPE, color(index));
    }
    let Some((first, last)) = line.first().zip(line.last()) else { return Ok(()) };
    let turns = ((last.0 - first.0) / STRIPE_LENGTH).ceil() as usize;
    for turn in (index..turns).step_by(count) {
        let from = first.0 + turn as f64 * STRIPE_LENGTH;
        canvas.line(&between(line, from, (from + STRIPE_LENGTH).min(last.0)), color(index), STRIPE)?;
    }
    Ok(())
}

/// The part of a line, drawn from left to right, between two places.
fn between(line: &[Point], from: f64, to: f64) -> Vec<Point> {
    let at = |x: f64| {
        let after = line.partition_point(|point| point.0 < x).clamp(1, line.len() - 1);
        let (a, b) = (line[after - 1], line[after]);
        (x, a.1 + (b.1 - a.1) * ((x - a.0) / (b.0 - a.0)))
    };
    let inner = line.iter().copied().filter(|point| point.0 > from && point.0 < to);
    std::iter::once(at(from)).chain(inner).chain(std::iter::once(at(to))).collect()
}

/// The loss of guessing uniformly.
fn uniform(canvas: &Canvas<'_>, frame: &Frame, level: f64, vocab: u64) -> Result<(), ReportError> {
    let y = frame.py(level);
    canvas.dashes((frame.area.left, y), (frame.area.right, y), MUTED, 1.3, (6.0, 4.0))?;
    let text = format!("uniform guess, ln({vocab}) = {level:.2}");
    canvas.text(&text, (frame.area.right - 6.0, y - 11.0), Ink::new(SMALL).color(MUTED).right())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(losses: &[f64]) -> LossCurve {
        LossCurve { name: "plan".to_owned(), losses: losses.to_vec() }
    }

    #[test]
    fn a_part_of_a_line_keeps_its_corners() {
        let line = [(0.0, 0.0), (10.0, 20.0), (20.0, 0.0)];
        assert_eq!(between(&line, 5.0, 15.0), [(5.0, 10.0), (10.0, 20.0), (15.0, 10.0)]);
        assert_eq!(between(&line, 12.0, 20.0), [(12.0, 16.0), (20.0, 0.0)]);
    }

    #[test]
    fn the_spread_is_relative_and_over_common_steps() {
        let curves = [curve(&[4.0, 2.0, 9.0]), curve(&[4.0, 1.9])];
        assert!((largest_spread(&curves).expect("two curves") - 0.05).abs() < 1e-12);
        assert_eq!(largest_spread(&curves[..1]), None);
        assert!(subtitle(&curves).contains("coincide only in part"));
    }
}
