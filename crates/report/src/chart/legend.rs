//! Titles and legends.

use plotters::style::RGBAColor;

use super::canvas::{Area, Canvas, Ink, Point};
use super::style::{HATCH, INK, MUTED, SMALL, SUBTITLE, TITLE, faded};
use crate::error::ReportError;

/// The sample before a legend's text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Swatch {
    /// A filled box.
    Box(RGBAColor),
    /// A hatched box on a ground colour.
    Hatched(RGBAColor, RGBAColor),
    /// A dot.
    Dot(RGBAColor),
    /// A ring.
    Ring(RGBAColor),
    /// A star.
    Star(RGBAColor),
    /// A line of some width.
    Line(RGBAColor, f64),
    /// A dashed line.
    Dashes(RGBAColor),
}

impl Swatch {
    /// Width of the sample in points.
    fn width(self) -> f64 {
        match self {
            Self::Line(..) | Self::Dashes(_) => 24.0,
            _ => 14.0,
        }
    }

    /// Draws the sample with its left edge at `x`, centred on the height `y`.
    fn draw(self, canvas: &Canvas<'_>, (x, y): Point) -> Result<(), ReportError> {
        let area = Area::new(x, y - 6.5, x + 14.0, y + 6.5);
        match self {
            Self::Box(color) => canvas.fill(&area, color),
            Self::Hatched(ground, lines) => hatched_box(canvas, &area, ground, lines),
            Self::Dot(color) => canvas.disc((x + 7.0, y), 5.0, color),
            Self::Ring(color) => {
                canvas.disc((x + 7.0, y), 6.0, color)?;
                canvas.disc((x + 7.0, y), 3.6, super::style::PAPER)
            }
            Self::Star(color) => canvas.star((x + 7.0, y), 8.0, color),
            Self::Line(color, width) => canvas.line(&[(x, y), (x + 24.0, y)], color, width),
            Self::Dashes(color) => canvas.dashes((x, y), (x + 24.0, y), color, 1.5, (5.0, 3.5)),
        }
    }
}

/// A box that is hatched in `lines` on `ground`, with an outline.
pub(crate) fn hatched_box(
    canvas: &Canvas<'_>,
    area: &Area,
    ground: RGBAColor,
    lines: RGBAColor,
) -> Result<(), ReportError> {
    canvas.fill(area, ground)?;
    canvas.hatch(area, lines, 6.0)?;
    canvas.frame(area, lines, 0.8)
}

/// The swatch of waiting time.
pub(crate) fn bubble_swatch() -> Swatch {
    Swatch::Hatched(super::style::BUBBLE, HATCH)
}

/// Title and subtitle at the top left.
pub(crate) fn header(canvas: &Canvas<'_>, x: f64, title: &str, subtitle: &str) -> Result<(), ReportError> {
    canvas.text(title, (x, 26.0), Ink::new(TITLE))?;
    canvas.text(subtitle, (x, 50.0), Ink::new(SUBTITLE).color(MUTED))
}

/// A horizontal legend from `at` (left, centre of the first line) that wraps at `right`; returns the centre height of
/// the last line.
pub(crate) fn row(canvas: &Canvas<'_>, at: Point, right: f64, entries: &[(Swatch, &str)]) -> Result<f64, ReportError> {
    let (mut x, mut y) = at;
    for (swatch, text) in entries {
        let width = swatch.width() + 7.0 + canvas.text_width(text, SMALL)?;
        if x > at.0 && x + width > right {
            (x, y) = (at.0, y + 20.0);
        }
        swatch.draw(canvas, (x, y))?;
        canvas.text(text, (x + swatch.width() + 7.0, y), Ink::new(SMALL))?;
        x += width + 20.0;
    }
    Ok(y)
}

/// Width of the widest sample.
fn widest(entries: &[(Swatch, &str)]) -> f64 {
    entries.iter().map(|(swatch, _)| swatch.width()).fold(0.0, f64::max)
}

/// Size of a vertical legend: width, height.
pub(crate) fn column_size(canvas: &Canvas<'_>, entries: &[(Swatch, &str)]) -> Result<(f64, f64), ReportError> {
    let mut text: f64 = 0.0;
    for (_, name) in entries {
        text = text.max(canvas.text_width(name, SMALL)?);
    }
    Ok((widest(entries) + 28.0 + text, entries.len() as f64 * 20.0 + 10.0))
}

/// A vertical legend on a white ground with its upper left corner at `(x, y)`.
pub(crate) fn column(canvas: &Canvas<'_>, (x, y): Point, entries: &[(Swatch, &str)]) -> Result<(), ReportError> {
    let (width, height) = column_size(canvas, entries)?;
    let ground = Area::new(x, y, x + width, y + height);
    canvas.fill(&ground, faded(super::style::PAPER, 0.92))?;
    canvas.frame(&ground, super::style::GRID, 1.0)?;
    for (i, (swatch, text)) in entries.iter().enumerate() {
        let middle = y + 15.0 + i as f64 * 20.0;
        let sample = widest(entries);
        swatch.draw(canvas, (x + 9.0 + (sample - swatch.width()) / 2.0, middle))?;
        canvas.text(text, (x + sample + 18.0, middle), Ink::new(SMALL).color(INK))?;
    }
    Ok(())
}
