//! Distributed engines of others: NCCL and MPI.

use std::ffi::c_int;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::Serialize;

use super::library::{Getter, Library, get};

/// Names under which the CUDA back end looks for NCCL. The versioned name that packages install is not among them.
const NCCL: [&str; 1] = ["libnccl.so"];
const NCCL_VERSIONED: [&str; 1] = ["libnccl.so.2"];
const MPI: [&str; 5] = ["libmpi.so", "libmpi.so.40", "libmpi.so.12", "libmpich.so", "libmpich.so.12"];

/// What was found of NCCL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Nccl {
    /// Not on this machine.
    Absent,
    /// Only as `libnccl.so.2`, a name that is not looked for.
    OnlyVersioned,
    /// It loads.
    Present {
        /// Its version, such as `2.27.3`.
        version: String,
    },
}

/// What was found of MPI.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mpi {
    /// The launcher, when it is on the path.
    pub launcher: Option<PathBuf>,
    /// The first line of what the launcher says of itself.
    pub version: Option<String>,
    /// The library, when it loads.
    pub library: Option<String>,
}

/// Looks for NCCL.
pub(super) fn nccl() -> Nccl {
    let Some(library) = Library::open(&NCCL) else {
        return if Library::open(&NCCL_VERSIONED).is_some() { Nccl::OnlyVersioned } else { Nccl::Absent };
    };
    // SAFETY: the signature of `ncclGetVersion` in nccl.h.
    let version: Option<Getter<c_int>> = unsafe { library.function("ncclGetVersion") };
    Nccl::Present { version: get(version).map_or_else(|_| "unknown".to_owned(), nccl_version) }
}

/// `NCCL_VERSION_CODE` of nccl.h: 22703 is 2.27.3; before 2.9 it was 2804 for 2.8.4.
pub(crate) fn nccl_version(code: c_int) -> String {
    let (major, rest) = if code < 10_000 { (code / 1000, code % 1000) } else { (code / 10_000, code % 10_000) };
    format!("{major}.{}.{}", rest / 100, rest % 100)
}

/// Looks for MPI; nothing is started but the launcher's `--version`.
pub(super) fn mpi() -> Mpi {
    let launcher = ["mpirun", "mpiexec"].into_iter().find_map(on_path);
    let version = launcher.as_ref().and_then(|launcher| {
        let output = Command::new(launcher).arg("--version").stdin(Stdio::null()).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
    });
    Mpi { launcher, version, library: Library::open(&MPI).map(|library| library.name) }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::nccl_version;

    #[test]
    fn both_codings_of_the_version_are_read() {
        assert_eq!(nccl_version(23_007), "2.30.7");
        assert_eq!(nccl_version(2_804), "2.8.4");
    }
}
