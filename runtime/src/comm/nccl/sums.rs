//! Sums of tensors that stay on the cards.

use burn::tensor::Tensor;
use cutplane_plan::Rank;

use super::clique::Numbers;
use super::library::data_type;
use super::pointer::Held;
use super::rank::Nccl;
use crate::comm::{CommError, Communicator, Payload};
use crate::tensor::{DeviceFloats, HostData, HostTensor};

const WHAT: &str = "all-reduce";

/// A tensor that is summed into another.
struct Sum {
    total: Tensor<2>,
    numbers: Numbers,
    /// Keep the memory of both where it is.
    _held: [Held; 2],
}

impl<C: Communicator> Nccl<C> {
    /// Replaces tensors by their sums over a group whose ranks have cards of their own.
    pub(super) fn sum_tensors(&self, group: &[Rank], tensors: &mut Payload) -> Result<(), CommError> {
        let floats = tensors.iter().map(HostTensor::elements).sum();
        self.on_cards(group, (WHAT, floats, None), || {
            let sums = tensors.iter().map(|tensor| self.prepare(tensor)).collect::<Result<Vec<_>, _>>()?;
            // Burn computes in streams that nobody else sees: what they have in hand must be done.
            if let Some(first) = sums.first() {
                let synced = first.total.device().sync();
                synced.map_err(|error| self.failed(WHAT, format!("{error:?}")))?;
            }
            let (clique, card) = (self.clique(group)?, self.card()?);
            for sum in &sums {
                // SAFETY: both tensors have as many numbers, and are held until the stream is idle.
                let started = unsafe { clique.all_reduce(sum.numbers) };
                started.map_err(|error| self.failed(WHAT, error.to_string()))?;
                self.wait(WHAT, group, || clique.is_settled())?;
            }
            self.wait(WHAT, group, || card.is_idle())?;
            for (tensor, sum) in tensors.iter_mut().zip(sums) {
                tensor.data = HostData::Device(DeviceFloats(sum.total));
            }
            Ok(())
        })?;
        Ok(())
    }

    /// A tensor, and a fresh one for its sum: the memory of the first may be shared with other handles to it.
    fn prepare(&self, tensor: &HostTensor) -> Result<Sum, CommError> {
        let failed = |problem: String| self.failed(WHAT, problem);
        let HostData::Device(DeviceFloats(floats)) = &tensor.data else {
            return Err(failed("a tensor that is not on the card".to_owned()));
        };
        let dtype = floats.dtype();
        let kind = data_type(dtype).ok_or_else(|| failed(format!("{dtype:?} is not summed")))?;
        let total = Tensor::<2>::empty(floats.dims(), (&floats.device(), dtype));
        let (from, to) = (Held::of(floats.clone()).map_err(failed)?, Held::of(total.clone()).map_err(failed)?);
        let numbers = Numbers { from: from.address, to: to.address, count: tensor.elements(), kind };
        Ok(Sum { total, numbers, _held: [from, to] })
    }
}
