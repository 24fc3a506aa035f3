//! A stand-in for `cubecl-llvm` 0.11.3 that names only what `cubecl-cuda` 0.11.3 imports from it.
//!
//! The published crate downloads an LLVM archive when it is built, even where `cubecl-cuda` is told (feature `cpp`) to
//! generate CUDA C++ and hand it to NVRTC. Cutplane's CUDA builds always take the C++ path, so nothing here is ever
//! reached; if it were, compiling a kernel is an error that says why.
//!
//! **When to drop it:** as soon as `cubecl-cuda` makes LLVM optional. Then delete this folder and the `[patch.crates-io]`
//! entry in the workspace's `Cargo.toml`. When `cubecl` moves to another version, compile first: the names below are
//! private business of the two crates.

use cubecl_core::ir::nvidia::SmArch;
use cubecl_core::prelude::KernelDefinition;
use cubecl_environment::backtrace::BackTrace;
use cubecl_runtime::compiler::CompilationError;
use cubecl_runtime::kernel::BufferIOAttr;

/// What would be compiled for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LlvmTarget {
    /// The host processor.
    #[default]
    Cpu,
    /// NVIDIA's virtual instruction set.
    Nvptx,
}

/// The compiler that is not here.
#[derive(Clone, Debug, Default)]
pub struct PlironCompiler {
    /// What would be compiled for.
    pub target: LlvmTarget,
}

impl PlironCompiler {
    /// Always an error.
    ///
    /// # Errors
    /// Always: this build has no LLVM.
    pub fn compile(
        &mut self,
        _: KernelDefinition,
        _: &PlironOptions,
    ) -> Result<PlironArtifact, CompilationError> {
        Err(CompilationError::Generic {
            reason: "this build has no LLVM: kernels are generated as CUDA C++ (cubecl-cuda's feature `cpp`)".to_owned(),
            backtrace: BackTrace::capture(),
        })
    }

    /// Name of the language that would come out.
    pub fn lang_tag(&self) -> &'static str {
        "ll"
    }
}

/// Options of a compilation.
#[derive(Clone, Debug, Default)]
pub struct PlironOptions {
    /// Architecture of an AMD device.
    pub arch: Option<String>,
    /// Architecture of an NVIDIA device.
    pub sm_arch: Option<SmArch>,
    /// Version of the PTX to write.
    pub ptx_version: Option<nvptx::ptx_version::PtxVersion>,
    /// Whether parameters are passed as grid constants.
    pub grid_constants: bool,
}

/// What a compilation yields.
#[derive(Debug)]
pub enum PlironArtifact {
    /// PTX of a kernel.
    NvptxCode(NvptxModule),
    /// Code for the host processor.
    HostCode,
}

/// A kernel in PTX.
#[derive(Debug)]
pub struct NvptxModule {
    /// NUL-terminated PTX.
    pub ptx: Vec<core::ffi::c_char>,
    /// Intermediate representation, for logs.
    pub ir: String,
    /// Shared memory of a launch, bytes.
    pub shared_memory_size: usize,
    /// Access to each buffer, in binding order.
    pub io: Vec<BufferIOAttr>,
}

/// NVIDIA's part.
pub mod nvptx {
    /// Versions of PTX.
    pub mod ptx_version {
        /// The CUDA release of a driver, which tells the newest PTX that it loads. Used by `cubecl-cuda` as a part of the
        /// name of a cache, and only on the path that is not here.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct PtxVersion(i32);

        impl PtxVersion {
            /// For a driver as `cuDriverGetVersion` numbers it (12.8 is 12080); `None` below CUDA 10.
            pub fn for_driver(driver: i32) -> Option<Self> {
                (driver >= 10_000).then_some(Self(driver))
            }
        }

        impl core::fmt::Display for PtxVersion {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, "cuda{}", self.0)
            }
        }
    }
}

/// What targets share.
pub mod shared {
    /// Features of devices, narrowed to what LLVM lowers.
    pub mod lowered_features {
        use cubecl_core::ir::DeviceProperties;

        /// The target that features are narrowed for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum GpuTarget {
            /// NVIDIA.
            Nvptx,
        }

        /// Leaves everything as it is: the C++ path lowers all that a device offers.
        pub fn restrict_features(_: &mut DeviceProperties, _: GpuTarget) {}
    }
}
