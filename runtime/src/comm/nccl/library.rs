//! The functions of NCCL and of the CUDA driver that are called, found by name.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::Arc;

#[cfg(any(feature = "cuda", test))]
use burn::tensor::DType;

use super::error::NcclError;
use crate::devices::library::Library;

const NCCL: [&str; 2] = ["libnccl.so.2", "libnccl.so"];
const DRIVER: [&str; 2] = ["libcuda.so.1", "libcuda.so"];
const NCCL_REMEDY: &str = "install NCCL 2.14 or newer (package libnccl2, or nvidia-nccl-cu12 of PyPI with its lib folder on \
                           LD_LIBRARY_PATH); until then sums between cards go through the host";
const DRIVER_REMEDY: &str = "install NVIDIA's driver, 470 or newer";

/// `ncclSuccess` and `ncclInProgress` of nccl.h.
pub(super) const SUCCESS: c_int = 0;
pub(super) const IN_PROGRESS: c_int = 7;
/// `CUDA_ERROR_NOT_READY` of cuda.h.
pub(super) const NOT_READY: c_int = 600;
/// `ncclSum` of nccl.h.
pub(super) const SUM: c_int = 0;
/// `ncclFloat32` of nccl.h.
pub(super) const FLOAT32: c_int = 7;

/// A pointer that means something to the library only: `ncclComm_t`, `CUcontext`, `CUstream`.
pub(super) type Handle = *mut c_void;
/// `CUdeviceptr`.
pub(super) type Address = u64;

#[cfg(any(feature = "cuda", test))]
/// `ncclDataType_t` of what Burn computes in; `None` for a type that is not summed.
pub(super) fn data_type(dtype: DType) -> Option<c_int> {
    match dtype {
        DType::F16 => Some(6),
        DType::F32 => Some(FLOAT32),
        DType::BF16 => Some(9),
        _ => None,
    }
}

/// `ncclUniqueId`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UniqueId(pub(super) [u8; 128]);

/// `ncclConfig_t` as of NCCL 2.14, which later releases take as well, since it tells its size and version.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Config {
    size: usize,
    magic: c_uint,
    version: c_uint,
    blocking: c_int,
}

impl Config {
    /// No call waits for another rank.
    pub(super) fn non_blocking() -> Self {
        Self { size: size_of::<Self>(), magic: 0xcafe_beef, version: 21_400, blocking: 0 }
    }
}

/// A struct of function pointers, and how it is filled from a library.
macro_rules! functions {
    ($(#[$doc:meta])* $table:ident { $($(#[$field_doc:meta])* $field:ident: $symbol:literal ($($arg:ty),*) $(-> $result:ty)?;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub(super) struct $table { $($(#[$field_doc])* pub(super) $field: unsafe extern "C" fn($($arg),*) $(-> $result)?,)* }

        impl $table {
            /// The functions, or the first that is missing.
            ///
            /// # Safety
            /// The library is the one whose header gives the functions these signatures.
            unsafe fn of(library: &Library) -> Result<Self, &'static str> {
                // SAFETY: promised by the caller.
                Ok(Self { $($field: unsafe { library.function($symbol) }.ok_or($symbol)?,)* })
            }

            /// Names of all functions.
            #[cfg(test)]
            pub(super) const SYMBOLS: &[&str] = &[$($symbol),*];
        }
    };
}

functions! {
    /// NCCL, as nccl.h declares it.
    NcclFunctions {
        version: "ncclGetVersion"(*mut c_int) -> c_int;
        unique_id: "ncclGetUniqueId"(*mut UniqueId) -> c_int;
        init: "ncclCommInitRankConfig"(*mut Handle, c_int, UniqueId, c_int, *mut Config) -> c_int;
        state: "ncclCommGetAsyncError"(Handle, *mut c_int) -> c_int;
        abort: "ncclCommAbort"(Handle) -> c_int;
        explain: "ncclGetErrorString"(c_int) -> *const c_char;
        all_reduce: "ncclAllReduce"(Address, Address, usize, c_int, c_int, Handle, Handle) -> c_int;
        reduce: "ncclReduce"(Address, Address, usize, c_int, c_int, c_int, Handle, Handle) -> c_int;
        broadcast: "ncclBroadcast"(Address, Address, usize, c_int, c_int, Handle, Handle) -> c_int;
        all_gather: "ncclAllGather"(Address, Address, usize, c_int, Handle, Handle) -> c_int;
        reduce_scatter: "ncclReduceScatter"(Address, Address, usize, c_int, c_int, Handle, Handle) -> c_int;
        send: "ncclSend"(Address, usize, c_int, c_int, Handle, Handle) -> c_int;
        receive: "ncclRecv"(Address, usize, c_int, c_int, Handle, Handle) -> c_int;
        group_start: "ncclGroupStart"() -> c_int;
        group_end: "ncclGroupEnd"() -> c_int;
    }
}

functions! {
    /// The driver, as cuda.h declares it.
    DriverFunctions {
        init: "cuInit"(c_uint) -> c_int;
        device: "cuDeviceGet"(*mut c_int, c_int) -> c_int;
        uuid: "cuDeviceGetUuid_v2"(*mut [u8; 16], c_int) -> c_int;
        retain_context: "cuDevicePrimaryCtxRetain"(*mut Handle, c_int) -> c_int;
        enter_context: "cuCtxSetCurrent"(Handle) -> c_int;
        new_stream: "cuStreamCreate"(*mut Handle, c_uint) -> c_int;
        stream_state: "cuStreamQuery"(Handle) -> c_int;
        end_stream: "cuStreamDestroy_v2"(Handle) -> c_int;
        allocate: "cuMemAlloc_v2"(*mut Address, usize) -> c_int;
        free: "cuMemFree_v2"(Address) -> c_int;
        upload: "cuMemcpyHtoDAsync_v2"(Address, *const c_void, usize, Handle) -> c_int;
        download: "cuMemcpyDtoHAsync_v2"(*mut c_void, Address, usize, Handle) -> c_int;
    }
}

/// Both libraries, opened.
#[derive(Clone, Copy, Debug)]
pub(in crate::comm) struct Opened {
    pub(super) nccl: NcclFunctions,
    pub(super) driver: DriverFunctions,
}

/// The libraries that NCCL needs, or why they cannot be used.
#[derive(Clone, Debug)]
pub(in crate::comm) struct Libraries(pub(super) Result<Arc<Opened>, NcclError>);

impl Libraries {
    /// Opens them under the names that packages install.
    pub(in crate::comm) fn load() -> Self {
        Self::named(&NCCL, &DRIVER)
    }

    /// Opens them under other names.
    pub(super) fn named(nccl: &[&str], driver: &[&str]) -> Self {
        let open = || {
            let library = open(nccl, NCCL_REMEDY)?;
            // SAFETY: the library is NCCL, by its name.
            let nccl = unsafe { NcclFunctions::of(&library) };
            let nccl = nccl.map_err(|function| lacks(&library, function, NCCL_REMEDY))?;
            let library = open(driver, DRIVER_REMEDY)?;
            // SAFETY: the library is the driver, by its name.
            let driver = unsafe { DriverFunctions::of(&library) };
            let driver = driver.map_err(|function| lacks(&library, function, DRIVER_REMEDY))?;
            Ok(Arc::new(Opened { nccl, driver }))
        };
        Self(open())
    }
}

fn open(names: &[&str], remedy: &'static str) -> Result<Library, NcclError> {
    let mut problem = None;
    for name in names {
        match Library::load(name) {
            Ok(library) => return Ok(library),
            Err(said) => problem = problem.or(Some(said)),
        }
    }
    Err(NcclError::NotFound { library: names.join(" or "), problem: problem.unwrap_or_default(), remedy })
}

fn lacks(library: &Library, function: &'static str, remedy: &'static str) -> NcclError {
    NcclError::NoFunction { library: library.name.clone(), function, remedy }
}

impl Opened {
    /// The version in the form 2.27.3; empty when NCCL does not tell.
    pub(super) fn version(&self) -> String {
        let mut code = 0;
        // SAFETY: writes one int.
        let status = unsafe { (self.nccl.version)(&raw mut code) };
        if status == SUCCESS { crate::devices::nccl_version(code) } else { String::new() }
    }

    /// What NCCL says of a status; `None` for one that is no failure.
    pub(super) fn failure(&self, status: c_int) -> Option<String> {
        if status == SUCCESS || status == IN_PROGRESS {
            return None;
        }
        // SAFETY: NCCL returns a string of its own for every status.
        let text = unsafe {
            let text = (self.nccl.explain)(status);
            if text.is_null() { None } else { Some(CStr::from_ptr(text).to_string_lossy().into_owned()) }
        };
        Some(text.unwrap_or_else(|| format!("status {status}")))
    }

    /// A new unique id.
    pub(super) fn unique_id(&self) -> Result<UniqueId, NcclError> {
        let mut id = UniqueId([0; 128]);
        // SAFETY: writes one id.
        match self.failure(unsafe { (self.nccl.unique_id)(&raw mut id) }) {
            None => Ok(id),
            Some(problem) => Err(NcclError::Call { call: "ncclGetUniqueId", problem }),
        }
    }
}
