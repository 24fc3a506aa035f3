//! Where the numbers of a Burn tensor lie on a card.

use std::any::Any;

use burn::tensor::Tensor;
use burn_cubecl::{Cube, CubeBackend};
use cubecl_cuda::CudaRuntime;
use cubecl_runtime::runtime::Runtime;

use super::library::Address;

/// The memory of a tensor, which stays where it is as long as this is kept.
pub(super) struct Held {
    pub(super) address: Address,
    _memory: Box<dyn Any>,
}

impl Held {
    /// The memory of a plain tensor on a card. What Burn has fused and not yet executed for it is executed; the card must be
    /// waited for before its numbers are read by anybody but Burn.
    pub(super) fn of(tensor: Tensor<2>) -> Result<Self, String> {
        let fused = tensor.try_into_primitive::<Cube>().map_err(|error| format!("no tensor of a card: {error:?}"))?;
        let tensor = fused.client.clone().resolve_tensor_float::<CubeBackend>(fused);
        if !tensor.is_contiguous() {
            return Err("a tensor with gaps between its rows".to_owned());
        }
        let memory = tensor.client.get_resource::<<CudaRuntime as Runtime>::Server>(tensor.handle.clone());
        let memory = memory.map_err(|error| format!("{error:?}"))?;
        let address = memory.resource().ptr;
        Ok(Self { address, _memory: Box::new((memory, tensor)) })
    }
}
