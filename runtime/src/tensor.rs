//! Tensors on the host: what travels between ranks.

/// The numbers of a [`HostTensor`].
#[derive(Clone, Debug, PartialEq)]
pub enum HostData {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 32-bit integers: token ids and targets.
    I32(Vec<i32>),
}

/// A dense tensor in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    /// Extents, the batch axis first; empty for one number.
    pub shape: Vec<usize>,
    /// The numbers, as many as the product of the extents.
    pub data: HostData,
}

impl HostTensor {
    /// A tensor of floats.
    ///
    /// # Panics
    /// When the number of elements does not fit the shape.
    pub fn f32(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Self {
        let shape = shape.into();
        assert_eq!(shape.iter().product::<usize>(), data.len(), "shape {shape:?}");
        Self { shape, data: HostData::F32(data) }
    }

    /// A tensor of integers.
    ///
    /// # Panics
    /// When the number of elements does not fit the shape.
    pub fn i32(shape: impl Into<Vec<usize>>, data: Vec<i32>) -> Self {
        let shape = shape.into();
        assert_eq!(shape.iter().product::<usize>(), data.len(), "shape {shape:?}");
        Self { shape, data: HostData::I32(data) }
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        match &self.data {
            HostData::F32(data) => data.len(),
            HostData::I32(data) => data.len(),
        }
    }

    /// Size in bytes; all element types have four.
    pub fn bytes(&self) -> u64 {
        self.elements() as u64 * 4
    }

    /// The floats; `None` for integers.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.data {
            HostData::F32(data) => Some(data),
            HostData::I32(_) => None,
        }
    }

    /// The integers; `None` for floats.
    pub fn as_i32(&self) -> Option<&[i32]> {
        match &self.data {
            HostData::I32(data) => Some(data),
            HostData::F32(_) => None,
        }
    }
}
