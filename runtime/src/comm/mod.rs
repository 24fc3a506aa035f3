//! Moving tensors between ranks.
//!
//! A [`Communicator`] is one rank's end of a world. Messages are found by sender and number, so they may be taken in any
//! order; collectives work on groups, and every rank of a group must call them in one order (which
//! [`cutplane_plan::check_program`] proves for a program).
//!
//! [`InProcess`] is the world of threads in one process: the default, and the reference for any other. With feature `mpi`
//! there is `Mpi`: ranks in processes that `mpirun` has started ([`Processes`]); with feature `nccl`, `Nccl` lets ranks with
//! cards of their own sum through NVIDIA's library, over either of the two. How it goes wrong:
//! a peer that never comes is a [`CommError::Timeout`] naming it; a peer that fails calls [`Communicator::abort`], which
//! ends every wait of every rank at once; a peer that is dropped is [`CommError::PeerGone`]. Nothing waits for ever.

mod cards;
mod checks;
mod error;
mod gate;
mod group;
mod in_process;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(feature = "nccl")]
mod nccl;
mod processes;
#[cfg(any(feature = "mpi", feature = "nccl"))]
mod rest;
#[cfg(test)]
mod suite;

use std::time::Duration;

use cutplane_plan::Rank;

pub(crate) use cards::{Ends, join_cards};
pub use error::CommError;
pub use in_process::{CommOptions, InProcess};
#[cfg(feature = "mpi")]
pub use mpi::{Mpi, MpiProcesses};
pub use processes::{Processes, Talk};

use crate::tensor::HostTensor;

/// What a message carries: tensors in the order of the message's values.
pub type Payload = Vec<HostTensor>;

/// Something that has come, and how long its receiver was blocked before it was there.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrived<T> {
    /// What has come.
    pub value: T,
    /// Time blocked.
    pub waited: Duration,
}

/// The rest of a transfer that has been started.
#[must_use = "a transfer is complete only after `wait`"]
pub struct Pending<'a, T> {
    finish: Box<dyn FnOnce() -> Result<Arrived<T>, CommError> + 'a>,
}

impl<'a, T: 'a> Pending<'a, T> {
    /// A transfer that `finish` completes.
    pub fn new(finish: impl FnOnce() -> Result<Arrived<T>, CommError> + 'a) -> Self {
        Self { finish: Box::new(finish) }
    }

    /// Blocks until the transfer is complete.
    ///
    /// # Errors
    /// [`CommError`]: a timeout, a failed or departed peer.
    pub fn wait(self) -> Result<Arrived<T>, CommError> {
        (self.finish)()
    }
}

/// One rank's end of a world of ranks.
///
/// Collectives return the time for which the caller was blocked before the last rank of the group had arrived. All ranks
/// of a group end with the same bits: sums are taken in rank order, but for those that NCCL takes on cards, in an order of
/// its own.
pub trait Communicator: Send {
    /// This rank.
    fn rank(&self) -> Rank;

    /// Number of ranks.
    fn size(&self) -> usize;

    /// Whether payloads reach their receiver as they are, handles to numbers on a device included: true where all ranks
    /// are threads of one process.
    fn carries_handles(&self) -> bool {
        false
    }

    /// Starts to hand `payload` over to `to`; never waits for the receiver. Messages of one number between the same two
    /// ranks arrive in the order in which they were sent.
    ///
    /// # Errors
    /// [`CommError::UnknownRank`], [`CommError::PeerGone`], [`CommError::PeerFailed`].
    fn send(&self, to: Rank, message: u64, payload: Payload) -> Result<Pending<'_, ()>, CommError>;

    /// Starts to take message number `message` of `from`.
    ///
    /// # Errors
    /// [`CommError::UnknownRank`]; waiting may end in any other.
    fn recv(&self, from: Rank, message: u64) -> Result<Pending<'_, Payload>, CommError>;

    /// Whether message number `message` of `from` has come, so that taking it does not wait.
    ///
    /// # Errors
    /// [`CommError::UnknownRank`]; [`CommError::PeerGone`] and [`CommError::PeerFailed`] where it will not come.
    fn has_come(&self, from: Rank, message: u64) -> Result<bool, CommError>;

    /// Replaces `buffer` on every rank of `group` by the sum over the group.
    ///
    /// # Errors
    /// [`CommError`].
    fn all_reduce(&self, group: &[Rank], buffer: &mut [f32]) -> Result<Duration, CommError>;

    /// Cuts the sum of `input` over the group in equal parts: rank number `i` of the group gets part `i` in `output`.
    ///
    /// # Errors
    /// [`CommError`].
    fn reduce_scatter(&self, group: &[Rank], input: &[f32], output: &mut [f32]) -> Result<Duration, CommError>;

    /// Puts the `input` of all ranks of the group one after another in `output`.
    ///
    /// # Errors
    /// [`CommError`].
    fn all_gather(&self, group: &[Rank], input: &[f32], output: &mut [f32]) -> Result<Duration, CommError>;

    /// Copies the buffer of `root` to all ranks of the group.
    ///
    /// # Errors
    /// [`CommError`].
    fn broadcast(&self, group: &[Rank], root: Rank, buffer: &mut [f32]) -> Result<Duration, CommError>;

    /// Replaces the buffer of `root` by the sum over the group; what the others are left with is not defined.
    ///
    /// # Errors
    /// [`CommError`].
    fn reduce(&self, group: &[Rank], root: Rank, buffer: &mut [f32]) -> Result<Duration, CommError>;

    /// Cuts `input` in equal parts, one for each rank of the group: part `i` of rank number `j` ends as part `j` in the
    /// `output` of rank number `i`.
    ///
    /// # Errors
    /// [`CommError`].
    fn all_to_all(&self, group: &[Rank], input: &[f32], output: &mut [f32]) -> Result<Duration, CommError>;

    /// Replaces floats that are on the devices of the ranks by their sums over the group, without a copy in the host. False,
    /// with nothing done on any rank of the group, where there is no such way: the numbers are to be fetched and summed by
    /// [`Communicator::all_reduce`].
    ///
    /// # Errors
    /// [`CommError`].
    fn all_reduce_on_device(&self, group: &[Rank], tensors: &mut Payload) -> Result<bool, CommError> {
        let _ = (group, tensors);
        Ok(false)
    }

    /// Waits until every rank of the group is here and calls `what` with as many numbers and the same root.
    ///
    /// # Errors
    /// [`CommError::Mismatch`] on every rank when they call different things; any other.
    fn agree(
        &self,
        group: &[Rank],
        what: &'static str,
        numbers: usize,
        root: Option<Rank>,
    ) -> Result<Duration, CommError>;

    /// Waits until every rank of the group is here.
    ///
    /// # Errors
    /// [`CommError`].
    fn barrier(&self, group: &[Rank]) -> Result<Duration, CommError> {
        self.agree(group, "barrier", 0, None)
    }

    /// Whether all is well as far as this rank has heard: for waits that the communicator does not see.
    ///
    /// # Errors
    /// [`CommError::PeerFailed`] when another rank has reported a failure.
    fn health(&self) -> Result<(), CommError>;

    /// Reports that this rank has failed: every wait of every rank ends with [`CommError::PeerFailed`]. The first report
    /// stands.
    fn abort(&self, reason: &str);
}

impl<C: Communicator + ?Sized> Communicator for Box<C> {
    fn rank(&self) -> Rank {
        (**self).rank()
    }

    fn size(&self) -> usize {
        (**self).size()
    }

    fn carries_handles(&self) -> bool {
        (**self).carries_handles()
    }

    fn send(&self, to: Rank, message: u64, payload: Payload) -> Result<Pending<'_, ()>, CommError> {
        (**self).send(to, message, payload)
    }

    fn recv(&self, from: Rank, message: u64) -> Result<Pending<'_, Payload>, CommError> {
        (**self).recv(from, message)
    }

    fn has_come(&self, from: Rank, message: u64) -> Result<bool, CommError> {
        (**self).has_come(from, message)
    }

    fn all_reduce(&self, group: &[Rank], buffer: &mut [f32]) -> Result<Duration, CommError> {
        (**self).all_reduce(group, buffer)
    }

    fn reduce_scatter(&self, group: &[Rank], input: &[f32], output: &mut [f32]) -> Result<Duration, CommError> {
        (**self).reduce_scatter(group, input, output)
    }

    fn all_gather(&self, group: &[Rank], input: &[f32], output: &mut [f32]) -> Result<Duration, CommError> {
        (**self).all_gather(group, input, output)
    }

    fn broadcast(&self, group: &[Rank], root: Rank, buffer: &mut [f32]) -> Result<Duration, CommError> {
        (**self).broadcast(group, root, buffer)
    }

    fn reduce(&self, group: &[Rank], root: Rank, buffer: &mut [f32]) -> Result<Duration, CommError> {
        (**self).reduce(group, root, buffer)
    }

    fn all_to_all(&self, group: &[Rank], input: &[f32], output: &mut [f32]) -> Result<Duration, CommError> {
        (**self).all_to_all(group, input, output)
    }

    fn all_reduce_on_device(&self, group: &[Rank], tensors: &mut Payload) -> Result<bool, CommError> {
        (**self).all_reduce_on_device(group, tensors)
    }

    fn agree(
        &self,
        group: &[Rank],
        what: &'static str,
        numbers: usize,
        root: Option<Rank>,
    ) -> Result<Duration, CommError> {
        (**self).agree(group, what, numbers, root)
    }

    fn barrier(&self, group: &[Rank]) -> Result<Duration, CommError> {
        (**self).barrier(group)
    }

    fn health(&self) -> Result<(), CommError> {
        (**self).health()
    }

    fn abort(&self, reason: &str) {
        (**self).abort(reason);
    }
}
