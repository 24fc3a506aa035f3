//! Files that are read part by part, so that they need not fit into memory.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::error::DataError;

/// An open file of known length.
#[derive(Debug)]
pub(super) struct DataFile {
    file: File,
    name: String,
    bytes: u64,
}

impl DataFile {
    pub(super) fn open(path: &Path) -> Result<Self, DataError> {
        let name = path.display().to_string();
        let refuse = |source| DataError::Read { path: name.clone(), source };
        let file = File::open(path).map_err(refuse)?;
        let bytes = file.metadata().map_err(refuse)?.len();
        Ok(Self { file, name, bytes })
    }

    /// What errors call it: its path.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Length when it was opened.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// `count` bytes from `offset` on.
    pub(super) fn read(&self, offset: u64, count: usize) -> Result<Vec<u8>, DataError> {
        if offset.saturating_add(count as u64) > self.bytes {
            let problem = format!("{count} bytes are expected here, the file ends at {}", self.bytes);
            return Err(self.refuse(offset, problem, "the file is truncated: fetch or convert it again"));
        }
        let mut buffer = vec![0; count];
        self.file
            .read_exact_at(&mut buffer, offset)
            .map_err(|error| self.refuse(offset, error.to_string(), "leave the file as it is while a run reads it"))?;
        Ok(buffer)
    }

    /// The error for something wrong at `offset`.
    pub(super) fn refuse(&self, offset: u64, problem: String, remedy: &'static str) -> DataError {
        DataError::Malformed { path: self.name.clone(), offset, problem, remedy }
    }
}
