//! Numbers of the host that take the way over the card: block by block up, through NCCL, and down again.

use cutplane_plan::Rank;

use super::clique::{Clique, Numbers};
use super::error::NcclError;
use super::rank::Nccl;
use crate::comm::{CommError, Communicator};

/// Numbers on the card at most, 64 MiB, over all parts that are taken and given.
const ON_CARD: usize = 16 << 20;

/// Numbers of the host: parts of equal length, one after another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    pub(super) from: *const f32,
    pub(super) taken: usize,
    pub(super) to: *mut f32,
    pub(super) given: usize,
    /// Numbers of a part.
    pub(super) len: usize,
    /// Whether what is given is of use to this rank.
    pub(super) wanted: bool,
}

impl Parts {
    /// One part that is replaced.
    pub(super) fn in_place(buffer: &mut [f32]) -> Self {
        let to = buffer.as_mut_ptr();
        Self { from: to.cast_const(), taken: 1, to, given: 1, len: buffer.len(), wanted: true }
    }

    /// Parts of `input` and of `output`, of `len` numbers each.
    pub(super) fn of(input: &[f32], output: &mut [f32], len: usize) -> Self {
        let parts = |all: usize| all.checked_div(len).unwrap_or(0);
        let (taken, given) = (parts(input.len()), parts(output.len()));
        Self { from: input.as_ptr(), taken, to: output.as_mut_ptr(), given, len, wanted: true }
    }
}

impl<C: Communicator> Nccl<C> {
    /// Lets `operate` work on a block of every part at a time.
    ///
    /// # Safety
    /// `parts` tells of memory that lives and that nobody else touches meanwhile; `operate` starts an operation that takes
    /// and gives as many parts, of as many numbers as it is told.
    pub(super) unsafe fn staged(
        &self,
        group: &[Rank],
        what: &'static str,
        parts: Parts,
        operate: impl Fn(&Clique, Numbers) -> Result<(), NcclError>,
    ) -> Result<(), CommError> {
        let clique = self.clique(group)?;
        let card = self.card()?;
        let failed = |error: NcclError| self.failed(what, error.to_string());
        // The same on all ranks, since all parts are alike on them.
        let block = (ON_CARD / (parts.taken + parts.given).max(1)).max(1);
        for first in (0..parts.len).step_by(block) {
            let count = block.min(parts.len - first);
            let bytes = count * size_of::<f32>();
            let from = card.room((parts.taken + parts.given) * bytes).map_err(failed)?;
            let to = from + (parts.taken * bytes) as u64;
            for part in 0..parts.taken {
                // SAFETY: inside the part, by the contract, and inside the room; the stream is waited for below.
                let up = unsafe {
                    card.upload(from + (part * bytes) as u64, parts.from.add(part * parts.len + first), count)
                };
                up.map_err(failed)?;
            }
            operate(&clique, Numbers::floats(from, to, count)).map_err(failed)?;
            self.wait(what, group, || Ok(clique.is_settled()? && card.is_idle()?))?;
            for part in (0..parts.given).filter(|_| parts.wanted) {
                // SAFETY: as above.
                let down =
                    unsafe { card.download(parts.to.add(part * parts.len + first), to + (part * bytes) as u64, count) };
                down.map_err(failed)?;
            }
            // Nobody else is waited for any more.
            while !card.is_idle().map_err(failed)? {
                std::hint::spin_loop();
            }
        }
        Ok(())
    }
}
