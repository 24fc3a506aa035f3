//! Files of token ids, as tools that tokenize ahead of training write them.

use std::path::Path;

use serde_json::Value;

use super::error::DataError;
use super::read::DataFile;

/// How a file holds token ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenFormat {
    /// 16-bit unsigned integers, little-endian, and nothing else (nanoGPT's `train.bin`).
    U16,
    /// 32-bit unsigned integers, little-endian, and nothing else.
    U32,
    /// A NumPy `.npy` file with one axis of `<u2`, `<u4` or `<i4`.
    Npy,
}

/// Token ids in a file, read window by window.
#[derive(Debug)]
pub struct TokenFile {
    file: DataFile,
    /// Where the first token stands, in bytes.
    first: u64,
    /// Bytes of a token: 2 or 4.
    width: u64,
    count: u64,
}

impl TokenFile {
    /// Opens a file and checks its form. Its ids are checked when they are read, as a file may be larger than memory.
    ///
    /// # Errors
    /// [`DataError::Read`], [`DataError::Empty`]; [`DataError::Malformed`], with the offset.
    pub fn open(path: &Path, format: TokenFormat) -> Result<Self, DataError> {
        let file = DataFile::open(path)?;
        if file.bytes() == 0 {
            return Err(DataError::Empty { path: file.name().to_owned() });
        }
        match format {
            TokenFormat::U16 => Self::flat(file, 2),
            TokenFormat::U32 => Self::flat(file, 4),
            TokenFormat::Npy => Self::npy(file),
        }
    }

    fn flat(file: DataFile, width: u64) -> Result<Self, DataError> {
        let (count, rest) = (file.bytes() / width, file.bytes() % width);
        if rest != 0 {
            let problem = format!("the last token has {rest} of {width} bytes");
            return Err(file.refuse(count * width, problem, "say how wide tokens are with --data-format u16 or u32"));
        }
        Ok(Self { file, first: 0, width, count })
    }

    fn npy(file: DataFile) -> Result<Self, DataError> {
        let (first, header) = npy_header(&file)?;
        let refuse = |problem: String| file.refuse(10, problem, "save one axis of np.uint16, np.uint32 or np.int32");
        let width = match field(&header, "descr").as_deref() {
            Some("<u2") => 2,
            Some("<u4" | "<i4") => 4,
            other => return Err(refuse(format!("numbers of type {}", other.unwrap_or("unknown")))),
        };
        let shape = shape(&header).ok_or_else(|| refuse("a header without a shape".into()))?;
        let [count] = shape[..] else { return Err(refuse(format!("{} axes", shape.len()))) };
        let present = (file.bytes() - first) / width;
        if present < count {
            let problem = format!("the header tells of {count} tokens, {present} are there");
            return Err(file.refuse(first + present * width, problem, "the file is truncated: save it again"));
        }
        Ok(Self { file, first, width, count })
    }

    /// What errors call it: its path.
    pub fn name(&self) -> &str {
        self.file.name()
    }

    /// Number of tokens.
    pub fn tokens(&self) -> u64 {
        self.count
    }

    /// `count` tokens from number `start` on, all below `vocab`.
    ///
    /// # Errors
    /// [`DataError::Malformed`]: the file has become shorter, or a token is beyond the vocabulary.
    pub(super) fn read(&self, start: u64, count: usize, vocab: u64) -> Result<Vec<i32>, DataError> {
        let offset = self.first + start * self.width;
        let bytes = self.file.read(offset, count * self.width as usize)?;
        let numbers = bytes.chunks_exact(self.width as usize).enumerate().map(|(index, bytes)| {
            let id = bytes.iter().rev().fold(0u32, |id, byte| id << 8 | u32::from(*byte));
            match i32::try_from(id) {
                Ok(token) if u64::from(id) < vocab => Ok(token),
                _ => Err(self.beyond(offset + index as u64 * self.width, id, vocab)),
            }
        });
        numbers.collect()
    }

    fn beyond(&self, offset: u64, id: u32, vocab: u64) -> DataError {
        let problem = format!("token {id}, but the model has a vocabulary of {vocab}");
        self.file.refuse(
            offset,
            problem,
            "make the model with a larger --vocab, or say how wide tokens are with --data-format",
        )
    }
}

/// Where the numbers begin, and the text of the header: NumPy's format, versions 1 to 3.
fn npy_header(file: &DataFile) -> Result<(u64, String), DataError> {
    let start = file.read(0, 10)?;
    if !start.starts_with(b"\x93NUMPY") {
        return Err(file.refuse(0, "no NumPy file".into(), "choose another --data-format"));
    }
    let (begin, length) = if start[6] == 1 {
        (10, u64::from(u16::from_le_bytes([start[8], start[9]])))
    } else {
        let long = file.read(8, 4)?;
        (12, u64::from(u32::from_le_bytes([long[0], long[1], long[2], long[3]])))
    };
    // NumPy itself refuses longer headers.
    if length > 10_000 {
        return Err(file.refuse(8, format!("a header of {length} bytes"), "save the array again"));
    }
    let header = file.read(begin, length as usize)?;
    Ok((begin + length, String::from_utf8_lossy(&header).into_owned()))
}

/// The text of a field of the header, which is a Python dictionary.
fn field(header: &str, name: &str) -> Option<String> {
    let (_, rest) = header.split_once(&format!("'{name}':"))?;
    Some(rest.split('\'').nth(1)?.to_owned())
}

fn shape(header: &str) -> Option<Vec<u64>> {
    let (_, rest) = header.split_once("'shape':")?;
    let inside = rest.split_once('(')?.1.split_once(')')?.0;
    let list: Value = serde_json::from_str(&format!("[{}]", inside.trim().trim_end_matches(','))).ok()?;
    list.as_array()?.iter().map(Value::as_u64).collect()
}
