//! The device that tensors live on, and ranks pinned to cores.

use burn::tensor::{DType, Device, FloatDType, Tensor};
use cutplane_graph::Dtype;

use crate::devices::{Place, probe};
use crate::error::RuntimeError;

/// Where the numbers of a rank stay between its instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residence {
    /// Gradients, optimizer state and messages are host buffers, and what Burn has no fused operator for is a loop over
    /// them: fastest where the device is the processor. f32 only.
    Host,
    /// Everything stays in tensors of the device and is computed by tensor expressions; the host sees a number only when
    /// it is asked for or sent through the host.
    Device,
}

/// A back end: where the operators of a rank run, and in which numbers.
#[derive(Clone, Debug)]
pub struct Backend {
    device: Device,
    name: &'static str,
    residence: Residence,
    precision: Dtype,
    /// Whether ranks hand tensors over on the device.
    hands_over: bool,
    /// The number of the NVIDIA card; `None` where the calling thread computes.
    card: Option<usize>,
}

impl Backend {
    /// The processor, through Burn's `flex` back end.
    pub fn cpu() -> Self {
        Self {
            device: Device::flex(),
            name: "burn-flex 0.22.1",
            residence: Residence::Host,
            precision: Dtype::F32,
            hands_over: false,
            card: None,
        }
    }

    /// The processor, computing as a card does: the twin that proves a card's code path where there is none.
    pub fn cpu_as_card() -> Self {
        let name = "burn-flex 0.22.1, tensor expressions";
        Self { name, residence: Residence::Device, hands_over: true, ..Self::cpu() }
    }

    /// The back end at a place of this machine; for a card only when the probe finds all that it needs, because an
    /// operation on a missing driver leaves the process unusable.
    ///
    /// # Errors
    /// [`RuntimeError::NotReady`] with what is missing, the feature `cuda` of the build included.
    pub fn at(place: Place) -> Result<Self, RuntimeError> {
        match place {
            Place::Cpu { .. } => Ok(Self::cpu()),
            Place::Cuda { card } => {
                probe().cards_ready(&[card])?;
                Self::on_card(card)
            }
        }
    }

    #[cfg(feature = "cuda")]
    fn on_card(card: usize) -> Result<Self, RuntimeError> {
        Ok(Self::cuda(card))
    }

    #[cfg(not(feature = "cuda"))]
    fn on_card(_: usize) -> Result<Self, RuntimeError> {
        Err(crate::devices::NotReady::NotCompiledIn.into())
    }

    /// The NVIDIA card of this number, through Burn's CUDA back end. Only for cards that
    /// [`crate::devices::Probe::cards_ready`] has passed: on any other the first operation panics.
    #[cfg(feature = "cuda")]
    pub fn cuda(card: usize) -> Self {
        let (device, name) = (Device::cuda(card), "burn-cuda 0.22.1");
        Self { device, name, card: Some(card), ..Self::cpu_as_card() }
    }

    /// Name and version, as device profiles and records carry it.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The same device computing in `precision`: weights stay in f32 and are cast where they are used, activations and
    /// messages are in `precision`, gradients of weights in f32 again.
    ///
    /// # Errors
    /// [`RuntimeError::Precision`] when the device cannot, or `precision` is no type to compute in.
    pub fn in_precision(&self, precision: Dtype) -> Result<Self, RuntimeError> {
        let residence = if precision == Dtype::F32 { self.residence } else { Residence::Device };
        match float_type(precision) {
            Some(float) if self.device.supports_dtype(DType::from(float)) => {
                Ok(Self { residence, precision, ..self.clone() })
            }
            _ => Err(RuntimeError::Precision { backend: self.name, precision }),
        }
    }

    /// What operators compute in.
    pub fn precision(&self) -> Dtype {
        self.precision
    }

    /// The NVIDIA card that computes, by number.
    pub(crate) fn card(&self) -> Option<usize> {
        self.card
    }

    /// Where numbers stay between instructions.
    pub fn residence(&self) -> Residence {
        self.residence
    }

    /// True when ranks on the two may hand tensors over on the device. Ranks on cores never do: their memory is counted
    /// by thread.
    pub fn shares_device(&self, other: &Self) -> bool {
        self.hands_over && other.hands_over && self.device == other.device && self.precision == other.precision
    }

    /// Waits until the device has done all that the calling thread has asked of it.
    ///
    /// # Errors
    /// [`RuntimeError::Device`] with what the device answers.
    pub fn sync(&self) -> Result<(), RuntimeError> {
        match self.residence {
            Residence::Host => Ok(()),
            Residence::Device => {
                self.device.sync().map_err(|error| RuntimeError::Device { problem: format!("{error:?}") })
            }
        }
    }

    /// Bytes in use and bytes reserved in the pool of the device, over all ranks that share it; `None` where the device
    /// has no pool of its own.
    pub fn pool(&self) -> Option<(u64, u64)> {
        self.device.memory_pool_usage().map(|usage| (usage.bytes_in_use, usage.bytes_reserved))
    }

    /// Gives back what the pool of the device holds and nobody uses.
    pub fn trim_pool(&self) {
        if self.residence == Residence::Device {
            self.device.memory_cleanup();
        }
    }

    /// The same device computing in f32.
    pub(crate) fn in_full(&self) -> Self {
        Self { precision: Dtype::F32, ..self.clone() }
    }

    /// `x` in the precision that operators compute in; differentiable.
    pub(crate) fn low<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match float_type(self.precision) {
            Some(float) if self.precision != Dtype::F32 => x.cast(float),
            _ => x,
        }
    }

    /// `x` in f32; differentiable.
    pub(crate) fn full<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        if self.precision == Dtype::F32 { x } else { x.cast(FloatDType::F32) }
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

/// Burn's name of an element type that operators can compute in.
pub(crate) fn float_type(precision: Dtype) -> Option<FloatDType> {
    match precision {
        Dtype::F32 => Some(FloatDType::F32),
        Dtype::F16 => Some(FloatDType::F16),
        Dtype::Bf16 => Some(FloatDType::BF16),
        Dtype::I32 => None,
    }
}

/// Number of cores that this process may run on.
pub fn available_cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Number of cores of the host that are in use, also those that this process may not run on.
pub fn cores_of_host() -> usize {
    // SAFETY: a plain question.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }).unwrap_or(1).max(1)
}

/// Runs `work` on a thread of its own that is pinned to the `core`-th core of this process, inside a thread pool of one.
/// Tensor kernels then stay on that thread: ranks that share a pool would queue for its workers.
///
/// # Errors
/// [`RuntimeError::Thread`] when the thread cannot be started. A refused pinning is no error: the rank then runs
/// unpinned.
pub fn run_pinned<T: Send>(core: usize, work: impl FnOnce() -> T + Send) -> Result<T, RuntimeError> {
    run_on(core, true, work)
}

/// Runs `work` as a rank of `backend`: pinned where the thread itself computes. Where a card does, the thread is left
/// free, because the threads that Burn starts to feed the card would inherit its one core.
///
/// # Errors
/// As [`run_pinned`].
pub(crate) fn run_rank<T: Send>(
    core: usize,
    backend: &Backend,
    work: impl FnOnce() -> T + Send,
) -> Result<T, RuntimeError> {
    run_on(core, backend.card.is_none(), work)
}

fn run_on<T: Send>(core: usize, pinned: bool, work: impl FnOnce() -> T + Send) -> Result<T, RuntimeError> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .thread_name(move |_| format!("rank-{core}"))
        .start_handler(move |_| {
            if pinned {
                pin(core);
            }
        })
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
    use super::{Backend, run_pinned};
    use crate::devices::Place;

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_card_that_cannot_be_used_is_refused_with_the_reason() {
        assert!(Backend::at(Place::Cpu { core: 0 }).is_ok());
        let refused = Backend::at(Place::Cuda { card: 0 }).expect_err("this build has no CUDA");
        let reasons = ["no NVIDIA driver", "no CUDA", "NVIDIA"];
        assert!(reasons.iter().any(|reason| refused.to_string().contains(reason)), "{refused}");
    }

    #[test]
    fn only_ranks_on_one_card_hand_tensors_over() {
        let (cpu, twin) = (Backend::cpu(), Backend::cpu_as_card());
        let low = |backend: &Backend| backend.in_precision(cutplane_graph::Dtype::Bf16).expect("flex has it");
        assert!(twin.shares_device(&twin) && low(&twin).shares_device(&low(&twin)));
        assert!(!cpu.shares_device(&twin) && !low(&cpu).shares_device(&low(&cpu)) && !low(&twin).shares_device(&twin));
    }

    #[test]
    fn a_rank_has_a_pool_of_one() {
        let (threads, name) =
            run_pinned(0, || (rayon::current_num_threads(), std::thread::current().name().map(str::to_owned)))
                .expect("starts");
        assert_eq!((threads, name.as_deref()), (1, Some("rank-0")));
    }
}
