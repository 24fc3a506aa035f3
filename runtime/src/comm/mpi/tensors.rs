//! Tensors as outlines and plain numbers.

use burn::tensor::{DType, TensorData};

use super::note::{Kind, Outline};
use super::raw::{Buffer, OnTheWay};
use crate::comm::Payload;
use crate::tensor::{HostData, HostTensor};

/// A message whose tensors are on their way.
pub(super) struct Coming {
    pub(super) outlines: Vec<Outline>,
    pub(super) tensors: Vec<OnTheWay>,
}

impl Coming {
    /// Whether all of it is there.
    pub(super) fn is_over(&mut self) -> Result<bool, String> {
        for tensor in &mut self.tensors {
            if !tensor.is_over()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What has come.
    pub(super) fn into_payload(self) -> Payload {
        let buffers = self.tensors.into_iter().filter_map(OnTheWay::into_buffer);
        self.outlines.into_iter().zip(buffers).filter_map(|(outline, buffer)| tensor(outline, buffer)).collect()
    }
}

/// Room for a tensor.
pub(super) fn room(outline: &Outline) -> Buffer {
    let elements = outline.shape.iter().product();
    match outline.kind {
        Kind::F32 => Buffer::Floats(vec![0.0; elements]),
        Kind::I32 => Buffer::Integers(vec![0; elements]),
        Kind::F16 | Kind::Bf16 => Buffer::Bytes(vec![0; 2 * elements]),
    }
}

/// The tensor of an outline and what has come for it.
fn tensor(outline: Outline, buffer: Buffer) -> Option<HostTensor> {
    let shape = outline.shape;
    let half = |bytes: Vec<u8>, dtype| HostData::Half(TensorData::from_bytes_vec(bytes, shape.clone(), dtype));
    let data = match (outline.kind, buffer) {
        (Kind::F32, Buffer::Floats(data)) => HostData::F32(data),
        (Kind::I32, Buffer::Integers(data)) => HostData::I32(data),
        (Kind::F16, Buffer::Bytes(data)) => half(data, DType::F16),
        (Kind::Bf16, Buffer::Bytes(data)) => half(data, DType::BF16),
        _ => return None,
    };
    Some(HostTensor { shape, data })
}

/// How a tensor is told of, and its numbers.
pub(super) fn parts(tensor: HostTensor) -> (Outline, Buffer) {
    let HostTensor { shape, data } = tensor.staged();
    let (kind, buffer) = match data {
        HostData::F32(data) => (Kind::F32, Buffer::Floats(data)),
        HostData::I32(data) => (Kind::I32, Buffer::Integers(data)),
        HostData::Half(data) => {
            let kind = if data.dtype() == DType::F16 { Kind::F16 } else { Kind::Bf16 };
            (kind, Buffer::Bytes(data.as_bytes().to_vec()))
        }
        HostData::Device(_) => unreachable!("a staged tensor is on the host"),
    };
    (Outline { kind, shape }, buffer)
}
