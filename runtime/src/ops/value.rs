//! Values and weights on a device, and their way from and to the host.

use std::sync::Arc;

use burn::tensor::{Device, Gradients, Tensor, TensorData};
use cutplane_graph::Op;

use crate::error::RuntimeError;
use crate::tensor::{HostData, HostTensor};

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
    /// Everything else.
    Matrix(Tensor<2>),
}

impl Matrix {
    /// Length of the sequence axis, the one before the last.
    pub(crate) fn sequence(&self) -> usize {
        self.shape.len().checked_sub(2).map_or(1, |axis| self.shape[axis])
    }

    /// The same shape with other numbers.
    pub(crate) fn map(self, function: impl FnOnce(Tensor<2>) -> Tensor<2>) -> Self {
        Self { shape: self.shape, rows: function(self.rows) }
    }

    /// Copies a float tensor to `device`.
    pub(crate) fn from_host(shape: Vec<usize>, data: Vec<f32>, device: &Device) -> Self {
        let width = shape.last().copied().unwrap_or(1).max(1);
        let rows = Tensor::from_data(TensorData::new(data, [shape.iter().product::<usize>() / width, width]), device);
        Self { shape, rows }
    }

    /// Copies the numbers to the host, without their history.
    pub(crate) fn to_host(&self) -> HostTensor {
        HostTensor { shape: self.shape.clone(), data: HostData::F32(floats(self.rows.clone().inner())) }
    }
}

impl Value {
    /// Copies a tensor to `device`; floats become leaves whose gradient is kept when `require_grad` is set.
    pub(crate) fn from_host(tensor: HostTensor, device: &Device, require_grad: bool) -> Self {
        let shape = tensor.shape;
        match tensor.data {
            HostData::F32(data) => {
                let mut matrix = Matrix::from_host(shape, data, device);
                if require_grad {
                    matrix.rows = matrix.rows.require_grad();
                }
                Self::Float(matrix)
            }
            HostData::I32(data) => Self::Int(Tokens { shape, ids: data.into() }),
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
    /// Copies a parameter of rank one or two to `device` and makes it a leaf.
    pub(crate) fn leaf(shape: &[usize], data: TensorData, device: &Device) -> Self {
        match shape.len() {
            1 => Self::Vector(Tensor::from_data(data, device).require_grad()),
            _ => Self::Matrix(Tensor::from_data(data, device).require_grad()),
        }
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

    /// The gradient of this leaf, taken out of `gradients`; `None` when the backward pass did not reach it.
    pub(crate) fn take_gradient(&self, gradients: &mut Gradients) -> Option<Vec<f32>> {
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

    /// The numbers, without history; no copy when nothing else holds the tensor.
    pub(crate) fn into_data(self) -> TensorData {
        match self {
            Self::Vector(tensor) => tensor.inner().into_data(),
            Self::Matrix(tensor) => tensor.inner().into_data(),
        }
    }
}

/// The numbers of a plain tensor; no copy when nothing else holds it.
pub(crate) fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("floats are f32 on this back end")
}

/// A plain tensor of the given numbers, without a copy.
pub(crate) fn from_floats<const D: usize>(data: Vec<f32>, dims: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(data, dims), device)
}
