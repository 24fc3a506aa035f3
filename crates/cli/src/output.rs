//! Where results go: JSON on standard output, files in an output folder.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;

/// Prints a value as JSON.
pub(crate) fn print_json<T: Serialize>(value: &T) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Makes sure that `folder` exists and can be written, before any long work is done for it.
pub(crate) fn prepare_folder(folder: &Path) -> Result<()> {
    let advice = || format!("{}: cannot write here; choose another folder with --out", folder.display());
    std::fs::create_dir_all(folder).with_context(advice)?;
    tempfile::Builder::new().prefix(".cutplane-").tempfile_in(folder).with_context(advice)?;
    Ok(())
}

/// As [`prepare_folder`], for the folder of a file.
pub(crate) fn prepare_file(file: &Path) -> Result<()> {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    prepare_folder(parent)
}

/// `out/DAY-NAME`, unless the user named a folder.
pub(crate) fn default_folder(given: Option<&PathBuf>, day: &str, name: &str) -> PathBuf {
    let safe: String = name.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    given.cloned().unwrap_or_else(|| Path::new("out").join(format!("{day}-{safe}")))
}
