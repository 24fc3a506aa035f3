//! Live and peak memory of each rank, counted by the allocator.
//!
//! [`TrackingAllocator`] wraps any allocator. Each thread counts its own large buffers in plain thread-local cells, so
//! counting needs no atomics. A buffer that one rank hands to another is taken off the sender's account with
//! [`release`] and put on the receiver's with [`adopt`].

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Smaller buffers are not counted: tensors are larger, and what is small may be freed by any thread.
const COUNTED_FROM: usize = 1024;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    // During the last moments of a thread its cells are gone; nobody asks for them then.
    let _ = LIVE.try_with(|live| {
        let now = live.get() + change;
        live.set(now);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now)));
    });
}

fn counted(bytes: usize) -> isize {
    if bytes < COUNTED_FROM { 0 } else { bytes as isize }
}

/// An allocator that counts, for each thread, the bytes that it holds in buffers of at least 1 KiB.
///
/// ```
/// use cutplane_runtime::memory::TrackingAllocator;
/// #[global_allocator]
/// static ALLOCATOR: TrackingAllocator = TrackingAllocator::system();
/// # fn main() {}
/// ```
#[derive(Debug, Default)]
pub struct TrackingAllocator<A = System> {
    inner: A,
}

impl TrackingAllocator<System> {
    /// Counts what the system's allocator hands out.
    pub const fn system() -> Self {
        Self::new(System)
    }
}

impl<A> TrackingAllocator<A> {
    /// Counts what `inner` hands out.
    pub const fn new(inner: A) -> Self {
        Self { inner }
    }
}

// SAFETY: every call is passed on unchanged; counting neither allocates nor touches the memory.
unsafe impl<A: GlobalAlloc> GlobalAlloc for TrackingAllocator<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= COUNTED_FROM {
            count(layout.size() as isize);
        }
        // SAFETY: the caller's promise is passed on.
        unsafe { self.inner.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= COUNTED_FROM {
            count(layout.size() as isize);
        }
        // SAFETY: the caller's promise is passed on.
        unsafe { self.inner.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if layout.size() >= COUNTED_FROM {
            count(-(layout.size() as isize));
        }
        // SAFETY: the caller's promise is passed on.
        unsafe { self.inner.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let change = counted(new_size) - counted(layout.size());
        if change != 0 {
            count(change);
        }
        // SAFETY: the caller's promise is passed on.
        unsafe { self.inner.realloc(pointer, layout, new_size) }
    }
}

/// Puts a buffer that another thread allocated on the calling thread's account.
pub fn adopt(bytes: u64) {
    count(counted(bytes as usize));
}

/// Takes a buffer that another thread will free off the calling thread's account.
pub fn release(bytes: u64) {
    count(-counted(bytes as usize));
}

/// The account of the calling thread, from zero at [`RankMemory::enter`] on.
#[derive(Clone, Copy, Debug)]
pub struct RankMemory {
    start: isize,
}

impl RankMemory {
    /// Opens the account of the calling thread; `None` when no [`TrackingAllocator`] is installed.
    pub fn enter() -> Option<Self> {
        let before = LIVE.get();
        let probe = std::hint::black_box(Vec::<u8>::with_capacity(COUNTED_FROM));
        let installed = LIVE.get() != before;
        drop(probe);
        let memory = Self { start: LIVE.get() };
        memory.reset_peak();
        installed.then_some(memory)
    }

    /// Bytes held now by the calling thread beyond what it held at the start.
    pub fn current(&self) -> u64 {
        (LIVE.get() - self.start).max(0) as u64
    }

    /// Largest [`RankMemory::current`] since the start or the last reset.
    pub fn peak(&self) -> u64 {
        (PEAK.get() - self.start).max(0) as u64
    }

    /// Forgets the peak so far.
    pub fn reset_peak(&self) {
        PEAK.set(LIVE.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The allocator of the command line tool, so that what tests time is what runs.
    #[global_allocator]
    static ALLOCATOR: TrackingAllocator<mimalloc::MiMalloc> = TrackingAllocator::new(mimalloc::MiMalloc);

    #[test]
    fn live_and_peak_follow_large_buffers() {
        let memory = RankMemory::enter().expect("installed above");
        let first = std::hint::black_box(vec![1u8; 10_000]);
        let second = std::hint::black_box(vec![0u8; 5_000]);
        drop(first);
        let small = std::hint::black_box(vec![0u8; 100]);
        assert_eq!((memory.current(), memory.peak()), (5_000, 15_000));
        memory.reset_peak();
        assert_eq!(memory.peak(), 5_000);
        drop((second, small));
        assert_eq!((memory.current(), memory.peak()), (0, 5_000));
    }

    #[test]
    fn a_buffer_that_changes_hands_is_counted_once() {
        let buffer = std::hint::black_box(vec![0u8; 4096]);
        let memory = RankMemory::enter().expect("installed above");
        release(4096);
        let there = std::thread::spawn(move || {
            let memory = RankMemory::enter().expect("installed above");
            adopt(4096);
            let held = memory.current();
            drop(buffer);
            (held, memory.current())
        });
        assert_eq!(there.join().expect("no panic"), (4096, 0));
        // What was held before the account was opened is not on it.
        assert_eq!(memory.current(), 0);
        adopt(8192);
        assert_eq!(memory.current(), 4096);
    }
}
