//! Axes: scales, ticks, and the frame that places data on a canvas.

use super::canvas::{Area, Canvas, Ink, Point};
use super::style::{GRID, INK, LABEL, MUTED, TICK};
use crate::error::ReportError;

/// How values become positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scale {
    Linear { min: f64, max: f64 },
    Log { min: f64, max: f64 },
}

impl Scale {
    /// From zero to a little above `max`; from 0 to 1 when there is nothing to show.
    pub(crate) fn from_zero(max: f64) -> Self {
        let max = if max.is_finite() && max > 0.0 { max } else { 1.0 };
        Self::Linear { min: 0.0, max: max * 1.08 }
    }

    /// Around positive values with `pad` (a share) of room: logarithmic when they span more than a factor of four, else
    /// linear over at least half of the largest value.
    pub(crate) fn around(values: impl Iterator<Item = f64>, pad: f64) -> Self {
        let (low, high) = range(values.filter(|value| *value > 0.0)).unwrap_or((1.0, 1.0));
        if high / low > 4.0 {
            let room = (high / low).powf(pad);
            return Self::Log { min: low / room, max: high * room };
        }
        let room = ((high - low) * pad).max((high * 0.5 - (high - low)) / 2.0);
        Self::Linear { min: (low - room).max(0.0), max: high + room }
    }

    /// Logarithmic over positive values.
    pub(crate) fn log(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = range(values.filter(|value| *value > 0.0)).unwrap_or((1.0, 10.0));
        let room = (high / low).powf(0.06).max(1.2);
        Self::Log { min: low / room, max: high * room }
    }

    pub(crate) fn bounds(self) -> (f64, f64) {
        match self {
            Self::Linear { min, max } | Self::Log { min, max } => (min, max),
        }
    }

    /// Position of a value, 0 at the low end and 1 at the high end.
    pub(crate) fn share(self, value: f64) -> f64 {
        match self {
            Self::Linear { min, max } => (value - min) / (max - min),
            Self::Log { min, max } => (value.max(min * 1e-9) / min).ln() / (max / min).ln(),
        }
    }

    /// Round values in range, about `count` of them, with their labels.
    pub(crate) fn ticks(self, count: usize) -> Vec<Tick> {
        match self {
            Self::Linear { min, max } => linear_ticks(min, max, count),
            Self::Log { min, max } => log_ticks(min, max, count),
        }
    }
}

/// Least and largest finite value.
pub(crate) fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| value.is_finite()).fold(None, |found, value| match found {
        None => Some((value, value)),
        Some((low, high)) => Some((value.min(low), value.max(high))),
    })
}

/// A marked value of an axis.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tick {
    pub(crate) value: f64,
    pub(crate) label: String,
}

fn linear_ticks(min: f64, max: f64, count: usize) -> Vec<Tick> {
    let raw = (max - min) / count.max(1) as f64;
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|step| *step >= raw).unwrap_or(raw);
    let digits = (-step.log10().floor()).max(0.0) as usize;
    let (first, last) = ((min / step - 1e-9).ceil() as i64, (max / step + 1e-9).floor() as i64);
    (first..=last)
        .map(|i| i as f64 * step)
        .map(|value| Tick { value, label: grouped(&format!("{value:.digits$}")) })
        .collect()
}

fn log_ticks(min: f64, max: f64, count: usize) -> Vec<Tick> {
    const LADDERS: [&[f64]; 4] =
        [&[1.0], &[1.0, 3.0], &[1.0, 2.0, 5.0], &[1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]];
    let decades = min.log10().floor() as i32..=max.log10().ceil() as i32;
    let on = |ladder: &[f64]| -> Vec<f64> {
        let all = decades.clone().flat_map(|power| ladder.iter().map(move |m| m * 10f64.powi(power)));
        all.filter(|value| (min..=max).contains(value)).collect()
    };
    let fitting = LADDERS.map(on).into_iter().rev().find(|values| values.len() <= count.max(2) + 2);
    let label = |value: f64| grouped(&format!("{}", (value * 1e9).round() / 1e9));
    fitting.unwrap_or_default().into_iter().map(|value| Tick { value, label: label(value) }).collect()
}

/// A number with a comma between thousands.
pub(crate) fn grouped(number: &str) -> String {
    let (sign, rest) = number.strip_prefix('-').map_or(("", number), |rest| ("-", rest));
    let (whole, fraction) = rest.split_once('.').map_or((rest, String::new()), |(w, f)| (w, format!(".{f}")));
    if whole.len() < 4 {
        return number.to_owned();
    }
    let mut out = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    format!("{sign}{out}{fraction}")
}

/// Powers of two from 1 B up, every `step`-th, labelled as sizes.
pub(crate) fn byte_ticks(scale: Scale, count: usize) -> Vec<Tick> {
    let (min, max) = scale.bounds();
    let inside: Vec<u32> = (0..60).filter(|power| (min..=max).contains(&2f64.powi(*power as i32))).collect();
    let step = inside.len().div_ceil(count.max(1)).max(1);
    let label = |power: u32| {
        let unit = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"][(power / 10) as usize];
        format!("{} {unit}", 1u64 << (power % 10))
    };
    inside
        .into_iter()
        .filter(|power| (*power as usize).is_multiple_of(step))
        .map(|power| Tick { value: 2f64.powi(power as i32), label: label(power) })
        .collect()
}

/// The rectangle of the data with its two scales.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Frame {
    pub(crate) area: Area,
    pub(crate) x: Scale,
    pub(crate) y: Scale,
}

impl Frame {
    pub(crate) fn px(&self, x: f64) -> f64 {
        self.area.left + self.x.share(x) * self.area.width()
    }

    pub(crate) fn py(&self, y: f64) -> f64 {
        self.area.bottom - self.y.share(y) * self.area.height()
    }

    pub(crate) fn at(&self, x: f64, y: f64) -> Point {
        (self.px(x), self.py(y))
    }

    /// Grid lines, tick labels and title of the horizontal axis.
    pub(crate) fn x_axis(&self, canvas: &Canvas<'_>, ticks: &[Tick], title: &str) -> Result<(), ReportError> {
        let Area { left, top, right, bottom } = self.area;
        for tick in ticks {
            let x = self.px(tick.value);
            canvas.line(&[(x, top), (x, bottom)], GRID, 1.0)?;
            canvas.line(&[(x, bottom), (x, bottom + 5.0)], INK, 1.0)?;
            canvas.text(&tick.label, (x, bottom + 16.0), Ink::new(TICK).color(MUTED).centered())?;
        }
        canvas.line(&[(left, bottom), (right, bottom)], INK, 1.0)?;
        canvas.text(title, (f64::midpoint(left, right), bottom + 40.0), Ink::new(LABEL).centered())
    }

    /// Grid lines, tick labels and title of the vertical axis.
    pub(crate) fn y_axis(&self, canvas: &Canvas<'_>, ticks: &[Tick], title: &str) -> Result<(), ReportError> {
        let Area { left, top, right, bottom } = self.area;
        let mut widest: f64 = 0.0;
        for tick in ticks {
            let y = self.py(tick.value);
            canvas.line(&[(left, y), (right, y)], GRID, 1.0)?;
            canvas.line(&[(left - 5.0, y), (left, y)], INK, 1.0)?;
            canvas.text(&tick.label, (left - 9.0, y), Ink::new(TICK).color(MUTED).right())?;
            widest = widest.max(canvas.text_width(&tick.label, TICK)?);
        }
        canvas.line(&[(left, top), (left, bottom)], INK, 1.0)?;
        let at = (left - widest - 26.0, f64::midpoint(top, bottom));
        canvas.text(title, at, Ink::new(LABEL).centered().upward())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(ticks: &[Tick]) -> Vec<&str> {
        ticks.iter().map(|tick| tick.label.as_str()).collect()
    }

    #[test]
    fn linear_ticks_are_round_and_inside() {
        assert_eq!(labels(&linear_ticks(0.0, 432.0, 5)), ["0", "100", "200", "300", "400"]);
        assert_eq!(labels(&linear_ticks(0.31, 0.52, 4)), ["0.4", "0.5"]);
        assert_eq!(labels(&linear_ticks(0.0, 25_000.0, 3)), ["0", "10,000", "20,000"]);
    }

    #[test]
    fn logarithmic_ticks_take_the_finest_ladder_that_fits() {
        assert_eq!(labels(&log_ticks(90.0, 1100.0, 5)), ["100", "200", "500", "1,000"]);
        assert_eq!(labels(&log_ticks(0.5, 2e5, 4)), ["1", "10", "100", "1,000", "10,000", "100,000"]);
    }

    #[test]
    fn sizes_are_marked_at_powers_of_two() {
        let scale = Scale::Log { min: 600.0, max: 5e6 };
        assert_eq!(labels(&byte_ticks(scale, 4)), ["4 KiB", "64 KiB", "1 MiB"]);
    }

    #[test]
    fn a_scale_maps_its_bounds_to_zero_and_one() {
        for scale in [Scale::Linear { min: 2.0, max: 6.0 }, Scale::Log { min: 2.0, max: 6.0 }] {
            assert!((scale.share(2.0)).abs() < 1e-12 && (scale.share(6.0) - 1.0).abs() < 1e-12);
        }
        assert!((Scale::Log { min: 1.0, max: 100.0 }.share(10.0) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn nothing_to_show_still_makes_a_scale() {
        assert_eq!(Scale::from_zero(0.0), Scale::Linear { min: 0.0, max: 1.08 });
        assert_eq!(Scale::from_zero(f64::NAN), Scale::from_zero(0.0));
        let one = Scale::around(std::iter::once(5.0), 0.1);
        assert_eq!(one, Scale::Linear { min: 3.75, max: 6.25 });
    }
}
