//! Predicted against measured step time, one point a plan.

use cutplane_units::Nanos;

use crate::chart::Size;
use crate::chart::axis::{Frame, Scale};
use crate::chart::canvas::{Area, Canvas, Ink, Point};
use crate::chart::labels::{Obstacles, Placed, place};
use crate::chart::legend::{Swatch, column, column_size, header};
use crate::chart::style::{BLUE, HEADER, INK, MARGIN, MUTED, SMALL, VERMILLION, faded};
use crate::compare::{CompareRow, CompareSummary};
use crate::error::ReportError;

/// Size of the figure that fits it best, in points.
pub const SCATTER_SIZE: Size = (760, 800);

/// The band around y = x, as a share of the measured time.
const BAND: f64 = 0.10;
const LEGEND: [(Swatch, &str); 4] = [
    (Swatch::Dot(BLUE), "plan"),
    (Swatch::Star(VERMILLION), "chosen plan"),
    (Swatch::Dashes(INK), "predicted = measured"),
    (Swatch::Box(BAND_COLOR), "within 10%"),
];
pub(super) const BAND_COLOR: plotters::style::RGBAColor = faded(BLUE, 0.14);

/// Draws predicted against measured step time: equal axes (logarithmic when the times span more than a factor of four),
/// the line y = x, the band of 10% around it, each plan by name, the chosen one as a star.
///
/// # Errors
/// [`ReportError::Draw`].
pub fn scatter(canvas: &Canvas<'_>, rows: &[CompareRow]) -> Result<(), ReportError> {
    let frame = frame(canvas, rows);
    header(canvas, MARGIN, "Predicted against measured step time", &subtitle(rows))?;
    let ticks = frame.x.ticks(6);
    band(canvas, &frame)?;
    frame.x_axis(canvas, &ticks, "measured step time (ms)")?;
    frame.y_axis(canvas, &ticks, "predicted step time (ms)")?;
    diagonal(canvas, &frame)?;
    let (width, height) = column_size(canvas, &LEGEND)?;
    let corner = (frame.area.left + 12.0, frame.area.top + 12.0);
    let legend = Area::new(corner.0, corner.1, corner.0 + width, corner.1 + height);
    points(canvas, &frame, rows, &legend)?;
    column(canvas, corner, &LEGEND)
}

fn frame(canvas: &Canvas<'_>, rows: &[CompareRow]) -> Frame {
    let (width, height) = canvas.size();
    let (left, top) = (88.0, HEADER + 12.0);
    let side = (width - left - MARGIN).min(height - top - 58.0);
    let times = rows.iter().flat_map(|row| [row.predicted_step, row.measured_step]);
    let scale = Scale::around(times.map(Nanos::as_millis_f64), 0.14);
    Frame { area: Area::new(left, top, left + side, top + side), x: scale, y: scale }
}

fn subtitle(rows: &[CompareRow]) -> String {
    let Some(summary) = CompareSummary::of(rows) else { return "no plan was compared".to_owned() };
    let rank = summary.rank_correlation.map_or(String::new(), |rank| format!(" · rank correlation {rank:.2}"));
    let plans = if rows.len() == 1 { "1 plan".to_owned() } else { format!("{} plans", rows.len()) };
    let (median, worst) = (summary.median_error * 100.0, summary.worst_error * 100.0);
    format!("{plans} · median error {median:.1}% · worst {worst:.1}%{rank}")
}

/// All points whose prediction is within [`BAND`] of the measurement, cut to the frame: a hexagon, whose sides are
/// straight on linear and on logarithmic axes alike.
pub(super) fn band(canvas: &Canvas<'_>, frame: &Frame) -> Result<(), ReportError> {
    let (min, max) = frame.x.bounds();
    let (high, low) = (1.0 + BAND, 1.0 - BAND);
    if min * high >= max || max * low <= min {
        return canvas.fill(&frame.area, BAND_COLOR);
    }
    let upper = [(min, min), (min, min * high), (max / high, max)];
    let lower = [(max, max), (max, max * low), (min / low, min)];
    let outline: Vec<Point> = upper.into_iter().chain(lower).map(|(x, y)| frame.at(x, y)).collect();
    canvas.polygon(&outline, BAND_COLOR)
}

pub(super) fn diagonal(canvas: &Canvas<'_>, frame: &Frame) -> Result<(), ReportError> {
    let (min, max) = frame.x.bounds();
    canvas.dashes(frame.at(min, min), frame.at(max, max), INK, 1.2, (6.0, 4.0))
}

fn points(canvas: &Canvas<'_>, frame: &Frame, rows: &[CompareRow], legend: &Area) -> Result<(), ReportError> {
    let at = |row: &CompareRow| frame.at(row.measured_step.as_millis_f64(), row.predicted_step.as_millis_f64());
    let positions: Vec<Point> = rows.iter().map(|row| clamp(at(row), &frame.area)).collect();
    let sizes =
        rows.iter().map(|row| Ok((canvas.text_width(&row.name, SMALL)?, 15.0))).collect::<Result<Vec<_>, _>>()?;
    let placed = place(&positions, &sizes, obstacles(frame, rows, &positions, legend));
    for ((row, position), label) in rows.iter().zip(&positions).zip(&placed) {
        leader(canvas, *position, label)?;
        let (low, high) = spread(frame, row);
        canvas.line(&[(low, position.1), (high, position.1)], MUTED, 1.2)?;
    }
    for ((row, position), label) in rows.iter().zip(&positions).zip(&placed) {
        if row.chosen { canvas.star(*position, 10.0, VERMILLION) } else { canvas.dot(*position, 5.0, BLUE) }?;
        name(canvas, &row.name, *position, &label.area)?;
    }
    Ok(())
}

/// Writes a name from the side of its point outwards, so that a wider font of the viewer does not run into the point.
fn name(canvas: &Canvas<'_>, name: &str, point: Point, area: &Area) -> Result<(), ReportError> {
    let middle = f64::midpoint(area.top, area.bottom);
    if f64::midpoint(area.left, area.right) < point.0 {
        return canvas.text(name, (area.right, middle), Ink::new(SMALL).right());
    }
    canvas.text(name, (area.left, middle), Ink::new(SMALL))
}

/// Marks, their spreads, the legend and the line y = x.
fn obstacles(frame: &Frame, rows: &[CompareRow], positions: &[Point], legend: &Area) -> Obstacles {
    let mark = |(row, (x, y)): (&CompareRow, &Point)| {
        let r = if row.chosen { 11.0 } else { 6.0 };
        let (low, high) = spread(frame, row);
        [Area::new(x - r, y - r, x + r, y + r), Area::new(low - 2.0, y - 2.0, high + 2.0, y + 2.0)]
    };
    let (min, max) = frame.x.bounds();
    Obstacles {
        bounds: frame.area.inset(6.0),
        areas: std::iter::once(*legend).chain(rows.iter().zip(positions).flat_map(mark)).collect(),
        lines: vec![(frame.at(min, min), frame.at(max, max))],
    }
}

fn leader(canvas: &Canvas<'_>, point: Point, label: &Placed) -> Result<(), ReportError> {
    label.leader.map_or(Ok(()), |end| canvas.line(&[point, end], faded(MUTED, 0.6), 0.8))
}

/// The ends of the bar of one median absolute deviation to each side of the measurement.
fn spread(frame: &Frame, row: &CompareRow) -> (f64, f64) {
    let end = |time: Nanos| frame.px(time.as_millis_f64()).clamp(frame.area.left, frame.area.right);
    let high = row.measured_step.checked_add(row.measured_mad).unwrap_or(row.measured_step);
    (end(row.measured_step.saturating_sub(row.measured_mad)), end(high))
}

fn clamp((x, y): Point, area: &Area) -> Point {
    (x.clamp(area.left, area.right), y.clamp(area.top, area.bottom))
}
