//! Where a number was made: enough to make it again.

use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// Circumstances of a measurement or prediction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// When, UTC, RFC 3339.
    pub date: String,
    /// Version of this tool.
    pub tool_version: String,
    /// Commit of the working tree that the tool was started in, `-dirty` when it had changes, empty when unknown.
    pub commit: String,
    /// Host name.
    pub host: String,
    /// Operating system.
    pub os: String,
    /// Processor model.
    pub cpu_model: String,
    /// Logical processors.
    pub cpus: usize,
    /// The command line.
    pub command: String,
}

impl Provenance {
    /// Reads the circumstances of this process.
    pub fn capture() -> Self {
        let system = sysinfo::System::new_with_specifics(
            sysinfo::RefreshKind::nothing().with_cpu(sysinfo::CpuRefreshKind::nothing()),
        );
        let mut words = std::env::args();
        let program = words.next().unwrap_or_default();
        let program =
            Path::new(&program).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Self {
            date: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: commit(),
            host: sysinfo::System::host_name().unwrap_or_default(),
            os: sysinfo::System::long_os_version().unwrap_or_default(),
            cpu_model: system.map(|system| cpu_model(&system)).unwrap_or_default(),
            cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            command: std::iter::once(program).chain(words).collect::<Vec<_>>().join(" "),
        }
    }

    /// The day, `YYYY-MM-DD`.
    pub fn day(&self) -> &str {
        self.date.get(..10).unwrap_or(&self.date)
    }
}

fn cpu_model(system: &sysinfo::System) -> String {
    system.cpus().first().map(|cpu| cpu.brand().trim().to_owned()).unwrap_or_default()
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(hash) = git(&["rev-parse", "--short=12", "HEAD"]) else { return String::new() };
    let dirty = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|changes| !changes.is_empty());
    if dirty { format!("{hash}-dirty") } else { hash }
}
