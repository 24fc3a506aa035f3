//! Stacked bars of named parts: where a step's time or a device's memory goes.

use crate::chart::Size;
use crate::chart::axis::{Frame, Scale};
use crate::chart::canvas::{Area, Canvas, Ink};
use crate::chart::labels::wrap;
use crate::chart::legend::{Swatch, header, row};
use crate::chart::style::{HATCH, HEADER, INK, MARGIN, PAPER, SERIES, SMALL, VERMILLION, faded};
use crate::error::ReportError;

/// One bar.
#[derive(Clone, Debug, PartialEq)]
pub struct Stack {
    /// Its name.
    pub name: String,
    /// Its parts, one for each of [`Stacks::parts`].
    pub values: Vec<f64>,
}

/// A figure of stacked bars.
#[derive(Clone, Debug, PartialEq)]
pub struct Stacks<'a> {
    /// Title.
    pub title: &'a str,
    /// A line below it.
    pub subtitle: &'a str,
    /// Title of the vertical axis.
    pub y_title: &'a str,
    /// Names of the parts, bottom up.
    pub parts: &'a [String],
    /// The bars.
    pub stacks: &'a [Stack],
    /// A limit, drawn as a line with its name.
    pub limit: Option<(f64, &'a str)>,
}

/// Size of [`stacks`], in points.
pub fn stacks_size(bars: usize) -> Size {
    ((150 + 64 * bars as u32).clamp(700, 1600), 580)
}

/// Draws stacked bars; parts that are zero everywhere are left out of the legend.
///
/// # Errors
/// [`ReportError::Draw`].
pub fn stacks(canvas: &Canvas<'_>, figure: &Stacks<'_>) -> Result<(), ReportError> {
    header(canvas, MARGIN, figure.title, figure.subtitle)?;
    let seen = |part: &usize| figure.stacks.iter().any(|stack| stack.values.get(*part).is_some_and(|v| *v > 0.0));
    let parts: Vec<usize> = (0..figure.parts.len()).filter(seen).collect();
    let entries: Vec<(Swatch, &str)> =
        parts.iter().enumerate().map(|(at, part)| (swatch(at), figure.parts[*part].as_str())).collect();
    let (width, height) = canvas.size();
    let below = row(canvas, (MARGIN, HEADER + 16.0), width - MARGIN, &entries)?;
    let highest = figure.stacks.iter().map(|stack| stack.values.iter().sum::<f64>()).fold(0.0, f64::max);
    let x = Scale::Linear { min: 0.0, max: figure.stacks.len().max(1) as f64 };
    let y = Scale::from_zero(highest.max(figure.limit.map_or(0.0, |limit| limit.0)));
    let frame = Frame { area: Area::new(92.0, below + 24.0, width - MARGIN, height - 84.0), x, y };
    frame.y_axis(canvas, &frame.y.ticks(7), figure.y_title)?;
    let slot = frame.area.width() / figure.stacks.len().max(1) as f64;
    for (index, stack) in figure.stacks.iter().enumerate() {
        bar(canvas, &frame, (index, slot), stack, &parts)?;
    }
    let Area { left, right, bottom, .. } = frame.area;
    canvas.line(&[(left, bottom), (right, bottom)], INK, 1.0)?;
    figure.limit.map_or(Ok(()), |(value, name)| {
        let y = frame.py(value);
        canvas.dashes((left, y), (right, y), VERMILLION, 1.4, (6.0, 4.0))?;
        canvas.text(name, (right - 4.0, y - 9.0), Ink::new(SMALL).color(VERMILLION).right())
    })
}

/// Beyond the colours that can be told apart, the same again, hatched.
fn swatch(at: usize) -> Swatch {
    let color = SERIES[at % SERIES.len()];
    if at < SERIES.len() { Swatch::Box(color) } else { Swatch::Hatched(faded(color, 0.25), HATCH) }
}

fn bar(
    canvas: &Canvas<'_>,
    frame: &Frame,
    (index, slot): (usize, f64),
    stack: &Stack,
    parts: &[usize],
) -> Result<(), ReportError> {
    let (middle, half) = (frame.px(index as f64 + 0.5), (slot * 0.34).min(26.0));
    let mut base = 0.0;
    for (at, part) in parts.iter().enumerate() {
        let value = stack.values.get(*part).copied().unwrap_or(0.0);
        let area = Area::new(middle - half, frame.py(base + value), middle + half, frame.py(base));
        base += value;
        if area.height() < 0.3 {
            continue;
        }
        let color = SERIES[at % SERIES.len()];
        canvas.fill(&area, if at < SERIES.len() { color } else { faded(color, 0.25) })?;
        if at >= SERIES.len() {
            canvas.hatch(&area, HATCH, 6.0)?;
        }
        canvas.line(&[(area.left, area.top), (area.right, area.top)], PAPER, 0.8)?;
    }
    for (line, text) in wrap(canvas, &stack.name, SMALL, slot - 6.0, 4)?.iter().enumerate() {
        canvas.text(text, (middle, frame.area.bottom + 15.0 + 15.0 * line as f64), Ink::new(SMALL).centered())?;
    }
    Ok(())
}
