//! How a rank waits for something that it has to ask after.

use std::time::Duration;

/// Time for which a waiting rank leaves its core only to those who want it, beyond that of looking.
const POLITE: Duration = Duration::from_millis(5);
const NAP: Duration = Duration::from_micros(50);

/// Lets others have the core, the more the longer the wait; up to `spin` nobody.
pub(super) fn rest(waited: Duration, spin: Duration) {
    if waited < spin {
        std::hint::spin_loop();
    } else if waited < if spin.is_zero() { NAP } else { POLITE } {
        std::thread::yield_now();
    } else {
        std::thread::sleep(NAP);
    }
}
