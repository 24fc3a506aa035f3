//! The run-time compiler of CUDA C++, and the headers that it needs.

use std::ffi::c_int;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::CudaVersion;
use super::library::Library;

/// Names under which Burn's CUDA back end finds NVRTC, in its order. Built for CUDA 13, it knows that release by
/// number.
const NAMES: [&str; 4] = ["libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11"];
/// What kernels of training include: half precision, tensor cores, asynchronous copies. A kernel that misses one is
/// not refused but passed over, for a slower one. PyPI spreads them over several packages.
const HEADERS: [&str; 5] = ["cuda_fp16.h", "cuda_bf16.h", "mma.h", "crt/mma.h", "cuda/barrier"];
/// The folder of the C++ library, beside which CUDA 13 no longer puts its files.
const LIBRARY: &str = "cccl";

type Version = unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int;

/// NVRTC, found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Nvrtc {
    /// Under which name.
    pub library: String,
    /// The CUDA release that it belongs to.
    pub cuda: CudaVersion,
}

/// The folder of CUDA headers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Headers {
    /// No CUDA folder.
    Absent,
    /// A CUDA folder without the headers.
    Incomplete {
        /// Where they were looked for.
        folder: PathBuf,
        /// The first that is missing.
        missing: String,
    },
    /// All there.
    Present {
        /// Where.
        folder: PathBuf,
    },
}

/// Looks for NVRTC.
pub(super) fn nvrtc() -> Option<Nvrtc> {
    let library = Library::open(&NAMES)?;
    // SAFETY: the signature of `nvrtcVersion` in nvrtc.h.
    let version: Version = unsafe { library.function("nvrtcVersion") }?;
    let (mut major, mut minor) = (0, 0);
    // SAFETY: writes two ints.
    let status = unsafe { version(&raw mut major, &raw mut minor) };
    let cuda = CudaVersion { major: major as u32, minor: minor as u32 };
    (status == 0).then_some(Nvrtc { library: library.name, cuda })
}

/// Looks for the headers where Burn's CUDA back end does: the folder that `CUDA_PATH` names, else the usual ones.
pub(super) fn headers() -> Headers {
    let usual = || {
        let usual = ["/usr/local/cuda", "/opt/cuda"].into_iter().map(PathBuf::from).find(|path| path.exists());
        usual.or_else(|| Path::new("/usr/bin/nvcc").exists().then(|| PathBuf::from("/usr")))
    };
    match std::env::var_os("CUDA_PATH").map(PathBuf::from).or_else(usual) {
        None => Headers::Absent,
        Some(root) => in_folder(root.join("include")),
    }
}

fn in_folder(folder: PathBuf) -> Headers {
    let is_there = |name: &str| folder.join(name).is_file() || folder.join(LIBRARY).join(name).is_file();
    match HEADERS.iter().find(|name| !is_there(name)) {
        None => Headers::Present { folder },
        Some(missing) => Headers::Incomplete { missing: (*missing).to_owned(), folder },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_lacks_the_first_header_that_is_not_there() {
        let folder = std::env::temp_dir().join(format!("cutplane-headers-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("writable");
        std::fs::write(folder.join("cuda_fp16.h"), "").expect("writable");
        let found = in_folder(folder.clone());
        assert_eq!(found, Headers::Incomplete { missing: "cuda_bf16.h".to_owned(), folder: folder.clone() });
        for name in ["cuda_bf16.h", "mma.h", "crt/mma.h", "cccl/cuda/barrier"] {
            let file = folder.join(name);
            std::fs::create_dir_all(file.parent().expect("inside the folder")).expect("writable");
            std::fs::write(file, "").expect("writable");
        }
        assert_eq!(in_folder(folder.clone()), Headers::Present { folder: folder.clone() });
        std::fs::remove_dir_all(folder).expect("removable");
    }
}
