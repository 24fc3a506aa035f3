//! Whether a CUDA device can be used, and if not, what is missing.

use thiserror::Error;

use super::{Capability, Card, CudaVersion, Driver, Headers, Probe};

/// Least free memory with which a card is used, bytes: a CUDA context alone takes about half of it.
pub const LEAST_FREE: u64 = 1 << 30;
/// The release that added the newest driver function which a CUDA build calls.
const OLDEST_DRIVER: CudaVersion = CudaVersion { major: 12, minor: 8 };

/// Why no CUDA device can be used: each case is one sentence with its remedy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NotReady {
    /// No driver.
    #[error(
        "no NVIDIA driver: libcuda.so.1 is not on this machine; use --backend cpu here, or a machine with an NVIDIA card"
    )]
    NoDriver,
    /// A driver that does not start.
    #[error("the NVIDIA driver does not start: {library} answers {code}, {meaning}; see what `nvidia-smi` says")]
    DriverFailed {
        /// The library.
        library: String,
        /// Status of `cuInit`.
        code: i32,
        /// What it means.
        meaning: String,
    },
    /// A driver without functions that the build calls.
    #[error(
        "the NVIDIA driver is too old: it supports CUDA {found}, this tool needs {OLDEST_DRIVER}; install driver 570 or newer"
    )]
    DriverTooOld {
        /// What it supports.
        found: CudaVersion,
    },
    /// A working driver without a card.
    #[error(
        "no NVIDIA card: the driver runs but lists none; look at CUDA_VISIBLE_DEVICES and at what `nvidia-smi -L` says"
    )]
    NoCard,
    /// A card that the driver does not list.
    #[error("there is no card {card}: this machine has {count}, numbered from 0; `cutplane doctor` lists them")]
    UnknownCard {
        /// The number asked for.
        card: usize,
        /// Cards that there are.
        count: usize,
    },
    /// The tool was built without its CUDA part.
    #[error("this build has no CUDA: build it with `cargo build --release -p cutplane-cli --features cuda`")]
    NotCompiledIn,
    /// No run-time compiler.
    #[error(
        "no NVRTC, which compiles the kernels: libnvrtc.so is not found; `pip install nvidia-cuda-nvrtc` and put its lib folder on LD_LIBRARY_PATH (runtime/README.md)"
    )]
    NoNvrtc,
    /// A run-time compiler whose output the driver does not load.
    #[error(
        "NVRTC is newer than the driver: it is of CUDA {nvrtc}, the driver supports {driver}; install NVRTC of CUDA {driver} or older, or a newer driver"
    )]
    NvrtcTooNew {
        /// Release of NVRTC.
        nvrtc: CudaVersion,
        /// Release that the driver supports.
        driver: CudaVersion,
    },
    /// A card that NVRTC has no code for.
    #[error(
        "card {card} ({name}) has compute capability {capability}, but NVRTC of CUDA {nvrtc} compiles for {oldest} and newer; install an older NVRTC"
    )]
    CardTooOld {
        /// The card.
        card: usize,
        /// Its name.
        name: String,
        /// What it is capable of.
        capability: Capability,
        /// Release of NVRTC.
        nvrtc: CudaVersion,
        /// The oldest that this release compiles for.
        oldest: Capability,
    },
    /// No headers.
    #[error(
        "no CUDA headers, which the kernels include: {looked}; `pip install nvidia-cuda-runtime nvidia-cuda-crt nvidia-cuda-cccl` and set CUDA_PATH to the folder above their include (runtime/README.md)"
    )]
    NoHeaders {
        /// Where they were looked for.
        looked: String,
    },
    /// A card that others have filled.
    #[error("card {card} ({name}) has {free_mib} MiB free of {total_mib}: at least {} MiB are needed; `nvidia-smi` shows who holds them", LEAST_FREE >> 20)]
    NoFreeMemory {
        /// The card.
        card: usize,
        /// Its name.
        name: String,
        /// Free, MiB.
        free_mib: u64,
        /// In all, MiB.
        total_mib: u64,
    },
}

impl Probe {
    /// All cards, when every one of them can be used.
    ///
    /// # Errors
    /// [`NotReady`]: the first thing that is missing; what the machine lacks is told before what could be installed
    /// on it.
    pub fn cuda_ready(&self) -> Result<&[Card], NotReady> {
        let all: Vec<usize> = (0..self.cards.len()).collect();
        self.cards_ready(&all)?;
        Ok(&self.cards)
    }

    /// Checks that the driver runs and lists the numbered cards: enough to plan for them.
    ///
    /// # Errors
    /// [`NotReady`], about driver and cards.
    pub fn cards_listed(&self, cards: &[usize]) -> Result<(), NotReady> {
        self.driver_ready()?;
        if self.cards.is_empty() {
            return Err(NotReady::NoCard);
        }
        match cards.iter().find(|card| **card >= self.cards.len()) {
            None => Ok(()),
            Some(card) => Err(NotReady::UnknownCard { card: *card, count: self.cards.len() }),
        }
    }

    /// Checks that the numbered cards can be computed on.
    ///
    /// # Errors
    /// As [`Probe::cuda_ready`]; [`NotReady::UnknownCard`] for a number that is not listed.
    pub fn cards_ready(&self, cards: &[usize]) -> Result<(), NotReady> {
        self.cards_listed(cards)?;
        let driver = self.driver_ready()?;
        if !self.compiled_in {
            return Err(NotReady::NotCompiledIn);
        }
        let nvrtc = self.nvrtc.as_ref().ok_or(NotReady::NoNvrtc)?.cuda;
        if nvrtc > driver {
            return Err(NotReady::NvrtcTooNew { nvrtc, driver });
        }
        match &self.headers {
            Headers::Present { .. } => {}
            Headers::Absent => {
                let looked = "neither CUDA_PATH nor /usr/local/cuda nor /opt/cuda is there".to_owned();
                return Err(NotReady::NoHeaders { looked });
            }
            Headers::Incomplete { folder, missing } => {
                return Err(NotReady::NoHeaders { looked: format!("{} has no {missing}", folder.display()) });
            }
        }
        cards.iter().try_for_each(|card| card_ready(&self.cards[*card], nvrtc))
    }

    fn driver_ready(&self) -> Result<CudaVersion, NotReady> {
        match &self.driver {
            Driver::Absent => Err(NotReady::NoDriver),
            Driver::Failed { library, code, meaning } => {
                Err(NotReady::DriverFailed { library: library.clone(), code: *code, meaning: meaning.clone() })
            }
            Driver::Present { cuda, complete: false, .. } => Err(NotReady::DriverTooOld { found: *cuda }),
            Driver::Present { cuda, .. } => Ok(*cuda),
        }
    }
}

fn card_ready(card: &Card, nvrtc: CudaVersion) -> Result<(), NotReady> {
    let oldest = oldest_capability(nvrtc);
    if card.capability < oldest {
        let (name, capability) = (card.name.clone(), card.capability);
        return Err(NotReady::CardTooOld { card: card.index, name, capability, nvrtc, oldest });
    }
    match card.free_bytes {
        Some(free) if free < LEAST_FREE => Err(NotReady::NoFreeMemory {
            card: card.index,
            name: card.name.clone(),
            free_mib: free >> 20,
            total_mib: card.memory_bytes >> 20,
        }),
        _ => Ok(()),
    }
}

/// The oldest architecture that a release compiles for (CUDA release notes: 12 ended Kepler, 13 ended Maxwell to
/// Volta).
fn oldest_capability(nvrtc: CudaVersion) -> Capability {
    match nvrtc.major {
        0..=11 => Capability { major: 3, minor: 5 },
        12 => Capability { major: 5, minor: 0 },
        _ => Capability { major: 7, minor: 5 },
    }
}
