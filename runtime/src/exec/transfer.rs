//! Messages as a run sends and takes them: the buffers go from one rank's memory account to the other's.

use cutplane_plan::Rank;
use serde::Serialize;

use super::options::RunOptions;
use super::run::unreachable_processes;
use crate::backend::Backend;
use crate::comm::{Arrived, CommError, Communicator, Ends, InProcess, Payload, join_cards};
use crate::error::RuntimeError;
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
    /// Ranks of a process.
    pub(super) share: usize,
    /// How sums between cards go, where there are several.
    pub(super) between_cards: Option<String>,
}

impl Roads {
    /// Ranks of one process, all on one device.
    pub(super) fn on_one(backend: &Backend, ranks: usize, transfers: Transfers) -> Self {
        Self { backends: vec![backend.clone(); ranks], transfers, share: ranks, between_cards: None }
    }

    /// The ranks of a process on each device that hands tensors over.
    pub(super) fn sharers(&self) -> Vec<Vec<Rank>> {
        let process = |rank: usize| rank / self.share.max(1);
        let mut devices: Vec<Vec<Rank>> = Vec::new();
        for (index, backend) in self.backends.iter().enumerate().filter(|(_, backend)| backend.shares_device(backend)) {
            let same = |ranks: &&mut Vec<Rank>| {
                let first = ranks[0].index();
                process(first) == process(index) && backend.shares_device(&self.backends[first])
            };
            match devices.iter_mut().find(same) {
                Some(ranks) => ranks.push(Rank(index as u32)),
                None => devices.push(vec![Rank(index as u32)]),
            }
        }
        devices
    }

    /// Whether tensors go between all these ranks without leaving the device, over a communicator that can carry handles.
    pub(super) fn on_device(&self, comm: &impl Communicator, ranks: &[Rank]) -> bool {
        let backend = |rank: &Rank| &self.backends[rank.index()];
        let one_device = ranks.iter().all(|rank| backend(rank).shares_device(backend(&ranks[0])));
        self.transfers == Transfers::OnDevice && comm.carries_handles() && one_device
    }
}

/// The ends of this process's ranks, and how sums between their cards go.
pub(super) fn world(backends: &[Backend], options: &RunOptions) -> Result<(Ends, Option<String>), RuntimeError> {
    let waiting = options.waiting(backends.len());
    let fail = |error| unreachable_processes(&error);
    let world = match &options.processes {
        Some(processes) => processes.world(backends.len(), waiting).map_err(fail)?,
        None => InProcess::world(backends.len(), waiting).into_iter().map(|end| Box::new(end) as _).collect(),
    };
    if options.transfers == Transfers::Staged {
        return Ok((world, None));
    }
    let cards: Vec<Option<usize>> = backends.iter().map(Backend::card).collect();
    join_cards(world, &cards, options.processes.is_some(), waiting).map_err(fail)
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
