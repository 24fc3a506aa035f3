//! Values and weights on a device, and their way from and to the host.

use std::sync::Arc;

use burn::tensor::{Device, Gradients, Tensor, TensorData};
use cutplane_graph::Op;

use crate::backend::{Backend, Residence};
use crate::error::RuntimeError;
use crate::tensor::{HostData, HostTensor, matrix_dims};

/// Floats of any shape, held as a matrix.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    /// The shape that the graph knows, the batch axis first.
    pub(crate) shape: Vec<usize>,
    /// `[product of all axes but the last, last axis]`.
    pub(crate) rows: Tensor<2>,
}

/// Integers of any shape, held flat and on the host: they are checked before a kernel reads them.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    /// The shape that the graph knows.
    pub(crate) shape: Vec<usize>,
    /// `[product of all axes]`.
    pub(crate) ids: Arc<[i32]>,
}

/// A value of the graph on the device. Values are few and short-lived: the larger variant is not boxed.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant)]
pub(crate) enum Value {
    /// Gradients flow through it.
    Float(Matrix),
    /// Token ids or targets.
    Int(Tokens),
}

/// A parameter on the device: a leaf of the recorded history.
#[derive(Clone, Debug)]
pub(crate) enum Weight {
    /// Biases and norm scales.
    Vector(Tensor<1>),
    /// Everything else: all axes but the last are rows.
    Matrix(Tensor<2>),
}

impl Matrix {
    /// Length of the sequence axis, the one before the last.
    pub(crate) fn sequence(&self) -> usize {
        self.shape.len().checked_sub(2).map_or(1, |axis| self.shape[axis])
    }

    /// A tensor of any rank as the value of `shape`.
    pub(crate) fn shaped<const D: usize>(shape: Vec<usize>, tensor: Tensor<D>) -> Self {
        Self { rows: tensor.reshape(matrix_dims(&shape)), shape }
    }

    /// The numbers with other extents.
    pub(crate) fn tensor<const D: usize>(&self, dims: [usize; D]) -> Tensor<D> {
        self.rows.clone().reshape(dims)
    }

    /// The product of the extents before `axis`, its extent, and the product of those after it.
    pub(crate) fn around(&self, axis: usize) -> [usize; 3] {
        let (before, after) = (&self.shape[..axis], &self.shape[axis + 1..]);
        [before.iter().product(), self.shape[axis], after.iter().product()]
    }

    /// The same shape with other numbers.
    pub(crate) fn map(self, function: impl FnOnce(Tensor<2>) -> Tensor<2>) -> Self {
        Self { shape: self.shape, rows: function(self.rows) }
    }

    /// The numbers without their history, for the outside of the segment: copied to the host, or as a handle where they
    /// stay on the device.
    pub(crate) fn leave(&self, backend: &Backend) -> HostTensor {
        let (shape, plain) = (self.shape.clone(), self.rows.clone().inner());
        match backend.residence() {
            Residence::Host => HostTensor { shape, data: HostData::F32(floats(plain)) },
            Residence::Device => HostTensor::on_device(shape, plain),
        }
    }
}

impl Tokens {
    /// The numbers, for the outside of the segment.
    pub(crate) fn leave(&self) -> HostTensor {
        HostTensor { shape: self.shape.clone(), data: HostData::I32(self.ids.to_vec()) }
    }
}

impl Value {
    /// Puts a tensor on the device of `backend`, in its precision, without history.
    pub(crate) fn enter(tensor: HostTensor, backend: &Backend) -> Self {
        let dims = tensor.matrix_dims();
        let shape = tensor.shape;
        match tensor.data {
            HostData::I32(data) => Self::Int(Tokens { shape, ids: data.into() }),
            floats => Self::Float(Matrix { shape, rows: floats.on_device(dims, backend) }),
        }
    }

    /// The numbers without their history, for the outside of the segment.
    pub(crate) fn leave(&self, backend: &Backend) -> HostTensor {
        match self {
            Self::Float(matrix) => matrix.leave(backend),
            Self::Int(tokens) => tokens.leave(),
        }
    }

    /// The floats; `None` for integers.
    pub(crate) fn float(self) -> Option<Matrix> {
        match self {
            Self::Float(matrix) => Some(matrix),
            Self::Int(_) => None,
        }
    }

    /// The same value as the start of a history: a leaf whose gradient is kept when `require_grad` is set.
    pub(crate) fn recorded(self, require_grad: bool) -> Self {
        let record = |rows| {
            let rows = Tensor::from_inner(rows);
            if require_grad { rows.require_grad() } else { rows }
        };
        match self {
            Self::Float(matrix) => Self::Float(matrix.map(record)),
            tokens @ Self::Int(_) => tokens,
        }
    }

    /// The floats of an input of `op`.
    pub(crate) fn matrix(self, op: &Op) -> Result<Matrix, RuntimeError> {
        match self {
            Self::Float(matrix) => Ok(matrix),
            Self::Int(_) => Err(wrong_type(op, "floats", "integers")),
        }
    }

    /// The integers of an input of `op`.
    pub(crate) fn tokens(self, op: &Op) -> Result<Tokens, RuntimeError> {
        match self {
            Self::Int(tokens) => Ok(tokens),
            Self::Float(_) => Err(wrong_type(op, "integers", "floats")),
        }
    }
}

fn wrong_type(op: &Op, want: &str, got: &str) -> RuntimeError {
    RuntimeError::Value { value: op.name.clone(), problem: format!("takes {want}, got {got}") }
}

impl Weight {
    /// Copies a parameter of the given shape to `device` and makes it a leaf.
    pub(crate) fn leaf(shape: &[usize], data: TensorData, device: &Device) -> Self {
        if shape.len() == 1 {
            return Self::Vector(Tensor::from_data(data, device).require_grad());
        }
        let (bytes, _, dtype) = data.into_parts();
        let data = TensorData::from_bytes(bytes, matrix_dims(shape), dtype);
        Self::Matrix(Tensor::from_data(data, device).require_grad())
    }

    /// The vector; a graph that built gives each operator parameters of the rank that it takes.
    pub(crate) fn vector(&self) -> Tensor<1> {
        match self {
            Self::Vector(tensor) => tensor.clone(),
            Self::Matrix(_) => unreachable!("OpKind::params gives the rank"),
        }
    }

    /// The matrix.
    pub(crate) fn matrix(&self) -> Tensor<2> {
        match self {
            Self::Matrix(tensor) => tensor.clone(),
            Self::Vector(_) => unreachable!("OpKind::params gives the rank"),
        }
    }

    /// Either as a matrix.
    pub(crate) fn rows(&self) -> Tensor<2> {
        match self {
            Self::Vector(tensor) => as_rows(tensor.clone()),
            Self::Matrix(tensor) => tensor.clone(),
        }
    }

    /// The gradient of this leaf as a matrix, taken out of `gradients`; `None` when the backward pass did not reach it.
    pub(crate) fn take_gradient(&self, gradients: &mut Gradients) -> Option<Tensor<2>> {
        match self {
            Self::Vector(tensor) => tensor.grad_remove(gradients).map(as_rows),
            Self::Matrix(tensor) => tensor.grad_remove(gradients),
        }
    }

    /// The gradient of this leaf on the host, taken out of `gradients`.
    pub(crate) fn take_host_gradient(&self, gradients: &mut Gradients) -> Option<Vec<f32>> {
        match self {
            Self::Vector(tensor) => tensor.grad_remove(gradients).map(floats),
            Self::Matrix(tensor) => tensor.grad_remove(gradients).map(floats),
        }
    }

    /// Takes the tensor out and leaves an empty one.
    pub(crate) fn take(&mut self) -> Self {
        let device = match self {
            Self::Vector(tensor) => tensor.device(),
            Self::Matrix(tensor) => tensor.device(),
        };
        std::mem::replace(self, Self::Vector(Tensor::empty([0], &device)))
    }

    /// The same numbers without history.
    pub(crate) fn plain(&self) -> Self {
        match self {
            Self::Vector(tensor) => Self::Vector(tensor.clone().inner()),
            Self::Matrix(tensor) => Self::Matrix(tensor.clone().inner()),
        }
    }

    /// The same numbers as part of a history that no gradient comes back for.
    pub(crate) fn fixed(&self) -> Self {
        match self.plain() {
            Self::Vector(tensor) => Self::Vector(Tensor::from_inner(tensor)),
            Self::Matrix(tensor) => Self::Matrix(Tensor::from_inner(tensor)),
        }
    }

    /// The numbers as a matrix without history.
    pub(crate) fn into_rows(self) -> Tensor<2> {
        match self {
            Self::Vector(tensor) => as_rows(tensor.inner()),
            Self::Matrix(tensor) => tensor.inner(),
        }
    }

    /// A leaf of `shape` from a matrix without history.
    pub(crate) fn leaf_of_rows(shape: &[usize], rows: Tensor<2>) -> Self {
        match shape {
            [length] => Self::Vector(Tensor::from_inner(rows.reshape([*length])).require_grad()),
            _ => Self::Matrix(Tensor::from_inner(rows.reshape(matrix_dims(shape))).require_grad()),
        }
    }

    /// The numbers, without history; no copy when nothing else holds the tensor.
    pub(crate) fn into_data(self) -> TensorData {
        match self {
            Self::Vector(tensor) => tensor.inner().into_data(),
            Self::Matrix(tensor) => tensor.inner().into_data(),
        }
    }
}

fn as_rows(vector: Tensor<1>) -> Tensor<2> {
    let [length] = vector.dims();
    vector.reshape([1, length])
}

/// The numbers of a plain tensor; no copy when nothing else holds it.
pub(crate) fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("floats are f32 on this back end")
}

/// A plain tensor of the given numbers, without a copy.
pub(crate) fn from_floats<const D: usize>(data: Vec<f32>, dims: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(data, dims), device)
}
