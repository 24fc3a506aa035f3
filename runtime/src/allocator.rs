//! The allocator of programs that run plans: mimalloc, which keeps freed memory, under a count of each rank's bytes.
//!
//! A training step allocates and frees the same large buffers over and over. Handing them back to the operating system in
//! between would cost page faults that take a fifth of a step on small machines, so nothing is handed back.

use std::ffi::{c_int, c_long};

use mimalloc::MiMalloc;

use crate::memory::TrackingAllocator;

/// What a binary installs as its `#[global_allocator]`.
///
/// ```
/// use cutplane_runtime::allocator;
/// #[global_allocator]
/// static ALLOCATOR: allocator::Allocator = allocator::NEW;
/// # fn main() { allocator::keep_freed_memory(); }
/// ```
pub type Allocator = TrackingAllocator<MiMalloc>;

/// The value of the static.
pub const NEW: Allocator = TrackingAllocator::new(MiMalloc);

/// `mi_option_purge_delay` of mimalloc 3: milliseconds until freed memory is handed back, -1 for never.
const PURGE_DELAY: c_int = 15;

unsafe extern "C" {
    fn mi_option_set(option: c_int, value: c_long);
}

/// Tells mimalloc to keep freed memory for reuse. Call it first thing in `main`.
pub fn keep_freed_memory() {
    // SAFETY: a function of the mimalloc library that is linked in; it sets a number and may be called at any time.
    unsafe { mi_option_set(PURGE_DELAY, -1) }
}

#[cfg(test)]
mod tests {
    use std::ffi::{c_int, c_long};

    unsafe extern "C" {
        fn mi_option_get(option: c_int) -> c_long;
    }

    #[test]
    fn the_option_is_the_one_that_mimalloc_reads() {
        // SAFETY: as above; it reads a number.
        let delay = || unsafe { mi_option_get(super::PURGE_DELAY) };
        assert_eq!(delay(), 1000, "mimalloc's default purge delay: another default means another option number");
        super::keep_freed_memory();
        assert_eq!(delay(), -1);
    }
}
