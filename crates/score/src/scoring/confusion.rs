//! Right and wrong calls on whether a step fits its memory.

use serde::Serialize;

use super::rows::ScoredRow;

/// Distance from the capacity, as a share of it, beyond which a wrong call is called so.
const MARGIN: f64 = 0.05;

/// Calls on whether a step fits its memory. A row with a measured time did fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Confusion {
    /// Predicted to fit, and did.
    pub fits_and_did: usize,
    /// Predicted to run out, and did.
    pub runs_out_and_did: usize,
    /// Predicted to run out, and fitted.
    pub runs_out_but_fitted: usize,
    /// Predicted to fit, and ran out.
    pub fits_but_ran_out: usize,
    /// Of the wrong calls, those whose predicted memory is more than 5% from the capacity.
    pub wrong_beyond_margin: usize,
}

impl Confusion {
    pub(super) fn of(rows: &[&ScoredRow]) -> Self {
        let mut counts = Self::default();
        for (row, (predicted, measured)) in rows.iter().filter_map(|row| Some((row, row.fits_pair()?))) {
            *match (predicted, measured) {
                (true, true) => &mut counts.fits_and_did,
                (false, false) => &mut counts.runs_out_and_did,
                (false, true) => &mut counts.runs_out_but_fitted,
                (true, false) => &mut counts.fits_but_ran_out,
            } += 1;
            counts.wrong_beyond_margin += usize::from(predicted != measured && beyond(row));
        }
        counts
    }

    /// Calls on steps that ran out of memory.
    pub const fn runs_out(&self) -> usize {
        self.runs_out_and_did + self.fits_but_ran_out
    }
}

fn beyond(row: &ScoredRow) -> bool {
    let prediction = row.outcome.prediction();
    let ratio = prediction.and_then(|found| Some(found.memory_gib? / found.capacity_gib?));
    ratio.is_some_and(|ratio| (ratio - 1.0).abs() > MARGIN)
}
