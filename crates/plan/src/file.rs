//! Plan files: JSON, checked for format and version before anything else is read.

use std::io::Write as _;
use std::path::Path;

use serde::Deserialize;

use crate::error::{PlanFileError, PlanViolation};
use crate::plan::{PLAN_FORMAT, PLAN_VERSION, Plan};

/// The two fields that every version has.
#[derive(Deserialize)]
struct Header {
    format: String,
    version: u32,
}

/// Reads a plan file.
///
/// # Errors
/// [`PlanFileError`], naming the file and the field.
pub fn read_plan(path: &Path) -> Result<Plan, PlanFileError> {
    let io = |source| PlanFileError::Io { path: path.to_owned(), action: "read", source };
    let json = |source| PlanFileError::Json { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(io)?;
    let header: Header = serde_json::from_str(&text).map_err(json)?;
    let refuse = |violation| Err(PlanFileError::Version { path: path.to_owned(), violation });
    if header.format != PLAN_FORMAT {
        return refuse(PlanViolation::Format { found: header.format });
    }
    if header.version != PLAN_VERSION {
        return refuse(PlanViolation::Version { found: header.version, expected: PLAN_VERSION });
    }
    serde_json::from_str(&text).map_err(json)
}

/// Writes a plan file: whole or not at all.
///
/// # Errors
/// [`PlanFileError::Io`] when the folder cannot be written.
pub fn write_plan(path: &Path, plan: &Plan) -> Result<(), PlanFileError> {
    let mut text =
        serde_json::to_string_pretty(plan).map_err(|source| PlanFileError::Json { path: path.to_owned(), source })?;
    text.push('\n');
    write_atomically(path, text.as_bytes()).map_err(|source| PlanFileError::Io {
        path: path.to_owned(),
        action: "write",
        source,
    })
}

/// Writes `contents` to a temporary file beside `path` and renames it, so that a reader sees the old file or the new
/// one and never half of either.
///
/// # Errors
/// Whatever the operating system says.
pub fn write_atomically(path: &Path, contents: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".cutplane-").tempfile_in(folder)?;
    file.write_all(contents)?;
    file.as_file().sync_all()?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
