//! Reading an ONNX file, and the files beside it that hold its weights.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use crate::error::ZooError;

/// Largest file that is read: protocol buffers end at 2 GiB, and larger weights lie in other files.
pub(super) const MAX_BYTES: u64 = 1 << 31;
/// Most bytes of one tensor that is read while the graph is.
const MAX_TENSOR_BYTES: u64 = 1 << 28;

/// Reads a whole file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, ZooError> {
    let io = |source| ZooError::Io { path: path.to_owned(), source };
    let size = std::fs::metadata(path).map_err(io)?.len();
    if size > MAX_BYTES {
        return Err(ZooError::Onnx {
            origin: path.display().to_string(),
            node: "(whole file)".to_owned(),
            problem: format!(
                "has {size} bytes, and an ONNX file at most {MAX_BYTES}: save its weights as external data"
            ),
        });
    }
    std::fs::read(path).map_err(io)
}

/// The file of external data, which must lie beside the graph.
pub(super) fn external_path(folder: &Path, location: &str) -> Result<PathBuf, String> {
    let relative = Path::new(location);
    let inside = !location.is_empty() && relative.components().all(|part| matches!(part, Component::Normal(_)));
    if inside {
        Ok(folder.join(relative))
    } else {
        Err(format!("external data at '{location}', which is not beside the file"))
    }
}

/// Part of a file of external data; without a length, up to its end.
pub(super) fn read_external(
    folder: Option<&Path>,
    location: &str,
    offset: u64,
    length: Option<u64>,
) -> Result<Vec<u8>, String> {
    let folder = folder.ok_or("external data of a graph that was not read from a file")?;
    let path = external_path(folder, location)?;
    let cannot = |error: std::io::Error| format!("{}: cannot read: {error}", path.display());
    let mut file = File::open(&path).map_err(cannot)?;
    let size = file.metadata().map_err(cannot)?.len();
    let length = length.unwrap_or_else(|| size.saturating_sub(offset));
    if offset.checked_add(length).is_none_or(|end| end > size) || length > MAX_TENSOR_BYTES {
        return Err(format!("{}: has {size} bytes, and {length} are wanted from {offset}", path.display()));
    }
    file.seek(SeekFrom::Start(offset)).map_err(cannot)?;
    let mut bytes = vec![0; length as usize];
    file.read_exact(&mut bytes).map_err(cannot)?;
    Ok(bytes)
}
