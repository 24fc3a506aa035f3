//! Tensors whose numbers are known while the graph is read: shapes, masks, tables of positions.

use std::rc::Rc;

use half::{bf16, f16};

use super::extent::{Extent, display};
use super::proto::{MAX_RANK, Tensor, TensorData};

/// Most elements of one constant.
const MAX_ELEMENTS: u64 = 1 << 24;

/// Numbers in row-major order; along an axis that holds the batch there are those of one sample.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Numbers {
    Ints(Rc<[Extent]>),
    Floats(Rc<[f32]>),
    Bools(Rc<[bool]>),
}

/// A constant tensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Constant {
    pub(super) dims: Vec<Extent>,
    pub(super) numbers: Numbers,
    /// Whether the samples differ in it, as their own numbers do; then those of the first sample are held, and they may
    /// be used to index a sample, but never to compute with one.
    pub(super) differs: bool,
}

/// Extents of the numbers that are stored.
pub(super) fn stored(dims: &[Extent]) -> Result<Vec<usize>, String> {
    if dims.len() > MAX_RANK {
        return Err(format!("a constant of {} axes; at most {MAX_RANK} are supported", dims.len()));
    }
    let mut product = 1u64;
    let mut list = Vec::with_capacity(dims.len());
    for extent in dims {
        let impossible = || format!("a constant cannot have the shape {}", display(dims));
        let size = u64::try_from(extent.coefficient).map_err(|_| impossible())?;
        product = product.saturating_mul(size.max(1));
        list.push(size as usize);
    }
    if product > MAX_ELEMENTS {
        return Err(format!("a constant of shape {} has more than {MAX_ELEMENTS} elements", display(dims)));
    }
    Ok(list)
}

impl Constant {
    pub(super) const fn new(dims: Vec<Extent>, numbers: Numbers) -> Self {
        Self { dims, numbers, differs: false }
    }

    /// Marked as different from sample to sample where `differs` says so, or where it was before.
    pub(super) fn differing(mut self, differs: bool) -> Self {
        self.differs |= differs;
        self
    }

    pub(super) fn ints(dims: Vec<Extent>, numbers: impl IntoIterator<Item = Extent>) -> Self {
        Self::new(dims, Numbers::Ints(numbers.into_iter().collect()))
    }

    pub(super) fn floats(dims: Vec<Extent>, numbers: impl IntoIterator<Item = f32>) -> Self {
        Self::new(dims, Numbers::Floats(numbers.into_iter().collect()))
    }

    pub(super) fn bools(dims: Vec<Extent>, numbers: impl IntoIterator<Item = bool>) -> Self {
        Self::new(dims, Numbers::Bools(numbers.into_iter().collect()))
    }

    /// A list of integers, such as a shape.
    pub(super) fn list(numbers: Vec<Extent>) -> Self {
        Self::ints(vec![Extent::known(numbers.len() as i64)], numbers)
    }

    /// Numbers that are stored.
    pub(super) fn len(&self) -> usize {
        match &self.numbers {
            Numbers::Ints(list) => list.len(),
            Numbers::Floats(list) => list.len(),
            Numbers::Bools(list) => list.len(),
        }
    }

    /// The numbers as integers that may be multiples of the batch.
    pub(super) fn extents(&self) -> Vec<Extent> {
        match &self.numbers {
            Numbers::Ints(list) => list.to_vec(),
            Numbers::Bools(list) => list.iter().map(|bit| Extent::known(i64::from(*bit))).collect(),
            Numbers::Floats(list) => list.iter().map(|x| Extent::known(*x as i64)).collect(),
        }
    }

    /// The numbers as integers that do not depend on the batch.
    pub(super) fn integers(&self) -> Result<Vec<i64>, String> {
        let refuse =
            |extent: &Extent| format!("{extent} is used where a number belongs that does not depend on the batch");
        self.extents().iter().map(|extent| extent.number().ok_or_else(|| refuse(extent))).collect()
    }

    /// The numbers as floats; those that depend on the batch are refused.
    pub(super) fn as_floats(&self) -> Result<Rc<[f32]>, String> {
        match &self.numbers {
            Numbers::Floats(list) => Ok(Rc::clone(list)),
            _ => Ok(self.integers()?.into_iter().map(|x| x as f32).collect()),
        }
    }

    pub(super) fn as_bools(&self) -> Rc<[bool]> {
        match &self.numbers {
            Numbers::Bools(list) => Rc::clone(list),
            Numbers::Floats(list) => list.iter().map(|x| *x != 0.0).collect(),
            Numbers::Ints(list) => list.iter().map(|extent| extent.coefficient != 0).collect(),
        }
    }

    /// The one number that all elements are, as a float.
    pub(super) fn uniform(&self) -> Option<f32> {
        let list = self.as_floats().ok()?;
        let first = *list.first()?;
        list.iter().all(|x| x.to_bits() == first.to_bits()).then_some(first)
    }

    /// The same numbers in another shape.
    pub(super) fn with_dims(&self, dims: Vec<Extent>) -> Result<Self, String> {
        if stored(&dims)?.iter().product::<usize>() != self.len() {
            return Err(format!("{} cannot be reshaped to {}", display(&self.dims), display(&dims)));
        }
        Ok(Self { dims, ..self.clone() })
    }

    /// Picks stored numbers by their indices.
    pub(super) fn picked(&self, dims: Vec<Extent>, indices: &[usize]) -> Result<Self, String> {
        fn pick<T: Clone>(list: &[T], indices: &[usize]) -> Result<Rc<[T]>, String> {
            let one = |index: &usize| list.get(*index).cloned().ok_or_else(|| "an index is outside".to_owned());
            indices.iter().map(one).collect()
        }
        let numbers = match &self.numbers {
            Numbers::Ints(list) => Numbers::Ints(pick(list, indices)?),
            Numbers::Floats(list) => Numbers::Floats(pick(list, indices)?),
            Numbers::Bools(list) => Numbers::Bools(pick(list, indices)?),
        };
        Ok(Self { dims, numbers, differs: self.differs })
    }

    /// The numbers of a tensor of the file; `read` gets those that lie in another file.
    pub(super) fn of(tensor: &Tensor<'_>, read: impl FnOnce() -> Result<Vec<u8>, String>) -> Result<Self, String> {
        let dims: Vec<Extent> = tensor.dims.iter().map(|dim| Extent::known(*dim as i64)).collect();
        let count: usize = stored(&dims)?.iter().product();
        let numbers = match &tensor.data {
            TensorData::Raw(bytes) => decode(tensor.element, bytes)?,
            TensorData::External { .. } => decode(tensor.element, &read()?)?,
            TensorData::Ints(list) => integers(tensor.element, list),
            TensorData::None => integers(tensor.element, &[]),
        };
        let constant = Self::new(dims, numbers);
        if constant.len() != count {
            let shape = display(&constant.dims);
            return Err(format!("the tensor '{}' of shape {shape} holds {} numbers", tensor.name, constant.len()));
        }
        Ok(constant)
    }
}

/// Integers of 16-bit floats are their bits.
fn integers(element: i64, list: &[i64]) -> Numbers {
    match element {
        1 | 11 => Numbers::Floats(list.iter().map(|x| *x as f32).collect()),
        9 => Numbers::Bools(list.iter().map(|x| *x != 0).collect()),
        10 => Numbers::Floats(list.iter().map(|bits| f16::from_bits(*bits as u16).to_f32()).collect()),
        16 => Numbers::Floats(list.iter().map(|bits| bf16::from_bits(*bits as u16).to_f32()).collect()),
        _ => Numbers::Ints(list.iter().map(|x| Extent::known(*x)).collect()),
    }
}

/// Little-endian numbers of an ONNX element type.
fn decode(element: i64, bytes: &[u8]) -> Result<Numbers, String> {
    fn list<const N: usize, T>(bytes: &[u8], number: impl Fn([u8; N]) -> T) -> Result<Rc<[T]>, String> {
        let (chunks, rest) = bytes.as_chunks::<N>();
        if rest.is_empty() {
            Ok(chunks.iter().map(|chunk| number(*chunk)).collect())
        } else {
            Err("data that ends inside a number".to_owned())
        }
    }
    let known = Extent::known;
    Ok(match element {
        1 => Numbers::Floats(list(bytes, f32::from_le_bytes)?),
        2 => Numbers::Ints(list(bytes, |[byte]: [u8; 1]| known(i64::from(byte)))?),
        3 => Numbers::Ints(list(bytes, |byte| known(i64::from(i8::from_le_bytes(byte))))?),
        4 => Numbers::Ints(list(bytes, |two| known(i64::from(u16::from_le_bytes(two))))?),
        5 => Numbers::Ints(list(bytes, |two| known(i64::from(i16::from_le_bytes(two))))?),
        6 => Numbers::Ints(list(bytes, |four| known(i64::from(i32::from_le_bytes(four))))?),
        7 | 13 => Numbers::Ints(list(bytes, |eight| known(i64::from_le_bytes(eight)))?),
        9 => Numbers::Bools(list(bytes, |[byte]: [u8; 1]| byte != 0)?),
        10 => Numbers::Floats(list(bytes, |two| f16::from_le_bytes(two).to_f32())?),
        11 => Numbers::Floats(list(bytes, |eight| f64::from_le_bytes(eight) as f32)?),
        12 => Numbers::Ints(list(bytes, |four| known(i64::from(u32::from_le_bytes(four))))?),
        16 => Numbers::Floats(list(bytes, |two| bf16::from_le_bytes(two).to_f32())?),
        other => return Err(format!("numbers of ONNX element type {other} cannot be read")),
    })
}

impl Constant {
    /// As floats.
    pub(super) fn as_floats_constant(&self) -> Result<Self, String> {
        Ok(Self { numbers: Numbers::Floats(self.as_floats()?), ..self.clone() })
    }

    /// `other` where this mask is zero, and zero elsewhere.
    pub(super) fn chosen_where_zero(&self, other: &Self) -> Result<Self, String> {
        let dims = super::extent::broadcast(&self.dims, &other.dims).ok_or("a choice of shapes that do not fit")?;
        let (mask, values) = (self.as_floats()?, other.as_floats()?);
        let (at, from) = (super::fold::spread(&self.dims, &dims)?, super::fold::spread(&other.dims, &dims)?);
        let one = |(at, from): (&usize, &usize)| if mask[*at] == 0.0 { values[*from] } else { 0.0 };
        let list: Vec<f32> = at.iter().zip(&from).map(one).collect();
        Ok(Self::floats(dims, list).differing(self.differs || other.differs))
    }

    /// The numbers of a constant whose axes before the last ones are 1, broadcast to `dims`.
    pub(super) fn spread_to(&self, dims: &[Extent]) -> Option<Rc<[f32]>> {
        let first = self.dims.len().saturating_sub(dims.len());
        let alone = self.dims[..first].iter().all(|extent| *extent == Extent::ONE || *extent == Extent::BATCH);
        let indices = super::fold::spread(&self.dims[first..], dims).ok().filter(|_| alone)?;
        let numbers = self.as_floats().ok()?;
        indices.iter().map(|at| numbers.get(*at).copied()).collect()
    }
}

impl Constant {
    /// Zero where true, `masked` elsewhere.
    pub(super) fn as_mask(&self, masked: f32) -> Self {
        let list: Vec<f32> = self.as_bools().iter().map(|kept| if *kept { 0.0 } else { masked }).collect();
        Self::floats(self.dims.clone(), list).differing(self.differs)
    }
}
