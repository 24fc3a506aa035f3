//! Two bars a plan, predicted and measured, side by side: what the breakdown and the memory figure share.

use super::axis::{Frame, Scale};
use super::canvas::{Area, Canvas, Ink};
use super::labels::wrap;
use super::style::{INK, MARGIN, MUTED, SMALL, VERMILLION};
use crate::error::ReportError;

/// Space below the axis for plan names.
const NAMES: f64 = 74.0;
/// Space left of the axis for tick labels and title.
const LEFT: f64 = 84.0;

/// Pairs of bars along a horizontal axis of plans.
pub(crate) struct PairedBars {
    pub(crate) frame: Frame,
    count: usize,
}

/// Width of a figure of `plans` pairs, in points.
pub(crate) fn width(plans: usize) -> u32 {
    (130 + 92 * plans as u32).clamp(700, 1500)
}

impl PairedBars {
    /// Axes below `top` for values up to `max`.
    pub(crate) fn new(
        canvas: &Canvas<'_>,
        top: f64,
        count: usize,
        max: f64,
        y_title: &str,
    ) -> Result<Self, ReportError> {
        let (width, height) = canvas.size();
        let area = Area::new(LEFT, top, width - MARGIN, height - NAMES);
        let x = Scale::Linear { min: 0.0, max: count.max(1) as f64 };
        let frame = Frame { area, x, y: Scale::from_zero(max) };
        frame.y_axis(canvas, &frame.y.ticks(8), y_title)?;
        Ok(Self { frame, count })
    }

    fn slot(&self) -> f64 {
        self.frame.area.width() / self.count.max(1) as f64
    }

    /// Left and right edge of a bar of pair `index`: the predicted one (`side` 0) or the measured one (`side` 1).
    pub(crate) fn edges(&self, index: usize, side: usize) -> (f64, f64) {
        let bar = (self.slot() * 0.34).min(38.0);
        let gap = bar * 0.14;
        let middle = self.frame.px(index as f64 + 0.5);
        let left = if side == 0 { middle - bar - gap / 2.0 } else { middle + gap / 2.0 };
        (left, left + bar)
    }

    /// The relative error above a pair.
    pub(crate) fn error(&self, canvas: &Canvas<'_>, index: usize, top: f64, error: f64) -> Result<(), ReportError> {
        let at = (self.frame.px(index as f64 + 0.5), self.frame.py(top) - 11.0);
        canvas.text(&format!("{:+.1}%", error * 100.0), at, Ink::new(SMALL).color(MUTED).centered())
    }

    /// The horizontal axis with the names, the chosen ones starred.
    pub(crate) fn names(&self, canvas: &Canvas<'_>, names: &[(&str, bool)]) -> Result<(), ReportError> {
        let Area { left, right, bottom, .. } = self.frame.area;
        canvas.line(&[(left, bottom), (right, bottom)], INK, 1.0)?;
        for (index, (name, chosen)) in names.iter().enumerate() {
            let x = self.frame.px(index as f64 + 0.5);
            let lines = wrap(canvas, name, SMALL, self.slot() - 14.0, 3)?;
            for (row, line) in lines.iter().enumerate() {
                let y = bottom + 30.0 + row as f64 * 15.0;
                canvas.text(line, (x, y), Ink::new(SMALL).centered())?;
            }
            if *chosen {
                canvas.star((x, bottom + 13.0), 7.0, VERMILLION)?;
            }
        }
        Ok(())
    }

    /// The letters p and m below the two bars of a pair.
    pub(crate) fn sides(&self, canvas: &Canvas<'_>, index: usize) -> Result<(), ReportError> {
        for (side, letter) in ["p", "m"].into_iter().enumerate() {
            let (left, right) = self.edges(index, side);
            let at = (f64::midpoint(left, right), self.frame.area.bottom + 12.0);
            canvas.text(letter, at, Ink::new(SMALL).color(MUTED).centered())?;
        }
        Ok(())
    }
}
