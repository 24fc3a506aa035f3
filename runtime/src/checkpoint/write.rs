//! Writing checkpoints, so that a half of one is never taken for one.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::CheckpointError;
use super::manifest::{Manifest, ShardFile};
use super::shard::{Filled, write_tensors};

/// What marks a file that is being written; with a dot before, it is no part of any checkpoint.
const PARTIAL: &str = ".partial";

/// Where files are written: the file system, or in a test something that fails as a file system may.
pub trait Storage: Debug + Send + Sync {
    /// Makes an empty file.
    ///
    /// # Errors
    /// What the system says.
    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>>;
}

/// A file being written.
pub trait StorageFile: Write {
    /// Returns when the content will survive a loss of power.
    ///
    /// # Errors
    /// What the system says.
    fn persist(&mut self) -> io::Result<()>;
}

/// The file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Storage for Disk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        Ok(Box::new(File::create(path)?))
    }
}

impl StorageFile for File {
    fn persist(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

/// Writes checkpoints into a folder and keeps the last few.
#[derive(Clone, Debug)]
pub struct CheckpointWriter {
    folder: PathBuf,
    keep: usize,
    storage: Arc<dyn Storage>,
}

impl CheckpointWriter {
    /// Writes into `folder`, which is made when it does not exist, and keeps the last `keep` checkpoints, at least one.
    ///
    /// # Errors
    /// [`CheckpointError::Write`] when the folder cannot be made.
    pub fn new(folder: &Path, keep: usize) -> Result<Self, CheckpointError> {
        std::fs::create_dir_all(folder).map_err(|source| failed(folder, "make the folder", source))?;
        Ok(Self { folder: folder.to_owned(), keep: keep.max(1), storage: Arc::new(Disk) })
    }

    /// The same with another way to write files.
    #[must_use]
    pub fn with_storage(self, storage: Arc<dyn Storage>) -> Self {
        Self { storage, ..self }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How many checkpoints are kept.
    pub(crate) fn keeps(&self) -> usize {
        self.keep
    }

    /// Writes the tensors of a rank; `None` when it has none.
    pub(crate) fn write_shard(
        &self,
        step: u64,
        rank: u32,
        tensors: Vec<Filled>,
    ) -> Result<Option<ShardFile>, CheckpointError> {
        if tensors.is_empty() {
            return Ok(None);
        }
        let partial = self.folder.join(format!(".step-{step:08}-rank-{rank}{PARTIAL}"));
        let (bytes, sha256) = self.write(&partial, |out| write_tensors(out, &tensors))?;
        let file = format!("step-{step:08}-rank-{rank}-{}.safetensors", &sha256[..16]);
        self.rename(&partial, &file)?;
        Ok(Some(ShardFile { file, bytes, sha256, pieces: tensors.into_iter().map(|(piece, _)| piece).collect() }))
    }

    /// Makes a checkpoint of files that are written, and drops those that are too old. Returned is the manifest's path.
    pub(crate) fn commit(&self, manifest: &Manifest) -> Result<PathBuf, CheckpointError> {
        let name = Manifest::file_name(manifest.step);
        let partial = self.folder.join(format!(".{name}{PARTIAL}"));
        let text = manifest.to_json().map_err(|error| failed(&partial, "write", error.into()))?;
        self.sync_folder()?;
        self.write(&partial, |out| out.write_all(text.as_bytes()))?;
        self.rename(&partial, &name)?;
        self.sync_folder()?;
        self.prune()?;
        Ok(self.folder.join(name))
    }

    fn write<T>(
        &self,
        path: &Path,
        content: impl FnOnce(&mut BufWriter<&mut Box<dyn StorageFile>>) -> io::Result<T>,
    ) -> Result<T, CheckpointError> {
        let written = || {
            let mut file = self.storage.create(path)?;
            let mut out = BufWriter::with_capacity(1 << 18, &mut file);
            let value = content(&mut out)?;
            out.flush()?;
            drop(out);
            file.persist()?;
            Ok(value)
        };
        written().map_err(|source| {
            // What is left of it takes room that the next try may need; it may not even be there.
            let _ = std::fs::remove_file(path);
            failed(path, "write", source)
        })
    }

    fn rename(&self, from: &Path, to: &str) -> Result<(), CheckpointError> {
        let to = self.folder.join(to);
        std::fs::rename(from, &to).map_err(|source| failed(&to, "rename a finished file to", source))
    }

    /// A name survives a loss of power when its folder has been synchronised.
    fn sync_folder(&self) -> Result<(), CheckpointError> {
        let synced = File::open(&self.folder).and_then(|folder| folder.sync_all());
        synced.map_err(|source| failed(&self.folder, "synchronise", source))
    }

    /// Removes the oldest manifests beyond those to keep, then every file of a checkpoint that no manifest names.
    fn prune(&self) -> Result<(), CheckpointError> {
        let refuse = |source| failed(&self.folder, "look for old checkpoints in", source);
        let manifests = manifests(&self.folder).map_err(refuse)?;
        let old = manifests.len().saturating_sub(self.keep);
        for (_, path) in &manifests[..old] {
            std::fs::remove_file(path).map_err(|source| failed(path, "remove", source))?;
        }
        let mut named = BTreeSet::new();
        for (_, path) in &manifests[old..] {
            // A damaged manifest keeps nothing, but neither is anything of it thrown away.
            let Ok(manifest) = Manifest::read(path) else { return Ok(()) };
            named.extend(manifest.files.into_iter().map(|file| file.file));
        }
        for entry in std::fs::read_dir(&self.folder).map_err(refuse)? {
            let path = entry.map_err(refuse)?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if is_ours(&name) && !named.contains(&name) {
                std::fs::remove_file(&path).map_err(|source| failed(&path, "remove", source))?;
            }
        }
        Ok(())
    }
}

/// Whether a file is numbers of a checkpoint, or what was left of one when its writer died.
fn is_ours(name: &str) -> bool {
    (name.starts_with("step-") && name.contains("-rank-") && name.ends_with(".safetensors"))
        || (name.starts_with(".step-") && name.ends_with(PARTIAL))
}

/// The manifests of a folder with their steps, the oldest first.
pub(super) fn manifests(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let step = name.strip_prefix("step-").and_then(|rest| rest.strip_suffix(".json"));
        if let Some(step) = step.and_then(|step| step.parse().ok()) {
            found.push((step, path));
        }
    }
    found.sort();
    Ok(found)
}

fn failed(path: &Path, action: &'static str, source: io::Error) -> CheckpointError {
    CheckpointError::Write { path: path.to_owned(), action, source }
}
