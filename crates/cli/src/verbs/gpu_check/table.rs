//! CSV tables that grow row by row; each row replaces the file in one step.

use std::path::Path;

use anyhow::{Context as _, Result};
use cutplane_plan::write_atomically;
use serde::Serialize;

/// Adds a row, and the header when the file is new.
pub(crate) fn append_row<T: Serialize>(path: &Path, row: &T) -> Result<()> {
    let mut text = if path.exists() {
        std::fs::read(path).with_context(|| format!("{}: cannot read", path.display()))?
    } else {
        Vec::new()
    };
    let mut writer = csv::WriterBuilder::new().has_headers(text.is_empty()).from_writer(Vec::new());
    writer.serialize(row)?;
    text.extend(writer.into_inner().map_err(csv::IntoInnerError::into_error)?);
    write_atomically(path, &text).with_context(|| format!("{}: cannot write", path.display()))
}
