//! One rank of a world whose ranks may have cards.

use std::cell::{Ref, RefCell};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cutplane_plan::Rank;

use super::card::Card;
use super::clique::Clique;
use super::error::NcclError;
use super::library::{Libraries, Opened, UniqueId};
use super::staging::Parts;
use crate::comm::rest::rest;
use crate::comm::{CommError, CommOptions, Communicator, Payload, Pending, checks};

/// A card's UUID.
type Uuid = [u8; 16];

/// One rank of a world below, which sums through NCCL with those ranks that have cards of their own.
pub(in crate::comm) struct Nccl<C> {
    below: C,
    options: CommOptions,
    /// NCCL communicators by group. Before the card, whose stream they use.
    cliques: RefCell<HashMap<Vec<Rank>, Clique>>,
    card: Result<(Arc<Opened>, Card), NcclError>,
    /// The card of each rank; `None` for a rank without one that can be used.
    cards: Vec<Option<Uuid>>,
}

impl<C: Communicator> Nccl<C> {
    /// Puts NCCL over the ends of a world. `cards` are the numbers of the cards of all ranks; all ranks of the world do this
    /// together, and tell each other whether their cards can be used.
    ///
    /// # Errors
    /// [`CommError`] when a rank cannot be told.
    pub(in crate::comm) fn over(
        world: Vec<C>,
        cards: &[Option<usize>],
        options: CommOptions,
        libraries: &Libraries,
    ) -> Result<Vec<Self>, CommError> {
        // Each rank waits for the others, so each has a thread.
        std::thread::scope(|scope| {
            let start = |below: C| {
                let number = cards.get(below.rank().index()).copied().flatten();
                scope.spawn(move || Self::tell(below, number, options, libraries))
            };
            let threads: Vec<_> = world.into_iter().map(start).collect();
            let ended = |thread: std::thread::ScopedJoinHandle<'_, Result<Self, CommError>>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().map(ended).collect()
        })
    }

    /// Opens the card and tells the others of it: whether there is one, and which.
    fn tell(below: C, number: Option<usize>, options: CommOptions, libraries: &Libraries) -> Result<Self, CommError> {
        let card = open(number, libraries);
        let mut mine = [0.0; 17];
        if let Ok((_, card)) = &card {
            mine[0] = 1.0;
            mine[1..].iter_mut().zip(card.uuid).for_each(|(place, byte)| *place = f32::from(byte));
        }
        let group: Vec<Rank> = (0..below.size() as u32).map(Rank).collect();
        let mut all = vec![0.0; mine.len() * group.len()];
        below.all_gather(&group, &mine, &mut all)?;
        let uuid = |told: &[f32]| (told[0] > 0.0).then(|| std::array::from_fn(|i| told[i + 1] as u8));
        let cards = all.chunks_exact(mine.len()).map(uuid).collect();
        Ok(Self { below, options, cliques: RefCell::default(), card, cards })
    }

    /// How sums between cards go.
    pub(in crate::comm) fn describe(&self) -> String {
        let (library, with) = match &self.card {
            Ok((library, _)) => (library, self.cards.iter().flatten().count()),
            Err(error) => return format!("sums between cards go through the host: {error}"),
        };
        let mut text = format!(
            "NCCL {} joins {with} ranks: gradients are summed on their cards, what is summed of the host is copied to them; \
             messages go through the host",
            library.version()
        );
        let names = |ranks: Vec<usize>| ranks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let of =
            |uuid: Option<Uuid>| (0..self.cards.len()).filter(|rank| self.cards[*rank] == uuid).collect::<Vec<_>>();
        let mut shared: Vec<Vec<usize>> =
            self.cards.iter().filter(|card| card.is_some()).map(|card| of(*card)).collect();
        shared.retain(|ranks| ranks.len() > 1);
        shared.sort();
        shared.dedup();
        for ranks in shared {
            text += &format!("; ranks {} share a card, which NCCL refuses: they sum through the host", names(ranks));
        }
        let without = of(None);
        if !without.is_empty() {
            text += &format!("; ranks {} have no card that NCCL can use: they sum through the host", names(without));
        }
        text
    }

    /// Whether all these ranks have a card, each its own.
    fn has_cards(&self, group: &[Rank]) -> bool {
        let card = |rank: &Rank| self.cards.get(rank.index()).copied().flatten();
        let cards: Option<Vec<Uuid>> = group.iter().map(card).collect();
        cards.is_some_and(|mut cards| {
            cards.sort_unstable();
            cards.dedup();
            cards.len() == group.len() && !cards.is_empty()
        })
    }

    /// The end of the world below.
    #[cfg(test)]
    pub(super) fn below(&self) -> &C {
        &self.below
    }

    /// Whether the group has met on its cards.
    #[cfg(test)]
    pub(super) fn joined(&self, group: &[Rank]) -> bool {
        self.cliques.borrow().contains_key(group)
    }

    pub(super) fn failed(&self, what: &str, problem: String) -> CommError {
        CommError::Transport { rank: self.rank(), what: what.into(), problem }
    }

    fn opened(&self) -> Result<&(Arc<Opened>, Card), CommError> {
        self.card.as_ref().map_err(|error| self.failed("using the card", error.to_string()))
    }

    /// This rank's card, entered.
    pub(super) fn card(&self) -> Result<&Card, CommError> {
        let (_, card) = self.opened()?;
        card.enter().map_err(|error| self.failed("using the card", error.to_string()))?;
        Ok(card)
    }

    /// The NCCL communicator of a group whose ranks are here; it is made when they first need it.
    pub(super) fn clique(&self, group: &[Rank]) -> Result<Ref<'_, Clique>, CommError> {
        if !self.cliques.borrow().contains_key(group) {
            let clique = self.join(group)?;
            self.cliques.borrow_mut().insert(group.to_vec(), clique);
        }
        Ok(Ref::map(self.cliques.borrow(), |cliques| &cliques[group]))
    }

    fn join(&self, group: &[Rank]) -> Result<Clique, CommError> {
        const WHAT: &str = "joining the cards of a group";
        let failed = |error: NcclError| self.failed(WHAT, error.to_string());
        let (card, (library, _)) = (self.card()?, self.opened()?);
        let mut id = [0.0; 128];
        if group.first() == Some(&self.rank()) {
            id = library.unique_id().map_err(failed)?.0.map(f32::from);
        }
        self.below.broadcast(group, group[0], &mut id)?;
        let position = group.iter().position(|rank| *rank == self.rank()).unwrap_or_default();
        let id = UniqueId(id.map(|byte| byte as u8));
        let clique = Clique::join(library, card.stream, id, position, group.len()).map_err(failed)?;
        self.wait(WHAT, group, || clique.is_settled())?;
        Ok(clique)
    }

    /// Asks until it is done; the answer of the others is waited for no longer than for any message.
    pub(super) fn wait(
        &self,
        what: &'static str,
        group: &[Rank],
        mut is_done: impl FnMut() -> Result<bool, NcclError>,
    ) -> Result<(), CommError> {
        /// Rounds of asking between two of listening to the others.
        const ROUNDS: u32 = 64;
        let start = Instant::now();
        for round in 0u32.. {
            if is_done().map_err(|error| self.failed(what, error.to_string()))? {
                break;
            }
            let after = start.elapsed();
            if round.is_multiple_of(ROUNDS) {
                self.below.health()?;
                if after > self.options.timeout {
                    let (rank, peers) =
                        (self.rank(), group.iter().copied().filter(|peer| *peer != self.rank()).collect());
                    return Err(CommError::Timeout { rank, what: what.into(), peers, after });
                }
            }
            rest(after, self.options.spin);
        }
        Ok(())
    }

    /// Runs `work` with the cards of a group that has agreed on it. A communicator whose work has failed is aborted.
    pub(super) fn on_cards(
        &self,
        group: &[Rank],
        (what, numbers, root): (&'static str, usize, Option<Rank>),
        work: impl FnOnce() -> Result<(), CommError>,
    ) -> Result<Duration, CommError> {
        let waited = self.below.agree(group, what, numbers, root)?;
        work().inspect_err(|_| drop(self.cliques.borrow_mut().remove(group)))?;
        Ok(waited)
    }
}

fn open(number: Option<usize>, libraries: &Libraries) -> Result<(Arc<Opened>, Card), NcclError> {
    let library = libraries.0.clone()?;
    let number = number.ok_or(NcclError::NoCard)?;
    let card = Card::open(&library, number)?;
    Ok((library, card))
}

impl<C: Communicator> Communicator for Nccl<C> {
    fn rank(&self) -> Rank {
        self.below.rank()
    }

    fn size(&self) -> usize {
        self.below.size()
    }

    fn carries_handles(&self) -> bool {
        self.below.carries_handles()
    }

    fn send(&self, to: Rank, message: u64, payload: Payload) -> Result<Pending<'_, ()>, CommError> {
        self.below.send(to, message, payload)
    }

    fn recv(&self, from: Rank, message: u64) -> Result<Pending<'_, Payload>, CommError> {
        self.below.recv(from, message)
    }

    fn has_come(&self, from: Rank, message: u64) -> Result<bool, CommError> {
        self.below.has_come(from, message)
    }

    fn all_reduce(&self, group: &[Rank], buffer: &mut [f32]) -> Result<Duration, CommError> {
        const WHAT: &str = "all-reduce";
        if !self.has_cards(group) {
            return self.below.all_reduce(group, buffer);
        }
        self.on_cards(group, (WHAT, buffer.len(), None), || {
            // SAFETY: one part each way, for this and the others below: the parts are borrowed for the call.
            unsafe { self.staged(group, WHAT, Parts::in_place(buffer), |clique, numbers| clique.all_reduce(numbers)) }
        })
    }

    fn reduce_scatter(&self, group: &[Rank], input: &[f32], output: &mut [f32]) -> Result<Duration, CommError> {
        const WHAT: &str = "reduce-scatter";
        checks::sizes(self.rank(), WHAT, (input.len(), output.len()), group)?;
        if !self.has_cards(group) {
            return self.below.reduce_scatter(group, input, output);
        }
        self.on_cards(group, (WHAT, input.len(), None), || {
            let parts = Parts::of(input, output, input.len() / group.len());
            // SAFETY: a part of every rank is taken, one is given.
            unsafe { self.staged(group, WHAT, parts, |clique, numbers| clique.reduce_scatter(numbers)) }
        })
    }

    fn all_gather(&self, group: &[Rank], input: &[f32], output: &mut [f32]) -> Result<Duration, CommError> {
        const WHAT: &str = "all-gather";
        checks::sizes(self.rank(), WHAT, (input.len(), output.len()), group)?;
        if !self.has_cards(group) {
            return self.below.all_gather(group, input, output);
        }
        self.on_cards(group, (WHAT, input.len(), None), || {
            let parts = Parts::of(input, output, input.len());
            // SAFETY: one part is taken, one of every rank is given.
            unsafe { self.staged(group, WHAT, parts, |clique, numbers| clique.all_gather(numbers)) }
        })
    }

    fn broadcast(&self, group: &[Rank], root: Rank, buffer: &mut [f32]) -> Result<Duration, CommError> {
        const WHAT: &str = "broadcast";
        let place = checks::root(self.rank(), group, root, self.size())?;
        if !self.has_cards(group) {
            return self.below.broadcast(group, root, buffer);
        }
        self.on_cards(group, (WHAT, buffer.len(), Some(root)), || {
            let parts = Parts::in_place(buffer);
            // SAFETY: one part each way.
            unsafe { self.staged(group, WHAT, parts, |clique, numbers| clique.broadcast(numbers, place)) }
        })
    }

    fn reduce(&self, group: &[Rank], root: Rank, buffer: &mut [f32]) -> Result<Duration, CommError> {
        const WHAT: &str = "reduce";
        let place = checks::root(self.rank(), group, root, self.size())?;
        if !self.has_cards(group) {
            return self.below.reduce(group, root, buffer);
        }
        self.on_cards(group, (WHAT, buffer.len(), Some(root)), || {
            let parts = Parts { wanted: root == self.rank(), ..Parts::in_place(buffer) };
            // SAFETY: one part each way.
            unsafe { self.staged(group, WHAT, parts, |clique, numbers| clique.reduce(numbers, place)) }
        })
    }

    fn all_to_all(&self, group: &[Rank], input: &[f32], output: &mut [f32]) -> Result<Duration, CommError> {
        const WHAT: &str = "all-to-all";
        checks::sizes(self.rank(), WHAT, (input.len(), output.len()), group)?;
        if !self.has_cards(group) {
            return self.below.all_to_all(group, input, output);
        }
        self.on_cards(group, (WHAT, input.len(), None), || {
            let parts = Parts::of(input, output, input.len() / group.len());
            // SAFETY: a part of every rank each way.
            unsafe { self.staged(group, WHAT, parts, |clique, numbers| clique.all_to_all(numbers)) }
        })
    }

    #[cfg(feature = "cuda")]
    fn all_reduce_on_device(&self, group: &[Rank], tensors: &mut Payload) -> Result<bool, CommError> {
        if !self.has_cards(group) {
            return Ok(false);
        }
        self.sum_tensors(group, tensors)?;
        Ok(true)
    }

    fn agree(
        &self,
        group: &[Rank],
        what: &'static str,
        numbers: usize,
        root: Option<Rank>,
    ) -> Result<Duration, CommError> {
        self.below.agree(group, what, numbers, root)
    }

    fn health(&self) -> Result<(), CommError> {
        self.below.health()
    }

    fn abort(&self, reason: &str) {
        self.below.abort(reason);
    }
}
