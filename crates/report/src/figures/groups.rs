//! Groups of bars: predictions hatched, published or measured values solid beside them.

use plotters::style::RGBAColor;

use crate::chart::Size;
use crate::chart::axis::{Frame, Scale};
use crate::chart::canvas::{Area, Canvas, Ink};
use crate::chart::labels::wrap;
use crate::chart::legend::{Swatch, hatched_box, header, row};
use crate::chart::style::{HEADER, INK, MARGIN, MUTED, SERIES, SMALL, faded};
use crate::error::ReportError;

/// A value predicted and given.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pair {
    /// The prediction.
    pub predicted: Option<f64>,
    /// The published or measured value.
    pub given: Option<f64>,
}

/// Bars of one name on the horizontal axis, one pair a series.
#[derive(Clone, Debug, PartialEq)]
pub struct BarGroup {
    /// The name.
    pub name: String,
    /// A pair for each series, in their order.
    pub pairs: Vec<Pair>,
}

/// A figure of groups of bars.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupedBars<'a> {
    /// Title.
    pub title: &'a str,
    /// A line below it.
    pub subtitle: &'a str,
    /// Title of the vertical axis.
    pub y_title: &'a str,
    /// Logarithmic vertical axis.
    pub log_y: bool,
    /// What [`Pair::given`] is: `published`, `measured`.
    pub given_name: &'a str,
    /// Names of the series.
    pub series: &'a [String],
    /// The groups.
    pub groups: &'a [BarGroup],
}

/// Size of [`grouped_bars`], in points.
pub fn grouped_bars_size(groups: usize, series: usize) -> Size {
    let each = (26 + 30 * series as u32).max(66);
    ((140 + each * groups as u32).clamp(700, 1600), 540)
}

/// Draws groups of bars with the relative error above each pair that has both.
///
/// # Errors
/// [`ReportError::Draw`].
pub fn grouped_bars(canvas: &Canvas<'_>, figure: &GroupedBars<'_>) -> Result<(), ReportError> {
    header(canvas, MARGIN, figure.title, figure.subtitle)?;
    let below = legend(canvas, figure)?;
    let (width, height) = canvas.size();
    let values = || figure.groups.iter().flat_map(|group| &group.pairs).flat_map(|pair| [pair.predicted, pair.given]);
    let y = if figure.log_y {
        Scale::log(values().flatten())
    } else {
        Scale::from_zero(values().flatten().fold(0.0, f64::max) * 1.03)
    };
    let x = Scale::Linear { min: 0.0, max: figure.groups.len().max(1) as f64 };
    let frame = Frame { area: Area::new(92.0, below + 28.0, width - MARGIN, height - 74.0), x, y };
    frame.y_axis(canvas, &frame.y.ticks(7), figure.y_title)?;
    let slot = frame.area.width() / figure.groups.len().max(1) as f64;
    for (index, group) in figure.groups.iter().enumerate() {
        draw(canvas, &frame, group, index, slot)?;
        let x = frame.px(index as f64 + 0.5);
        for (line, text) in wrap(canvas, &group.name, SMALL, slot - 6.0, 4)?.iter().enumerate() {
            canvas.text(text, (x, frame.area.bottom + 15.0 + 15.0 * line as f64), Ink::new(SMALL).centered())?;
        }
    }
    let Area { left, right, bottom, .. } = frame.area;
    canvas.line(&[(left, bottom), (right, bottom)], INK, 1.0)
}

fn color(index: usize) -> RGBAColor {
    SERIES[index % SERIES.len()]
}

fn legend(canvas: &Canvas<'_>, figure: &GroupedBars<'_>) -> Result<f64, ReportError> {
    let has = |given: fn(&Pair) -> bool| figure.groups.iter().flat_map(|group| &group.pairs).any(given);
    let mut entries: Vec<(Swatch, &str)> = Vec::new();
    if figure.series.len() > 1 {
        let named = figure.series.iter().enumerate();
        entries.extend(named.map(|(index, name)| (Swatch::Box(color(index)), name.as_str())));
    }
    let own = if figure.series.len() > 1 { MUTED } else { color(0) };
    entries.push((Swatch::Hatched(faded(own, 0.10), own), "predicted"));
    if has(|pair| pair.given.is_some()) {
        entries.push((Swatch::Box(own), figure.given_name));
    }
    row(canvas, (MARGIN, HEADER + 16.0), canvas.size().0 - MARGIN, &entries)
}

fn draw(canvas: &Canvas<'_>, frame: &Frame, group: &BarGroup, index: usize, slot: f64) -> Result<(), ReportError> {
    let bars: f64 = group.pairs.iter().map(|pair| bars_of(pair) as f64).sum();
    let bar = ((slot - 12.0) / bars.max(1.0)).min(34.0);
    let mut left = frame.px(index as f64 + 0.5) - bar * bars / 2.0;
    for (series, pair) in group.pairs.iter().enumerate() {
        let start = left;
        if let Some(value) = pair.predicted {
            let area = Area::new(left + 1.0, frame.py(value), left + bar - 1.0, frame.area.bottom);
            if area.height() > 0.5 {
                hatched_box(canvas, &area, faded(color(series), 0.10), color(series))?;
            }
            left += bar;
        }
        if let Some(value) = pair.given {
            let area = Area::new(left + 1.0, frame.py(value), left + bar - 1.0, frame.area.bottom);
            canvas.fill(&area, color(series))?;
            left += bar;
        }
        if let (Some(predicted), Some(given)) = (pair.predicted, pair.given) {
            error(canvas, frame, f64::midpoint(start, left), (predicted, given), left - start)?;
        }
    }
    Ok(())
}

fn bars_of(pair: &Pair) -> usize {
    usize::from(pair.predicted.is_some()) + usize::from(pair.given.is_some())
}

/// The relative error above a pair, where there is room for it.
fn error(
    canvas: &Canvas<'_>,
    frame: &Frame,
    x: f64,
    (predicted, given): (f64, f64),
    room: f64,
) -> Result<(), ReportError> {
    let text = format!("{:+.0}%", 100.0 * (predicted / given - 1.0));
    if given == 0.0 || canvas.text_width(&text, SMALL)? > room + 8.0 {
        return Ok(());
    }
    let y = frame.py(predicted.max(given)) - 10.0;
    canvas.text(&text, (x, y), Ink::new(SMALL).color(MUTED).centered())
}
