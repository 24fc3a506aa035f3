//! The device that tensors live on, and ranks pinned to cores.

use burn::tensor::Device;

use crate::error::RuntimeError;

/// A back end: where the operators of a rank run.
#[derive(Clone, Debug)]
pub struct Backend {
    device: Device,
}

impl Backend {
    /// The processor, through Burn's `flex` back end.
    pub fn cpu() -> Self {
        Self { device: Device::flex() }
    }

    /// Name and version, as device profiles and records carry it.
    pub fn name(&self) -> &'static str {
        "burn-flex 0.22.1"
    }

    /// The device for plain tensors.
    pub(crate) fn device(&self) -> Device {
        self.device.clone()
    }

    /// The device for tensors that record their history.
    pub(crate) fn autodiff(&self) -> Device {
        self.device.clone().autodiff()
    }
}

/// Number of cores that this process may run on.
pub fn available_cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Runs `work` on a thread of its own that is pinned to the `core`-th core of this process, inside a thread pool of one.
/// Tensor kernels then stay on that thread: ranks that share a pool would queue for its workers.
///
/// # Errors
/// [`RuntimeError::Thread`] when the thread cannot be started. A refused pinning is no error: the rank then runs
/// unpinned.
pub fn run_pinned<T: Send>(core: usize, work: impl FnOnce() -> T + Send) -> Result<T, RuntimeError> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .thread_name(move |_| format!("rank-{core}"))
        .start_handler(move |_| pin(core))
        .build()
        .map_err(|error| RuntimeError::Thread { rank: core, problem: error.to_string() })?;
    Ok(pool.install(work))
}

/// Pins the calling thread to the `index`-th core (modulo their number) that this process may use.
#[cfg(target_os = "linux")]
fn pin(index: usize) {
    // SAFETY: `cpu_set_t` is a plain bit set for which all zeros is valid; both calls get its real size, and 0 names the
    // calling thread.
    unsafe {
        let mut allowed: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(libc::getpid(), size_of::<libc::cpu_set_t>(), &raw mut allowed) != 0 {
            return;
        }
        let cores: Vec<usize> =
            (0..libc::CPU_SETSIZE as usize).filter(|core| libc::CPU_ISSET(*core, &allowed)).collect();
        if let Some(core) = cores.get(index % cores.len().max(1)) {
            let mut one: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(*core, &mut one);
            libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const one);
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn pin(_: usize) {}

#[cfg(test)]
mod tests {
    use super::run_pinned;

    #[test]
    fn a_rank_has_a_pool_of_one() {
        let (threads, name) =
            run_pinned(0, || (rayon::current_num_threads(), std::thread::current().name().map(str::to_owned)))
                .expect("starts");
        assert_eq!((threads, name.as_deref()), (1, Some("rank-0")));
    }
}
