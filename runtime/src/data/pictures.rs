//! Pictures with their classes, in the standard formats of small data sets.

use std::path::{Path, PathBuf};

use super::error::DataError;
use super::read::DataFile;

/// Magic number of an IDX file of unsigned bytes with three axes, and with one.
const IDX_PICTURES: [u8; 4] = [0, 0, 8, 3];
const IDX_LABELS: [u8; 4] = [0, 0, 8, 1];
/// A record of the binary version of CIFAR-10: a label, then 32 x 32 pixels of red, of green and of blue.
const CIFAR_PICTURE: usize = 3 * 32 * 32;
const CIFAR_CLASSES: u8 = 10;

/// Pictures of one size; labels are held in memory, pixels are read when they are needed.
#[derive(Debug)]
pub struct Pictures {
    name: String,
    /// Channels, height, width.
    shape: [usize; 3],
    labels: Vec<u8>,
    files: Vec<PictureFile>,
    /// Where labels stand, for errors: the file, and the offset of the first.
    label_file: String,
    label_offset: u64,
}

#[derive(Debug)]
struct PictureFile {
    file: DataFile,
    /// Number of its first picture among all.
    first: usize,
    /// Bytes before the first picture, and from one picture to the next.
    offset: u64,
    stride: u64,
}

impl Pictures {
    /// MNIST's format (LeCun, Cortes and Burges 1998): a file of pictures and one of labels.
    ///
    /// # Errors
    /// [`DataError::Read`]; [`DataError::Malformed`]: another magic number, a truncated file, another number of labels.
    pub fn idx(pictures: &Path, labels: &Path) -> Result<Self, DataError> {
        let file = DataFile::open(pictures)?;
        let [count, height, width] = idx_header(&file, IDX_PICTURES)?;
        let label_file = DataFile::open(labels)?;
        let [label_count] = idx_header(&label_file, IDX_LABELS)?;
        if label_count != count {
            let problem = format!("{label_count} labels, but {} has {count} pictures", file.name());
            return Err(label_file.refuse(4, problem, "name the labels of these pictures with --labels"));
        }
        let labels = label_file.read(8, count)?;
        let (name, label_file) = (file.name().to_owned(), label_file.name().to_owned());
        let files = vec![PictureFile { file, first: 0, offset: 16, stride: (height * width) as u64 }];
        Self { name, shape: [1, height, width], labels, files, label_file, label_offset: 8 }.checked()
    }

    /// The binary version of CIFAR-10 (Krizhevsky 2009): a file, or a folder with files `data_batch_*.bin`.
    ///
    /// # Errors
    /// [`DataError::Read`]; [`DataError::Malformed`]: a truncated record, a label above 9.
    pub fn cifar10(path: &Path) -> Result<Self, DataError> {
        let (mut labels, mut files) = (Vec::new(), Vec::new());
        for path in cifar_files(path)? {
            let file = DataFile::open(&path)?;
            let first = labels.len();
            labels.extend(cifar_labels(&file)?);
            files.push(PictureFile { file, first, offset: 1, stride: CIFAR_PICTURE as u64 + 1 });
        }
        let name = path.display().to_string();
        Self { label_file: name.clone(), name, shape: [3, 32, 32], labels, files, label_offset: 0 }.checked()
    }

    fn checked(self) -> Result<Self, DataError> {
        if self.labels.is_empty() { Err(DataError::Empty { path: self.name }) } else { Ok(self) }
    }

    /// What errors call it: the path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Channels, height and width of a picture.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// The class of every picture.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// Refuses a label that the model has no class for.
    pub(super) fn check_classes(&self, classes: u64) -> Result<(), DataError> {
        let Some(index) = self.labels.iter().position(|label| u64::from(*label) >= classes) else { return Ok(()) };
        Err(DataError::Malformed {
            path: self.label_file.clone(),
            offset: self.label_offset + index as u64,
            problem: format!("label {}, but the model has {classes} classes", self.labels[index]),
            remedy: "make the model with a larger --vocab",
        })
    }

    /// The pixels of a picture, channel by channel, each row by row.
    ///
    /// # Errors
    /// [`DataError::Malformed`] when the file has become shorter.
    pub(super) fn pixels(&self, index: usize) -> Result<Vec<u8>, DataError> {
        let place = self.files.partition_point(|file| file.first <= index) - 1;
        let PictureFile { file, first, offset, stride } = &self.files[place];
        file.read(offset + (index - first) as u64 * stride, self.shape.iter().product())
    }
}

/// The extents in the header of an IDX file, of which the whole body is there.
fn idx_header<const AXES: usize>(file: &DataFile, magic: [u8; 4]) -> Result<[usize; AXES], DataError> {
    let start = file.read(0, 4)?;
    if start.starts_with(&[0x1f, 0x8b]) {
        return Err(file.refuse(0, "a gzip file".into(), "unpack it with gunzip"));
    }
    if start != magic {
        let problem = format!("the magic number {start:02x?}, an IDX file of this kind has {magic:02x?}");
        return Err(file.refuse(0, problem, "choose another --data-format, or name the labels with --labels"));
    }
    let header = file.read(4, 4 * AXES)?;
    let mut extents = [0; AXES];
    for (extent, bytes) in extents.iter_mut().zip(header.chunks_exact(4)) {
        *extent = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
    }
    let body = extents.iter().try_fold(1u64, |product, extent| product.checked_mul(*extent as u64));
    let (begin, there) = (4 + 4 * AXES as u64, file.bytes() - 4 - 4 * AXES as u64);
    if body.is_none_or(|body| body > there) {
        let problem = format!("the extents {extents:?} tell of more than the {there} bytes that are there");
        return Err(file.refuse(begin + there, problem, "the file is truncated: fetch it again"));
    }
    Ok(extents)
}

fn cifar_files(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let refuse = |source| DataError::Read { path: path.display().to_string(), source };
    let is_batch = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.starts_with("data_batch_") && path.extension().is_some_and(|extension| extension == "bin")
    };
    let entries = std::fs::read_dir(path).map_err(refuse)?.collect::<Result<Vec<_>, _>>().map_err(refuse)?;
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).filter(is_batch).collect();
    files.sort();
    Ok(files)
}

fn cifar_labels(file: &DataFile) -> Result<Vec<u8>, DataError> {
    let record = CIFAR_PICTURE as u64 + 1;
    let (count, rest) = (file.bytes() / record, file.bytes() % record);
    if rest != 0 {
        let problem = format!("the last picture has {rest} of {record} bytes");
        return Err(file.refuse(count * record, problem, "the file is truncated, or no CIFAR-10 file: fetch it again"));
    }
    let label = |index: u64| {
        let label = file.read(index * record, 1)?[0];
        if label < CIFAR_CLASSES {
            return Ok(label);
        }
        let problem = format!("label {label}, but CIFAR-10 has {CIFAR_CLASSES} classes");
        Err(file.refuse(index * record, problem, "the file is damaged, or no CIFAR-10 file: fetch it again"))
    };
    (0..count).map(label).collect()
}
