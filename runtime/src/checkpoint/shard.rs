//! A file of tensors in the safetensors format, written and read part by part.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use sha2::{Digest as _, Sha256};

use super::error::CheckpointError;
use super::manifest::{ShardFile, hex};
use super::piece::Piece;

/// Numbers that are turned into bytes at once.
const BLOCK: usize = 16 << 10;

/// A piece with its numbers.
pub(crate) type Filled = (Piece, Vec<f32>);

/// Passes bytes on and sums them up.
struct Counted<W> {
    inner: W,
    sum: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(data)?;
        self.sum.update(&data[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Writes the tensors; returned are the length and the SHA-256.
pub(super) fn write_tensors(out: impl Write, tensors: &[Filled]) -> io::Result<(u64, String)> {
    let mut out = Counted { inner: out, sum: Sha256::new(), bytes: 0 };
    let header = header(tensors).map_err(io::Error::other)?;
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    for (_, numbers) in tensors {
        for block in numbers.chunks(BLOCK) {
            let bytes: Vec<u8> = block.iter().flat_map(|number| number.to_le_bytes()).collect();
            out.write_all(&bytes)?;
        }
    }
    out.flush()?;
    Ok((out.bytes, hex(&out.sum.finalize())))
}

/// The header, padded so that the numbers are aligned.
fn header(tensors: &[Filled]) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
    let mut end = 0;
    let info = |(piece, numbers): &Filled| {
        let begin = end;
        end += numbers.len() * 4;
        (piece.key(), TensorInfo { dtype: Dtype::F32, shape: piece.dims(), data_offsets: (begin, end) })
    };
    let metadata = Metadata::new(None, tensors.iter().map(info).collect())?;
    let mut header = serde_json::to_vec(&metadata)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

/// A file that has been checked.
#[derive(Debug)]
pub(super) struct Shard {
    path: PathBuf,
    file: File,
    /// Where the tensors begin.
    first: u64,
    metadata: Metadata,
}

impl Shard {
    /// Reads the whole file, compares it with what the manifest says of it, and keeps it open.
    pub(super) fn open(folder: &Path, facts: &ShardFile) -> Result<Self, CheckpointError> {
        let path = folder.join(&facts.file);
        let damaged = |problem: String| CheckpointError::Damaged { path: path.clone(), problem };
        let read = |source| CheckpointError::Read { path: path.clone(), source };
        if Path::new(&facts.file).components().count() != 1 {
            return Err(damaged("the manifest names a file of another folder".into()));
        }
        let file = File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => damaged("the file is missing".into()),
            _ => read(error),
        })?;
        let bytes = file.metadata().map_err(read)?.len();
        if bytes != facts.bytes {
            return Err(damaged(format!("the file has {bytes} bytes, the manifest says {}", facts.bytes)));
        }
        if sum(&file).map_err(read)? != facts.sha256 {
            return Err(damaged("the content does not have the checksum that the manifest says".into()));
        }
        let (first, metadata) = metadata(&file, bytes).map_err(|problem| damaged(problem.to_string()))?;
        Ok(Self { path, file, first, metadata })
    }

    /// The numbers of a piece.
    pub(super) fn read(&self, piece: &Piece) -> Result<Vec<f32>, CheckpointError> {
        let damaged = |problem: String| CheckpointError::Damaged { path: self.path.clone(), problem };
        let key = piece.key();
        let info = self.metadata.info(&key).ok_or_else(|| damaged(format!("it has no tensor '{key}'")))?;
        let (begin, end) = info.data_offsets;
        if info.dtype != Dtype::F32 || (end - begin) as u64 != 4 * piece.elements() {
            return Err(damaged(format!("tensor '{key}' is not the f32 numbers that the manifest says")));
        }
        let mut bytes = vec![0; end - begin];
        self.file.read_exact_at(&mut bytes, self.first + begin as u64).map_err(|error| damaged(error.to_string()))?;
        Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }
}

fn sum(file: &File) -> io::Result<String> {
    let (mut sum, mut reader) = (Sha256::new(), BufReader::with_capacity(1 << 18, file));
    let mut block = vec![0; 1 << 18];
    loop {
        match reader.read(&mut block)? {
            0 => return Ok(hex(&sum.finalize())),
            count => sum.update(&block[..count]),
        }
    }
}

fn metadata(file: &File, bytes: u64) -> Result<(u64, Metadata), Box<dyn std::error::Error>> {
    let mut length = [0; 8];
    file.read_exact_at(&mut length, 0)?;
    let length = u64::from_le_bytes(length);
    if length.saturating_add(8) > bytes {
        return Err("no safetensors file".into());
    }
    let mut header = vec![0; length as usize];
    file.read_exact_at(&mut header, 8)?;
    let metadata: Metadata = serde_json::from_slice(&header)?;
    Ok((8 + length, metadata))
}
