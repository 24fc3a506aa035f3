//! Where a step goes: stacked bars, predicted and measured.

use cutplane_plan::Program;
use cutplane_record::{Breakdown, Timeline};
use cutplane_units::Nanos;

use crate::chart::bars::{self, PairedBars};
use crate::chart::canvas::{Area, Canvas};
use crate::chart::legend::{Swatch, bubble_swatch, hatched_box, header, row};
use crate::chart::style::{BUBBLE, HATCH, HEADER, MARGIN, PAPER};
use crate::chart::{Activity, Size};
use crate::error::ReportError;
use crate::lookup::check;

/// Two bars of the figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakdownBars {
    /// Name of the plan.
    pub name: String,
    /// Whether it is the chosen plan.
    pub chosen: bool,
    /// Predicted parts.
    pub predicted: Breakdown,
    /// Measured parts.
    pub measured: Breakdown,
}

/// Mean over all ranks of where their step goes; the parts sum to the step time unless streams overlap.
///
/// # Errors
/// [`ReportError::Mismatch`] when the timeline is not of the program.
pub fn mean_breakdown(program: &Program, timeline: &Timeline) -> Result<Breakdown, ReportError> {
    check(program, timeline)?;
    let ranks: Vec<Breakdown> = program.ranks.iter().map(|rank| timeline.breakdown(program, rank.rank)).collect();
    let mean = |part: fn(&Breakdown) -> Nanos| {
        let sum: Nanos = ranks.iter().map(part).sum();
        Nanos::new(sum.get() / ranks.len().max(1) as u64)
    };
    Ok(Breakdown {
        forward: mean(|parts| parts.forward),
        backward: mean(|parts| parts.backward),
        point_to_point: mean(|parts| parts.point_to_point),
        all_reduce: mean(|parts| parts.all_reduce),
        optimizer: mean(|parts| parts.optimizer),
        load: mean(|parts| parts.load),
        bubble: mean(|parts| parts.bubble),
    })
}

/// Size of [`breakdown`] for a number of plans, in points.
pub fn breakdown_size(plans: usize) -> Size {
    (bars::width(plans), 560)
}

/// Draws two stacked bars a plan, predicted (p) and measured (m), ms, with the error of the sum above.
///
/// # Errors
/// [`ReportError::Draw`].
pub fn breakdown(canvas: &Canvas<'_>, plans: &[BreakdownBars]) -> Result<(), ReportError> {
    header(
        canvas,
        MARGIN,
        "Where a training step goes",
        "mean over ranks · p predicted, m measured · above: error of the prediction",
    )?;
    let below = row(canvas, (MARGIN, HEADER + 16.0), canvas.size().0 - MARGIN, &legend())?;
    let totals = plans.iter().flat_map(|plan| [total(&plan.predicted), total(&plan.measured)]);
    let bars = PairedBars::new(canvas, below + 24.0, plans.len(), totals.fold(0.0, f64::max), "time (ms)")?;
    for (index, plan) in plans.iter().enumerate() {
        stack(canvas, &bars, bars.edges(index, 0), &plan.predicted)?;
        stack(canvas, &bars, bars.edges(index, 1), &plan.measured)?;
        bars.sides(canvas, index)?;
        let (predicted, measured) = (total(&plan.predicted), total(&plan.measured));
        if measured > 0.0 {
            bars.error(canvas, index, predicted.max(measured), (predicted - measured) / measured)?;
        }
    }
    bars.names(canvas, &plans.iter().map(|plan| (plan.name.as_str(), plan.chosen)).collect::<Vec<_>>())
}

fn legend() -> Vec<(Swatch, &'static str)> {
    let swatch = |activity: Activity| match activity {
        Activity::Bubble => bubble_swatch(),
        _ => Swatch::Box(activity.color()),
    };
    Activity::ALL.into_iter().map(|activity| (swatch(activity), activity.label())).collect()
}

/// Sum of all parts, ms.
fn total(parts: &Breakdown) -> f64 {
    parts.parts().iter().map(|(_, time)| time.as_millis_f64()).sum()
}

fn stack(
    canvas: &Canvas<'_>,
    bars: &PairedBars,
    (left, right): (f64, f64),
    parts: &Breakdown,
) -> Result<(), ReportError> {
    let mut base = 0.0;
    for ((_, time), activity) in parts.parts().into_iter().zip(Activity::ALL) {
        let top = base + time.as_millis_f64();
        let area = Area::new(left, bars.frame.py(top), right, bars.frame.py(base));
        base = top;
        if area.height() < 0.2 {
            continue;
        }
        match activity {
            Activity::Bubble => hatched_box(canvas, &area, BUBBLE, HATCH)?,
            _ => canvas.fill(&area, activity.color())?,
        }
        if area.height() > 3.0 && activity != Activity::Bubble {
            canvas.line(&[(left, area.top), (right, area.top)], PAPER, 0.6)?;
        }
    }
    Ok(())
}
