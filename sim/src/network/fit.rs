//! Calibration of a fabric on measured collectives: few physical parameters with priors.
//!
//! Free are what one port of each level achieves and the floor of an isolated call. Each keeps a prior (the library's
//! usual share of the line rate, the floor given), normal in its logarithm; the misfit of a row is the absolute logarithm
//! of predicted over measured, so that one disturbed row pulls no more than another.

use super::collective::Collective;
use super::error::NetworkError;
use super::fabric::Fabric;
use super::group::Group;
use super::library::Library;
use super::time;

/// A measured collective.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// The operation.
    pub collective: Collective,
    /// Its bytes, as in [`time`].
    pub bytes: f64,
    /// Who took part.
    pub group: Group,
    /// What it took, s.
    pub seconds: f64,
}

/// How far a parameter may leave its prior, as the standard deviation of its natural logarithm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Priors {
    /// Of what a port achieves.
    pub bandwidth: f64,
    /// Of the floor of an isolated call; it stays zero when it is zero.
    pub floor: f64,
    /// Of a row around the model.
    pub noise: f64,
}

impl Default for Priors {
    /// Bandwidth within half or double, floors likewise, rows within 10%.
    fn default() -> Self {
        Self { bandwidth: 0.5, floor: 0.5, noise: 0.1 }
    }
}

/// A calibrated fabric.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// The fabric with what its ports achieve, on the levels that rows use.
    pub fabric: Fabric,
    /// The library with the floor of its calls.
    pub library: Library,
    /// Rows used.
    pub rows: usize,
    /// Median of `|predicted - measured| / measured` over the rows used, each predicted by a fit without it.
    pub leave_one_out_error: f64,
}

/// Fits what the ports of each level achieve, and the floor of a call if `library` has one.
///
/// # Errors
/// [`NetworkError::Fit`] without rows, or for a row whose time or size is not above zero.
pub fn fit(fabric: &Fabric, library: &Library, rows: &[Measured], priors: Priors) -> Result<Fitted, NetworkError> {
    if rows.is_empty() {
        return Err(NetworkError::Fit("no rows: give at least one measured collective".to_owned()));
    }
    let usable = |row: &Measured| row.seconds > 0.0 && row.seconds.is_finite() && row.bytes > 0.0;
    if let Some(bad) = rows.iter().position(|row| !usable(row)) {
        return Err(NetworkError::Fit(format!("row {bad} has no time or no bytes above zero: leave it out")));
    }
    let problem = Problem::new(fabric, library, priors);
    let all: Vec<&Measured> = rows.iter().collect();
    let (fabric, library) = problem.apply(&problem.solve(&all));
    let without = |out: usize| {
        let others: Vec<&Measured> = rows.iter().enumerate().filter(|(at, _)| *at != out).map(|(_, row)| row).collect();
        let (fabric, library) = problem.apply(&problem.solve(&others));
        let row = &rows[out];
        (time(row.collective, row.bytes, &row.group, &fabric, &library).seconds / row.seconds - 1.0).abs()
    };
    let mut errors: Vec<f64> = (0..rows.len()).map(without).collect();
    errors.sort_by(f64::total_cmp);
    Ok(Fitted { fabric, library, rows: rows.len(), leave_one_out_error: errors[errors.len() / 2] })
}

/// Parameters are logarithms of factors on the priors: one a level, then the floor.
struct Problem<'a> {
    fabric: &'a Fabric,
    library: &'a Library,
    prior: Vec<f64>,
    widths: Vec<f64>,
    noise: f64,
}

impl<'a> Problem<'a> {
    fn new(fabric: &'a Fabric, library: &'a Library, priors: Priors) -> Self {
        let levels = fabric.levels().iter();
        let prior: Vec<f64> = levels
            .map(|level| level.achieved.unwrap_or(level.bandwidth * library.share(level.interconnect)))
            .chain([library.call_floor])
            .collect();
        let mut widths = vec![priors.bandwidth; fabric.levels().len()];
        widths.push(if library.call_floor > 0.0 { priors.floor } else { 0.0 });
        Self { fabric, library, prior, widths, noise: priors.noise }
    }

    fn apply(&self, factors: &[f64]) -> (Fabric, Library) {
        let value = |at: usize| self.prior[at] * factors[at].exp();
        let moved = |at: usize| (factors[at] != 0.0).then(|| value(at));
        let fabric = self.fabric.with_achieved(|at, before| moved(at).or(before));
        (fabric, self.library.isolated(value(self.prior.len() - 1)))
    }

    fn misfit(&self, factors: &[f64], rows: &[&Measured]) -> f64 {
        let (fabric, library) = self.apply(factors);
        let of = |row: &&Measured| {
            let predicted = time(row.collective, row.bytes, &row.group, &fabric, &library).seconds;
            (predicted / row.seconds).ln().abs() / self.noise
        };
        let held = factors.iter().zip(&self.widths).filter(|(_, width)| **width > 0.0);
        rows.iter().map(of).sum::<f64>() + held.map(|(factor, width)| 0.5 * (factor / width).powi(2)).sum::<f64>()
    }

    /// Coordinate descent: each parameter in turn to the best of a grid around where it is, the grid finer each time.
    fn solve(&self, rows: &[&Measured]) -> Vec<f64> {
        let mut factors = vec![0.0; self.prior.len()];
        let mut least = self.misfit(&factors, rows);
        let mut step = 0.5;
        while step > 1e-4 {
            let before = least;
            for at in (0..factors.len()).filter(|at| self.widths[*at] > 0.0) {
                let here = factors[at];
                for steps in [-3.0, -2.0, -1.0, 1.0, 2.0, 3.0] {
                    let mut trial = factors.clone();
                    trial[at] = here + steps * step;
                    let misfit = self.misfit(&trial, rows);
                    if misfit < least {
                        (least, factors) = (misfit, trial);
                    }
                }
            }
            if before - least < 1e-9 {
                step /= 2.0;
            }
        }
        factors
    }
}
