//! Ranks on cards of their own: whether NCCL carries what they sum.

use super::{CommError, CommOptions, Communicator};

/// The ends of this process's ranks.
pub(crate) type Ends = Vec<Box<dyn Communicator>>;

/// Lets ranks with cards of their own sum on them, where this build and this machine can, and says how sums between cards
/// go; nothing is said of a world without them. `cards` are those of all ranks, as each rank's own process numbers them;
/// all processes call this together.
///
/// # Errors
/// [`CommError`] when a rank cannot tell the others of its card.
#[cfg_attr(
    not(feature = "nccl"),
    expect(clippy::unnecessary_wraps, reason = "with NCCL a rank may not reach the others")
)]
pub(crate) fn join_cards(
    world: Ends,
    cards: &[Option<usize>],
    in_processes: bool,
    options: CommOptions,
) -> Result<(Ends, Option<String>), CommError> {
    let mut numbers: Vec<usize> = cards.iter().flatten().copied().collect();
    let ranks = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    // The same number in another process may be another card.
    if ranks < 2 || (numbers.len() < 2 && !in_processes) {
        return Ok((world, None));
    }
    #[cfg(feature = "nccl")]
    return join(world, cards, options);
    #[cfg(not(feature = "nccl"))]
    {
        let _ = options;
        let note = "sums between cards go through the host: this build has no NCCL, build it with --features cuda,nccl";
        Ok((world, Some(note.to_owned())))
    }
}

#[cfg(feature = "nccl")]
fn join(world: Ends, cards: &[Option<usize>], options: CommOptions) -> Result<(Ends, Option<String>), CommError> {
    use super::nccl::{Libraries, Nccl};

    let ends = Nccl::over(world, cards, options, &Libraries::load())?;
    let note = ends.first().map(Nccl::describe);
    Ok((ends.into_iter().map(|end| Box::new(end) as Box<dyn Communicator>).collect(), note))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::InProcess;

    fn note(cards: &[Option<usize>], in_processes: bool) -> Option<String> {
        let options = CommOptions::default();
        let world =
            InProcess::world(cards.len(), options).into_iter().map(|end| Box::new(end) as Box<dyn Communicator>);
        let (ends, note) = join_cards(world.collect(), cards, in_processes, options).expect("a world");
        assert_eq!(ends.len(), cards.len());
        note
    }

    #[test]
    fn only_ranks_that_may_have_cards_of_their_own_are_spoken_of() {
        assert_eq!(note(&[None, None], true), None);
        assert_eq!(note(&[Some(0), Some(0), None], false), None);
        assert_eq!(note(&[Some(0), None], true), None);
        for (cards, in_processes) in [([Some(0), Some(1)], false), ([Some(0), Some(0)], true)] {
            let note = note(&cards, in_processes).expect("sums between cards");
            assert!(note.contains("through the host") && note.contains("NCCL"), "{note}");
        }
    }
}
