//! A value over two parameters, as colour and text.

use plotters::style::RGBAColor;

use crate::chart::Size;
use crate::chart::axis::range;
use crate::chart::canvas::{Area, Canvas, Ink, Point};
use crate::chart::labels::wrap;
use crate::chart::legend::header;
use crate::chart::style::{GRID, HEADER, INK, LABEL, MARGIN, PAPER, SMALL};
use crate::error::ReportError;

/// A cell of [`HeatMap`]: column, row, value.
pub type Cell = (usize, usize, f64);

/// Values over two parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct HeatMap<'a> {
    /// Title.
    pub title: &'a str,
    /// A line below it.
    pub subtitle: &'a str,
    /// Title of the columns.
    pub x_title: &'a str,
    /// Title of the rows.
    pub y_title: &'a str,
    /// Names of the columns.
    pub columns: &'a [String],
    /// Names of the rows, bottom up.
    pub rows: &'a [String],
    /// Cells that have a value; the others stay hatched.
    pub cells: &'a [Cell],
    /// Value and unit as they are written into a cell.
    pub texts: &'a [String],
}

/// Size of [`heat_map`], in points.
pub fn heat_map_size(columns: usize, rows: usize) -> Size {
    ((170 + 92 * columns as u32).clamp(560, 1500), (190 + 56 * rows as u32).clamp(360, 1200))
}

/// Draws a value as colour and text for each pair of two parameters; the darkest is the largest.
///
/// # Errors
/// [`ReportError::Draw`].
pub fn heat_map(canvas: &Canvas<'_>, figure: &HeatMap<'_>) -> Result<(), ReportError> {
    header(canvas, MARGIN, figure.title, figure.subtitle)?;
    let (width, height) = canvas.size();
    let area = Area::new(110.0, HEADER + 14.0, width - MARGIN, height - 66.0);
    let (across, up) = (area.width() / figure.columns.len() as f64, area.height() / figure.rows.len() as f64);
    canvas.hatch(&area, GRID, 7.0)?;
    let values = figure.cells.iter().map(|cell| cell.2);
    let (low, high) = range(values).unwrap_or((0.0, 1.0));
    for ((column, row, value), text) in figure.cells.iter().zip(figure.texts) {
        let left = area.left + across * *column as f64;
        let bottom = area.bottom - up * *row as f64;
        let share = if high > low { (value - low) / (high - low) } else { 1.0 };
        let cell = Area::new(left + 1.0, bottom - up + 1.0, left + across - 1.0, bottom - 1.0);
        canvas.fill(&cell, shade(share))?;
        let ink = Ink::new(SMALL).color(if share > 0.5 { PAPER } else { INK }).centered();
        canvas.text(text, (left + across / 2.0, bottom - up / 2.0), ink)?;
    }
    names(canvas, figure, &area, (across, up))
}

/// From near white to the first series' blue.
fn shade(share: f64) -> RGBAColor {
    let (pale, full) = ((238.0, 243.0, 248.0), (0.0, 84.0, 140.0));
    let mix = |a: f64, b: f64| (a + (b - a) * share) as u8;
    RGBAColor(mix(pale.0, full.0), mix(pale.1, full.1), mix(pale.2, full.2), 1.0)
}

fn names(canvas: &Canvas<'_>, figure: &HeatMap<'_>, area: &Area, (across, up): Point) -> Result<(), ReportError> {
    for (index, name) in figure.columns.iter().enumerate() {
        let x = area.left + across * (index as f64 + 0.5);
        for (line, text) in wrap(canvas, name, SMALL, across - 8.0, 2)?.iter().enumerate() {
            canvas.text(text, (x, area.bottom + 14.0 + 15.0 * line as f64), Ink::new(SMALL).centered())?;
        }
    }
    for (index, name) in figure.rows.iter().enumerate() {
        let y = area.bottom - up * (index as f64 + 0.5);
        canvas.text(name, (area.left - 8.0, y), Ink::new(SMALL).right())?;
    }
    let middle = (f64::midpoint(area.left, area.right), area.bottom + 48.0);
    canvas.text(figure.x_title, middle, Ink::new(LABEL).centered())?;
    let side = (24.0, f64::midpoint(area.top, area.bottom));
    canvas.text(figure.y_title, side, Ink::new(LABEL).centered().upward())
}
