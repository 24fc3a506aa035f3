//! An NCCL communicator: the ranks of a group, each on its card.

use std::ffi::c_int;
use std::sync::Arc;

use super::error::NcclError;
use super::library::{Address, Config, FLOAT32, Handle, Opened, SUCCESS, SUM, UniqueId};

/// One rank's end of an NCCL communicator. Dropping it aborts what it has not done.
#[derive(Debug)]
pub(super) struct Clique {
    library: Arc<Opened>,
    handle: Handle,
    stream: Handle,
    size: usize,
}

// SAFETY: the handle may be used by any thread, one at a time.
unsafe impl Send for Clique {}

/// Numbers on the card: where they are taken from, where the result is put, how many of which type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    pub(super) from: Address,
    pub(super) to: Address,
    pub(super) count: usize,
    pub(super) kind: c_int,
}

impl Numbers {
    /// `count` floats.
    pub(super) fn floats(from: Address, to: Address, count: usize) -> Self {
        Self { from, to, count, kind: FLOAT32 }
    }
}

impl Clique {
    /// Starts to join the others that have the same id; [`Clique::is_settled`] tells when all have.
    pub(super) fn join(
        library: &Arc<Opened>,
        stream: Handle,
        id: UniqueId,
        position: usize,
        size: usize,
    ) -> Result<Self, NcclError> {
        let (mut handle, mut config) = (std::ptr::null_mut(), Config::non_blocking());
        // SAFETY: writes one handle; the config tells its own size.
        let status =
            unsafe { (library.nccl.init)(&raw mut handle, size as c_int, id, position as c_int, &raw mut config) };
        let clique = Self { library: library.clone(), handle, stream, size };
        clique.check("ncclCommInitRankConfig", status).map(|()| clique)
    }

    fn check(&self, call: &'static str, status: c_int) -> Result<(), NcclError> {
        match self.library.failure(status) {
            None => Ok(()),
            Some(problem) => Err(NcclError::Call { call, problem }),
        }
    }

    /// Whether what was asked for last has been handed to the card.
    pub(super) fn is_settled(&self) -> Result<bool, NcclError> {
        let mut state = SUCCESS;
        // SAFETY: writes one int.
        let status = unsafe { (self.library.nccl.state)(self.handle, &raw mut state) };
        self.check("ncclCommGetAsyncError", status)?;
        self.check("a call of NCCL", state)?;
        Ok(state == SUCCESS)
    }

    /// Starts to put the sum over all ranks at every rank.
    ///
    /// # Safety
    /// For this and all below: the card has as many numbers at both places as the operation takes and gives, until its
    /// stream is idle.
    pub(super) unsafe fn all_reduce(&self, numbers: Numbers) -> Result<(), NcclError> {
        let Numbers { from, to, count, kind } = numbers;
        // SAFETY: promised by the caller.
        let status = unsafe { (self.library.nccl.all_reduce)(from, to, count, kind, SUM, self.handle, self.stream) };
        self.check("ncclAllReduce", status)
    }

    /// Starts to put the sum at `root`.
    pub(super) unsafe fn reduce(&self, numbers: Numbers, root: usize) -> Result<(), NcclError> {
        let Numbers { from, to, count, kind } = numbers;
        let root = root as c_int;
        // SAFETY: promised by the caller.
        let status = unsafe { (self.library.nccl.reduce)(from, to, count, kind, SUM, root, self.handle, self.stream) };
        self.check("ncclReduce", status)
    }

    /// Starts to put the numbers of `root` at every rank.
    pub(super) unsafe fn broadcast(&self, numbers: Numbers, root: usize) -> Result<(), NcclError> {
        let Numbers { from, to, count, kind } = numbers;
        let root = root as c_int;
        // SAFETY: promised by the caller.
        let status = unsafe { (self.library.nccl.broadcast)(from, to, count, kind, root, self.handle, self.stream) };
        self.check("ncclBroadcast", status)
    }

    /// Starts to put `count` numbers of each rank one after another.
    pub(super) unsafe fn all_gather(&self, numbers: Numbers) -> Result<(), NcclError> {
        let Numbers { from, to, count, kind } = numbers;
        // SAFETY: promised by the caller.
        let status = unsafe { (self.library.nccl.all_gather)(from, to, count, kind, self.handle, self.stream) };
        self.check("ncclAllGather", status)
    }

    /// Starts to put the sum of part `i`, of `count` numbers, at rank `i`.
    pub(super) unsafe fn reduce_scatter(&self, numbers: Numbers) -> Result<(), NcclError> {
        let Numbers { from, to, count, kind } = numbers;
        // SAFETY: promised by the caller.
        let status =
            unsafe { (self.library.nccl.reduce_scatter)(from, to, count, kind, SUM, self.handle, self.stream) };
        self.check("ncclReduceScatter", status)
    }

    /// Starts to swap parts of `count` numbers.
    pub(super) unsafe fn all_to_all(&self, numbers: Numbers) -> Result<(), NcclError> {
        let Numbers { from, to, count, kind } = numbers;
        let nccl = &self.library.nccl;
        // SAFETY: groups begin and end here.
        self.check("ncclGroupStart", unsafe { (nccl.group_start)() })?;
        let part = |start: Address, peer: usize| start + (peer * count * size_of::<f32>()) as Address;
        let swap = |peer: usize| {
            let (sent, received) = (part(from, peer), part(to, peer));
            // SAFETY: promised by the caller.
            unsafe {
                self.check("ncclSend", (nccl.send)(sent, count, kind, peer as c_int, self.handle, self.stream))?;
                self.check("ncclRecv", (nccl.receive)(received, count, kind, peer as c_int, self.handle, self.stream))
            }
        };
        let swapped = (0..self.size).try_for_each(swap);
        // SAFETY: closes the group in any case.
        let status = unsafe { (nccl.group_end)() };
        swapped.and_then(|()| self.check("ncclGroupEnd", status))
    }
}

impl Drop for Clique {
    fn drop(&mut self) {
        if !self.handle.is_null() {
            // SAFETY: the handle is used no more. Aborting is the one way to leave that waits for nobody.
            unsafe { (self.library.nccl.abort)(self.handle) };
        }
    }
}
