//! What a device profile measured: links between ranks, and matrix multiplication by size.

use cutplane_record::{DeviceProfile, OperatorCurve};

use crate::chart::Size;
use crate::chart::axis::{Frame, Scale, Tick, byte_ticks};
use crate::chart::canvas::{Area, Canvas, Point};
use crate::chart::legend::{Swatch, column, column_size, header};
use crate::chart::style::{HEADER, MARGIN, SERIES};
use crate::error::ReportError;

/// Size of the figures that fits them best, in points.
pub const PROFILE_SIZE: Size = (820, 520);

/// A named line of (x, y) points.
struct Series {
    name: String,
    points: Vec<Point>,
}

/// Draws bandwidth by message size: messages between two ranks and all-reduces by number of ranks. Bandwidth is the
/// size of a rank's buffer divided by the time (`algbw` of nccl-tests).
///
/// # Errors
/// [`ReportError::Draw`].
pub fn link_curves(canvas: &Canvas<'_>, profile: &DeviceProfile) -> Result<(), ReportError> {
    let series = link_series(profile);
    let subtitle = format!("{}, {} · buffer size divided by time", profile.device_model, profile.backend);
    header(canvas, MARGIN, "Links between ranks", &subtitle)?;
    let frame = frame(canvas, &series, Scale::log(series.iter().flat_map(|s| s.points.iter().map(|p| p.1))));
    frame.x_axis(canvas, &byte_ticks(frame.x, 7), "size of the buffer")?;
    frame.y_axis(canvas, &frame.y.ticks(6), "bandwidth (GB/s)")?;
    lines(canvas, &frame, &series)
}

/// Draws the rate of matrix multiplication (the `linear` curves) by work, forward and backward. Points of equal work and
/// different shape are kept apart.
///
/// # Errors
/// [`ReportError::Draw`].
pub fn matmul_curves(canvas: &Canvas<'_>, profile: &DeviceProfile) -> Result<(), ReportError> {
    let series: Vec<Series> =
        profile.operators.iter().filter(|curve| curve.operator.starts_with("linear")).flat_map(rates).collect();
    let subtitle = format!("{}, {} · one point a shape", profile.device_model, profile.backend);
    header(canvas, MARGIN, "Matrix multiplication by size", &subtitle)?;
    let highest = series.iter().flat_map(|s| s.points.iter().map(|p| p.1)).fold(0.0, f64::max);
    let frame = frame(canvas, &series, Scale::from_zero(highest));
    frame.x_axis(canvas, &work_ticks(frame.x), "forward work of the operator (FLOP)")?;
    frame.y_axis(canvas, &frame.y.ticks(6), "rate (GFLOP/s)")?;
    for (index, line) in series.iter().enumerate() {
        for point in &line.points {
            canvas.dot(frame.at(point.0, point.1), 4.0, SERIES[index % SERIES.len()])?;
        }
    }
    legend(canvas, &frame, &series, Swatch::Dot)
}

fn link_series(profile: &DeviceProfile) -> Vec<Series> {
    let rate = |bytes: u64, ns: f64| (bytes as f64, bytes as f64 / ns);
    let messages = profile.messages.iter().map(|m| rate(m.bytes, m.send_ns + m.latency_ns + m.recv_ns)).collect();
    let mut ranks: Vec<u32> = profile.all_reduce.iter().map(|point| point.ranks).collect();
    ranks.sort_unstable();
    ranks.dedup();
    let reduce = |ranks: u32| Series {
        name: format!("all-reduce, {ranks} ranks"),
        points: profile.all_reduce.iter().filter(|p| p.ranks == ranks).map(|p| rate(p.bytes, p.time_ns)).collect(),
    };
    let all =
        std::iter::once(Series { name: "message".to_owned(), points: messages }).chain(ranks.into_iter().map(reduce));
    all.map(clean).filter(|series| !series.points.is_empty()).collect()
}

/// GFLOP/s, forward and backward; the backward pass does twice the work.
fn rates(curve: &OperatorCurve) -> [Series; 2] {
    let series = |pass: &str, points: Vec<Point>| clean(Series { name: format!("{}, {pass}", curve.operator), points });
    let forward = curve.points.iter().map(|point| (point.work, point.work / point.forward_ns)).collect();
    let backward = curve.points.iter().map(|point| (point.work, 2.0 * point.work / point.backward_ns)).collect();
    [series("forward", forward), series("backward", backward)]
}

/// Points that can be drawn, by x.
fn clean(mut series: Series) -> Series {
    series.points.retain(|(x, y)| x.is_finite() && y.is_finite() && *x > 0.0 && *y > 0.0);
    series.points.sort_by(|a, b| a.0.total_cmp(&b.0));
    series
}

fn frame(canvas: &Canvas<'_>, series: &[Series], y: Scale) -> Frame {
    let (width, height) = canvas.size();
    let area = Area::new(88.0, HEADER + 12.0, width - MARGIN, height - 60.0);
    Frame { area, x: Scale::log(series.iter().flat_map(|s| s.points.iter().map(|p| p.0))), y }
}

/// Powers of ten with their SI prefix.
fn work_ticks(x: Scale) -> Vec<Tick> {
    let (min, max) = x.bounds();
    let label = |power: usize| format!("{} {}", [1, 10, 100][power % 3], ["", "k", "M", "G", "T", "P"][power / 3]);
    let ticks = (0..18).map(|power| Tick { value: 10f64.powi(power as i32), label: label(power) });
    ticks.filter(|tick| (min..=max).contains(&tick.value)).collect()
}

fn lines(canvas: &Canvas<'_>, frame: &Frame, series: &[Series]) -> Result<(), ReportError> {
    for (index, line) in series.iter().enumerate() {
        let color = SERIES[index % SERIES.len()];
        let points: Vec<Point> = line.points.iter().map(|(x, y)| frame.at(*x, *y)).collect();
        canvas.line(&points, color, 1.8)?;
        points.iter().try_for_each(|point| canvas.dot(*point, 3.8, color))?;
    }
    legend(canvas, frame, series, |color| Swatch::Line(color, 1.8))
}

/// In the upper left corner, where rates of small sizes leave room.
fn legend(
    canvas: &Canvas<'_>,
    frame: &Frame,
    series: &[Series],
    swatch: fn(plotters::style::RGBAColor) -> Swatch,
) -> Result<(), ReportError> {
    let entries: Vec<(Swatch, &str)> = series
        .iter()
        .enumerate()
        .map(|(index, line)| (swatch(SERIES[index % SERIES.len()]), line.name.as_str()))
        .collect();
    if entries.is_empty() {
        return Ok(());
    }
    let (_, height) = column_size(canvas, &entries)?;
    let top = frame.area.top + 12.0;
    column(canvas, (frame.area.left + 12.0, top.min(frame.area.bottom - height)), &entries)
}
