//! Two forms of the mixed-integer program raced on two threads: one starts from the incumbent, one from nothing. Neither is
//! best everywhere: a start may keep HiGHS from the root restart that closes a small problem, and a large one needs it.

use super::PlaceOptions;
use super::error::PlaceError;
use super::groups::Groups;
use super::throughput::Split;
use super::watch::Watch;

/// Runs without HiGHS: the incumbent and the bound stay as they are.
#[cfg(not(feature = "ilp"))]
#[expect(clippy::unnecessary_wraps, reason = "the same signature as with the solver")]
pub(super) fn race(
    _: &Groups,
    known: Option<Split>,
    floor: f64,
    _: &PlaceOptions<'_>,
    _: &Watch<'_>,
) -> Result<(Option<Split>, f64), PlaceError> {
    Ok((known, floor))
}

/// The best split known in the end, and the better bound of the two; no split and an infinite bound: there is none.
///
/// The threads work on copies and are left behind if HiGHS does not heed its limit of time, or the user interrupts.
#[cfg(feature = "ilp")]
pub(super) fn race(
    groups: &Groups,
    known: Option<Split>,
    floor: f64,
    options: &PlaceOptions<'_>,
    watch: &Watch<'_>,
) -> Result<(Option<Split>, f64), PlaceError> {
    use super::milp::{Form, improve, load_of};
    use super::solver::Limits;

    let seconds = watch.left().as_secs_f64() - MARGIN;
    if seconds <= 0.0 {
        return Ok((known, floor));
    }
    let limits = Limits { seconds, relative_gap: options.relative_gap, seed: (options.seed % (1 << 30)) as u32 };
    let (sender, answers) = std::sync::mpsc::channel();
    for form in [Form::Warm, Form::Cold] {
        let (groups, known, sender) = (groups.clone(), known.clone(), sender.clone());
        std::thread::spawn(move || {
            let known = known.as_ref().map(|split| (split.device.as_slice(), split.load));
            // The receiver may have left.
            let _ = sender.send(improve(&groups, known, floor, form, limits));
        });
    }
    drop(sender);
    let (mut best, mut bound, mut failure) = (known, floor, None);
    while let Some(answer) = next(&answers, watch) {
        match answer {
            Ok(improved) => {
                bound = bound.max(improved.bound);
                let found = improved.device.and_then(|device| Some((load_of(groups, &device)?, device)));
                if let Some((load, device)) = found
                    && best.as_ref().is_none_or(|best| load < best.load * (1.0 - 1e-9))
                {
                    best = Some(Split { device, load, searcher: "milp" });
                }
            }
            Err(error) => failure = Some(error),
        }
        let near_enough = |best: &Split| best.load * (1.0 - options.relative_gap) <= bound * (1.0 + 1e-9);
        if best.as_ref().map_or(bound.is_infinite(), near_enough) {
            break;
        }
    }
    match (best, failure) {
        (None, Some(error)) => Err(error),
        (best, _) => Ok((best, bound)),
    }
}

/// Kept from HiGHS for its own ending, s.
#[cfg(feature = "ilp")]
const MARGIN: f64 = 0.3;

/// The next answer; `None` when all have come, or none comes in time.
#[cfg(feature = "ilp")]
fn next<T>(answers: &std::sync::mpsc::Receiver<T>, watch: &Watch<'_>) -> Option<T> {
    use std::sync::mpsc::RecvTimeoutError;
    use std::time::Duration;
    loop {
        match answers.recv_timeout(Duration::from_millis(50)) {
            Ok(answer) => return Some(answer),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) if watch.must_stop() => return None,
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}
