//! Peak memory of the fullest rank by plan, predicted and measured.

use cutplane_units::Bytes;

use crate::chart::Size;
use crate::chart::bars::{self, PairedBars};
use crate::chart::canvas::{Area, Canvas};
use crate::chart::legend::{Swatch, hatched_box, header, row};
use crate::chart::style::{BLUE, HEADER, MARGIN, faded};
use crate::compare::{CompareRow, CompareSummary};
use crate::error::ReportError;

/// Size of [`memory`] for a number of plans, in points.
pub fn memory_size(plans: usize) -> Size {
    (bars::width(plans), 480)
}

/// Draws predicted and measured peak memory of the fullest rank, two bars a plan, with the error above.
///
/// # Errors
/// [`ReportError::Draw`].
pub fn memory(canvas: &Canvas<'_>, rows: &[CompareRow]) -> Result<(), ReportError> {
    header(canvas, MARGIN, "Peak memory of the fullest rank", &subtitle(rows))?;
    let pale = faded(BLUE, 0.10);
    let entries = [(Swatch::Hatched(pale, BLUE), "predicted"), (Swatch::Box(BLUE), "measured")];
    let below = row(canvas, (MARGIN, HEADER + 16.0), canvas.size().0 - MARGIN, &entries)?;
    let highest = rows.iter().map(|row| row.predicted_memory.max(row.measured_memory)).max().unwrap_or(Bytes::ZERO);
    let (unit, name) = unit_for(highest);
    let scaled = |bytes: Bytes| bytes.as_f64() / unit;
    let bars = PairedBars::new(canvas, below + 24.0, rows.len(), scaled(highest), &format!("peak memory ({name})"))?;
    for (index, row) in rows.iter().enumerate() {
        let values = [row.predicted_memory, row.measured_memory].map(scaled);
        let [predicted, measured] = [0, 1].map(|side| bar(&bars, index, side, values[side]));
        if predicted.height() > 0.5 {
            hatched_box(canvas, &predicted, pale, BLUE)?;
        }
        canvas.fill(&measured, BLUE)?;
        if let Some(error) = row.memory_error() {
            bars.error(canvas, index, values[0].max(values[1]), error)?;
        }
    }
    bars.names(canvas, &rows.iter().map(|row| (row.name.as_str(), row.chosen)).collect::<Vec<_>>())
}

fn subtitle(rows: &[CompareRow]) -> String {
    let worst = CompareSummary::of(rows).and_then(|summary| summary.memory_worst_error);
    worst.map_or("no memory was measured".to_owned(), |worst| {
        format!("above: error of the prediction · worst {:.1}%", worst * 100.0)
    })
}

fn bar(bars: &PairedBars, index: usize, side: usize, value: f64) -> Area {
    let (left, right) = bars.edges(index, side);
    Area::new(left, bars.frame.py(value), right, bars.frame.area.bottom)
}

fn unit_for(highest: Bytes) -> (f64, &'static str) {
    const MIB: f64 = 1_048_576.0;
    match highest.as_f64() {
        bytes if bytes >= 4096.0 * MIB => (1024.0 * MIB, "GiB"),
        bytes if bytes >= 4.0 * MIB => (MIB, "MiB"),
        _ => (1024.0, "KiB"),
    }
}
