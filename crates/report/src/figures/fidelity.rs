//! Predicted against measured values of one source, one point a row.

use plotters::style::RGBAColor;

use super::scatter::{BAND_COLOR, band, diagonal};
use crate::chart::Size;
use crate::chart::axis::{Frame, Scale};
use crate::chart::canvas::{Area, Canvas, Ink};
use crate::chart::legend::{Swatch, column, column_size, header};
use crate::chart::style::{HEADER, INK, MARGIN, MUTED, SERIES, SMALL, faded};
use crate::error::ReportError;

/// Size of the figure that fits it best, in points.
pub const FIDELITY_SIZE: Size = (760, 800);

/// One row of a source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FidelityPoint {
    /// What was predicted.
    pub predicted: f64,
    /// What was measured.
    pub measured: f64,
    /// Its series: an index of [`Fidelity::series`]; beyond the colours that can be told apart, all share the last.
    pub series: usize,
}

/// The rows of one source in one unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Fidelity<'a> {
    /// Name of the source.
    pub source: &'a str,
    /// What is measured, with its unit.
    pub metric: &'a str,
    /// Errors in a line.
    pub summary: &'a str,
    /// Names of the series.
    pub series: &'a [String],
    /// The rows; values that are not above zero are left out.
    pub points: &'a [FidelityPoint],
}

/// Draws predicted against measured values: equal axes (logarithmic when the values span more than a factor of four), the
/// line y = x, the band of 10% around it, a dot a row, coloured by series.
///
/// # Errors
/// [`ReportError::Draw`].
pub fn fidelity(canvas: &Canvas<'_>, rows: &Fidelity<'_>) -> Result<(), ReportError> {
    let frame = frame(canvas, rows);
    header(canvas, MARGIN, &format!("{}: predicted against measured", rows.source), rows.summary)?;
    let ticks = frame.x.ticks(6);
    band(canvas, &frame)?;
    frame.x_axis(canvas, &ticks, &format!("measured {}", rows.metric))?;
    frame.y_axis(canvas, &ticks, &format!("predicted {}", rows.metric))?;
    diagonal(canvas, &frame)?;
    for point in shown(rows) {
        let (x, y) = frame.at(point.measured, point.predicted);
        let inside = (x.clamp(frame.area.left, frame.area.right), y.clamp(frame.area.top, frame.area.bottom));
        canvas.disc(inside, 3.0, faded(color(point.series), 0.65))?;
    }
    legend(canvas, &frame, rows)
}

fn shown<'a>(rows: &'a Fidelity<'_>) -> impl Iterator<Item = &'a FidelityPoint> {
    let drawable = |value: f64| value.is_finite() && value > 0.0;
    rows.points.iter().filter(move |point| drawable(point.predicted) && drawable(point.measured))
}

fn color(series: usize) -> RGBAColor {
    SERIES[series.min(SERIES.len() - 1)]
}

fn frame(canvas: &Canvas<'_>, rows: &Fidelity<'_>) -> Frame {
    let (width, height) = canvas.size();
    let (left, top) = (96.0, HEADER + 12.0);
    let side = (width - left - MARGIN).min(height - top - 58.0);
    let values = shown(rows).flat_map(|point| [point.predicted, point.measured]);
    let scale = Scale::around(values, 0.06);
    Frame { area: Area::new(left, top, left + side, top + side), x: scale, y: scale }
}

/// The series in the upper left corner; what does not fit beside it is counted below.
fn legend(canvas: &Canvas<'_>, frame: &Frame, rows: &Fidelity<'_>) -> Result<(), ReportError> {
    let named = rows.series.iter().enumerate().take(SERIES.len());
    let mut entries: Vec<(Swatch, &str)> =
        named.map(|(index, name)| (Swatch::Dot(color(index)), name.as_str())).collect();
    entries.extend([(Swatch::Dashes(INK), "predicted = measured"), (Swatch::Box(BAND_COLOR), "within 10%")]);
    let corner = (frame.area.left + 12.0, frame.area.top + 12.0);
    column(canvas, corner, &entries)?;
    let hidden = rows.series.len().saturating_sub(SERIES.len());
    if hidden == 0 {
        return Ok(());
    }
    let below = corner.1 + column_size(canvas, &entries)?.1 + 12.0;
    let ink = Ink::new(SMALL).color(MUTED);
    canvas.text(&format!("and {hidden} more in the last colour"), (corner.0, below), ink)
}
