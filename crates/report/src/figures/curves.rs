//! Curves over one parameter: predictions as lines, other values beside them as rings.

use plotters::style::RGBAColor;

use crate::chart::Size;
use crate::chart::axis::{Frame, Scale, Tick, byte_ticks, grouped};
use crate::chart::canvas::{Area, Canvas, Ink, Point};
use crate::chart::legend::{Swatch, header, row};
use crate::chart::style::{HEADER, MARGIN, MUTED, PAPER, SERIES, SMALL};
use crate::error::ReportError;

/// Size of the figure that fits it best, in points.
pub const CURVES_SIZE: Size = (820, 560);

/// One curve.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve {
    /// Its name in the legend.
    pub name: String,
    /// Predicted points, by rising x.
    pub predicted: Vec<(f64, f64)>,
    /// Published or measured points.
    pub given: Vec<(f64, f64)>,
    /// Labels of predicted points, in their order; missing ones are not drawn.
    pub labels: Vec<String>,
}

/// A figure of curves.
#[expect(clippy::struct_excessive_bools, reason = "each says one thing of an axis")]
#[derive(Clone, Debug, PartialEq)]
pub struct Curves<'a> {
    /// Title.
    pub title: &'a str,
    /// A line below it.
    pub subtitle: &'a str,
    /// Title of the horizontal axis.
    pub x_title: &'a str,
    /// Title of the vertical axis.
    pub y_title: &'a str,
    /// Logarithmic horizontal axis.
    pub log_x: bool,
    /// Logarithmic vertical axis.
    pub log_y: bool,
    /// Whether the horizontal axis counts bytes.
    pub bytes: bool,
    /// Draws a dashed line in proportion to x through the first predicted point.
    pub ideal: bool,
    /// What [`Curve::given`] holds: `published`, `measured`.
    pub given_name: &'a str,
    /// The curves.
    pub curves: &'a [Curve],
}

/// Draws curves over one parameter, with a legend above.
///
/// # Errors
/// [`ReportError::Draw`].
pub fn curves(canvas: &Canvas<'_>, figure: &Curves<'_>) -> Result<(), ReportError> {
    header(canvas, MARGIN, figure.title, figure.subtitle)?;
    let below = legend(canvas, figure)?;
    let frame = frame(canvas, figure, below + 22.0);
    frame.x_axis(canvas, &x_ticks(figure, &frame), figure.x_title)?;
    frame.y_axis(canvas, &frame.y.ticks(7), figure.y_title)?;
    if let Some((from, to)) = ideal(figure, &frame) {
        canvas.dashes(from, to, MUTED, 1.2, (6.0, 4.0))?;
    }
    for (index, curve) in figure.curves.iter().enumerate() {
        draw(canvas, &frame, curve, color(index))?;
    }
    Ok(())
}

fn color(index: usize) -> RGBAColor {
    SERIES[index % SERIES.len()]
}

fn legend(canvas: &Canvas<'_>, figure: &Curves<'_>) -> Result<f64, ReportError> {
    let named = figure.curves.iter().enumerate().filter(|(_, curve)| !curve.name.is_empty());
    let mut entries: Vec<(Swatch, &str)> =
        named.map(|(index, curve)| (Swatch::Line(color(index), 2.4), curve.name.as_str())).collect();
    if figure.curves.iter().any(|curve| !curve.given.is_empty()) {
        entries.push((Swatch::Ring(MUTED), figure.given_name));
    }
    if figure.ideal {
        entries.push((Swatch::Dashes(MUTED), "in proportion"));
    }
    row(canvas, (MARGIN, HEADER + 16.0), canvas.size().0 - MARGIN, &entries)
}

fn points<'a>(figure: &'a Curves<'_>) -> impl Iterator<Item = Point> + 'a {
    figure.curves.iter().flat_map(|curve| curve.predicted.iter().chain(&curve.given).copied())
}

fn scale(values: impl Iterator<Item = f64> + Clone, log: bool, from_zero: bool) -> Scale {
    if log {
        return Scale::log(values);
    }
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    if from_zero || !low.is_finite() {
        return Scale::from_zero(high);
    }
    let room = ((high - low) * 0.04).max(high.abs() * 1e-3);
    Scale::Linear { min: low - room, max: high + room }
}

fn frame(canvas: &Canvas<'_>, figure: &Curves<'_>, top: f64) -> Frame {
    let (width, height) = canvas.size();
    let values: Vec<Point> = points(figure).collect();
    let x = scale(values.iter().map(|point| point.0), figure.log_x, false);
    let y = scale(values.iter().map(|point| point.1), figure.log_y, true);
    Frame { area: Area::new(92.0, top, width - MARGIN - 12.0, height - 62.0), x, y }
}

/// The values that occur where they are few, else round ones.
fn x_ticks(figure: &Curves<'_>, frame: &Frame) -> Vec<Tick> {
    if figure.bytes {
        return byte_ticks(frame.x, 8);
    }
    let mut values: Vec<f64> = points(figure).map(|point| point.0).collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    let near = |pair: &[f64]| frame.px(pair[1]) - frame.px(pair[0]) < 34.0;
    // Measured quantities, not counts: nobody reads their digits.
    let odd = |value: &f64| format!("{value}").len() > 6;
    if values.len() > 12 || values.windows(2).any(near) || values.iter().any(odd) {
        return frame.x.ticks(7);
    }
    values.into_iter().map(|value| Tick { value, label: grouped(&format!("{value}")) }).collect()
}

/// The line of proportional growth, cut at the top of the frame.
fn ideal(figure: &Curves<'_>, frame: &Frame) -> Option<(Point, Point)> {
    let first = figure.ideal.then(|| figure.curves.first()?.predicted.first().copied()).flatten()?;
    let (_, right) = frame.x.bounds();
    let (_, top) = frame.y.bounds();
    let slope = first.1 / first.0;
    // Only a straight line where both axes are of one kind.
    let alike = figure.log_x == figure.log_y;
    let end = right.min(top / slope);
    alike.then(|| (frame.at(first.0, first.1), frame.at(end, slope * end)))
}

fn draw(canvas: &Canvas<'_>, frame: &Frame, curve: &Curve, color: RGBAColor) -> Result<(), ReportError> {
    let at = |point: &Point| frame.at(point.0, point.1);
    let line: Vec<Point> = curve.predicted.iter().map(at).collect();
    canvas.line(&line, color, 2.2)?;
    for point in &line {
        canvas.dot(*point, 3.4, color)?;
    }
    for point in curve.given.iter().map(at) {
        canvas.disc(point, 6.0, color)?;
        canvas.disc(point, 3.6, PAPER)?;
    }
    for (point, label) in line.iter().zip(&curve.labels) {
        let right = point.0 > frame.area.right - 120.0;
        let ink = Ink::new(SMALL).color(MUTED);
        let (ink, shift) = if right { (ink.right(), -9.0) } else { (ink, 9.0) };
        canvas.text(label, (point.0 + shift, point.1 + if right { -10.0 } else { 14.0 }), ink)?;
    }
    Ok(())
}
