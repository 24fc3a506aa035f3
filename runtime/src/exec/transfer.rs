//! Messages as a run sends and takes them: the buffers go from one rank's memory account to the other's.

use cutplane_plan::Rank;

use crate::comm::{Arrived, CommError, Communicator, Payload};
use crate::memory;

/// Hands `payload` over; its receiver will free what this rank has allocated.
pub(super) fn hand_over(comm: &impl Communicator, to: Rank, message: u64, payload: Payload) -> Result<(), CommError> {
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
