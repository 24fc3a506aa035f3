//! Messages as a run sends and takes them: the buffers go from one rank's memory account to the other's.

use cutplane_plan::Rank;
use serde::Serialize;

use crate::backend::Backend;
use crate::comm::{Arrived, CommError, Communicator, Payload};
use crate::memory;

/// How tensors go from rank to rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transfers {
    /// Ranks on one card hand tensors over on the card, without a copy; all others go through the host.
    #[default]
    OnDevice,
    /// Every message and every sum goes through the host, also between ranks on one card.
    Staged,
}

/// The devices of all ranks, and how tensors go between them.
#[derive(Clone, Debug)]
pub(super) struct Roads {
    pub(super) backends: Vec<Backend>,
    pub(super) transfers: Transfers,
}

impl Roads {
    /// Whether tensors go between all these ranks without leaving the device, over a communicator that can carry handles.
    pub(super) fn on_device(&self, comm: &impl Communicator, ranks: &[Rank]) -> bool {
        let backend = |rank: &Rank| &self.backends[rank.index()];
        let one_device = ranks.iter().all(|rank| backend(rank).shares_device(backend(&ranks[0])));
        self.transfers == Transfers::OnDevice && comm.carries_handles() && one_device
    }
}

/// Hands `payload` over; its receiver will free what this rank has allocated. Where both ranks are on one device, the
/// payload is handles: the receiver's stream waits for the sender's, and nothing is copied.
pub(super) fn hand_over(
    comm: &impl Communicator,
    roads: &Roads,
    to: Rank,
    message: u64,
    payload: Payload,
) -> Result<(), CommError> {
    let here = roads.on_device(comm, &[comm.rank(), to]);
    let payload: Payload = payload.into_iter().map(|tensor| if here { tensor } else { tensor.staged() }).collect();
    for tensor in &payload {
        memory::release(tensor.bytes());
    }
    comm.send(to, message, payload)?.wait()?;
    Ok(())
}

/// Takes a message, when it has come.
pub(super) fn take(comm: &impl Communicator, from: Rank, message: u64) -> Result<Arrived<Payload>, CommError> {
    let arrived = comm.recv(from, message)?.wait()?;
    for tensor in &arrived.value {
        memory::adopt(tensor.bytes());
    }
    Ok(arrived)
}
