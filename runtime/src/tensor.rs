//! Tensors outside of a segment: what travels between ranks.

use burn::tensor::{FloatDType, Tensor, TensorData};

use crate::backend::{Backend, Residence};

/// The numbers of a [`HostTensor`].
#[derive(Clone, Debug)]
pub enum HostData {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 32-bit integers: token ids and targets.
    I32(Vec<i32>),
    /// 16-bit floats, as the device had them.
    Half(TensorData),
    /// Floats that are still on the device that computed them: a handle, for a rank on the same device.
    Device(DeviceFloats),
}

/// Floats on a device, in the precision that its rank computes in.
#[derive(Clone, Debug)]
pub struct DeviceFloats(pub(crate) Tensor<2>);

impl PartialEq for HostData {
    /// Compares numbers; those on a device are fetched for it.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::F32(left), Self::F32(right)) => left == right,
            (Self::I32(left), Self::I32(right)) => left == right,
            (Self::Half(left), Self::Half(right)) => left == right,
            (Self::Device(left), Self::Device(right)) => left.0.clone().into_data() == right.0.clone().into_data(),
            _ => false,
        }
    }
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
            HostData::Half(_) | HostData::Device(_) => self.shape.iter().product(),
        }
    }

    /// Size on the host in bytes: nothing for numbers that are on a device.
    pub fn bytes(&self) -> u64 {
        match &self.data {
            HostData::F32(_) | HostData::I32(_) => self.elements() as u64 * 4,
            HostData::Half(_) => self.elements() as u64 * 2,
            HostData::Device(_) => 0,
        }
    }

    /// True for numbers that gradients flow through.
    pub fn is_float(&self) -> bool {
        !matches!(self.data, HostData::I32(_))
    }

    /// The same numbers on the host, in the precision that they have.
    #[must_use]
    pub fn staged(self) -> Self {
        let data = match self.data {
            HostData::Device(floats) if floats.0.dtype().size() == 2 => HostData::Half(floats.0.into_data()),
            HostData::Device(floats) => HostData::F32(numbers(floats.0)),
            host => host,
        };
        Self { shape: self.shape, data }
    }

    /// The same numbers where `backend` wants them between instructions: floats on its device, where they stay there.
    pub(crate) fn arrived(self, backend: &Backend) -> Self {
        if backend.residence() == Residence::Host || !self.is_float() {
            return self;
        }
        let dims = self.matrix_dims();
        Self::on_device(self.shape, self.data.on_device(dims, backend))
    }

    /// The floats in f32, wherever and in whatever precision they are; `None` for integers.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        match &self.data {
            HostData::F32(data) => Some(data.clone()),
            HostData::I32(_) => None,
            HostData::Half(data) => data.clone().convert::<f32>().try_into_vec().ok(),
            HostData::Device(floats) => Some(numbers(floats.0.clone())),
        }
    }

    /// The same without a copy, where they are in f32 on the host.
    pub(crate) fn into_f32(self) -> Option<Vec<f32>> {
        match self.data {
            HostData::F32(data) => Some(data),
            _ => self.to_f32(),
        }
    }

    /// Adds `more`, of the same shape; integers stay as they are. `backend` is where a sum with numbers on a device is
    /// made.
    pub(crate) fn add(&mut self, more: Self, backend: &Backend) {
        let dims = self.matrix_dims();
        match (&mut self.data, more.data) {
            (HostData::F32(sum), HostData::F32(more)) => {
                sum.iter_mut().zip(more).for_each(|(total, x)| *total += x);
            }
            (HostData::I32(_), _) => {}
            (sum, more) => {
                let left = sum.clone().on_device(dims, backend);
                self.data = HostData::Device(DeviceFloats(left + more.on_device(dims, backend)));
            }
        }
    }

    /// Extents as a matrix: the last axis, and the product of all others before it.
    pub(crate) fn matrix_dims(&self) -> [usize; 2] {
        matrix_dims(&self.shape)
    }

    /// A handle to floats that stay on their device.
    pub(crate) fn on_device(shape: Vec<usize>, floats: Tensor<2>) -> Self {
        Self { shape, data: HostData::Device(DeviceFloats(floats)) }
    }

    /// The floats; `None` for integers.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.data {
            HostData::F32(data) => Some(data),
            _ => None,
        }
    }

    /// The integers; `None` for floats.
    pub fn as_i32(&self) -> Option<&[i32]> {
        match &self.data {
            HostData::I32(data) => Some(data),
            _ => None,
        }
    }
}

impl HostData {
    /// Floats as a plain tensor of `dims` on the device of `backend`, in its precision; integers as zeros.
    pub(crate) fn on_device(self, dims: [usize; 2], backend: &Backend) -> Tensor<2> {
        let device = backend.device();
        match self {
            Self::F32(data) => {
                let data = TensorData::new(data, dims);
                backend.low(Tensor::from_data(data, (&device, FloatDType::F32.into())))
            }
            Self::Half(data) => {
                let dtype = data.dtype();
                backend.low(Tensor::from_data(data, (&device, dtype)))
            }
            Self::Device(floats) => floats.0.to_device(&device),
            Self::I32(_) => Tensor::zeros(dims, &device),
        }
    }
}

/// Extents of a tensor that is held as a matrix: the product of all axes but the last, and the last.
pub(crate) fn matrix_dims(shape: &[usize]) -> [usize; 2] {
    let width = shape.last().copied().unwrap_or(1).max(1);
    [shape.iter().product::<usize>() / width, width]
}

/// The numbers of a plain tensor in f32; no copy when they are f32 on the host and nothing else holds it.
pub(crate) fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_into_vec().expect("converted to f32")
}
