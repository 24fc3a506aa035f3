//! Collectives made of messages.
//!
//! Every collective begins with a meeting: each rank tells all others of the group what it calls, so that late ranks and
//! ranks that call something else are named. Few numbers travel with that call, or right behind it. Many go in blocks: while one block is on
//! its way, the one before is summed. A sum is that of Rabenseifner's algorithm (reduce-scatter, then all-gather), its
//! summands taken in rank order by the one rank that owns the part.

use std::time::Duration;

use cutplane_plan::Rank;

use super::note::{Call, INLINE, Note};
use super::rank::{Mpi, RESULTS, SUMMANDS};
use super::raw::{Buffer, OnTheWay};
use crate::comm::group::part;
use crate::comm::{Arrived, CommError, Communicator, checks};

/// Floats of a block: 256 KiB.
pub(super) const BLOCK: usize = 64 << 10;

/// Floats that an all-reduce sends to every other rank at once, over all of them: 64 KiB. So few take longer to meet, and to
/// pass on in a second round, than to be summed by every rank.
const DIRECT: usize = 16 << 10;

/// Blocks on their way from every other rank of a group.
type Round = Vec<(usize, OnTheWay)>;

/// A group whose ranks have all called the same.
struct Team<'a> {
    mpi: &'a Mpi,
    ranks: &'a [Rank],
    /// Position of this rank.
    me: usize,
    what: &'static str,
}

/// Block number `k` of the numbers `range.0..range.1`; empty beyond them.
fn block((start, end): (usize, usize), k: usize) -> std::ops::Range<usize> {
    let first = (start + k * BLOCK).min(end);
    first..(first + BLOCK).min(end)
}

/// Blocks of so many numbers.
fn blocks((start, end): (usize, usize)) -> usize {
    (end - start).div_ceil(BLOCK)
}

impl Team<'_> {
    fn others(&self) -> impl Iterator<Item = usize> + '_ {
        // Each rank begins with its neighbour, so that not all send to the same one at once.
        (1..self.ranks.len()).map(|step| (self.me + step) % self.ranks.len())
    }

    /// Sends a copy of `numbers`, if there are any.
    fn post(&self, kind: i32, to: usize, numbers: &[f32]) -> Result<(), CommError> {
        if numbers.is_empty() {
            return Ok(());
        }
        let mut copy = self.mpi.spare.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(BLOCK));
        copy.clear();
        copy.extend_from_slice(numbers);
        self.mpi.post(kind, self.ranks[to], Buffer::Floats(copy))
    }

    /// Starts to receive `len` numbers, if there are any to come.
    fn expect(&self, kind: i32, from: usize, len: usize, round: &mut Round) -> Result<(), CommError> {
        if len > 0 {
            let mut space = self.mpi.spare.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(BLOCK));
            space.resize(len, 0.0);
            round.push((from, self.mpi.expect(kind, self.ranks[from], Buffer::Floats(space))?));
        }
        Ok(())
    }

    /// Waits for the blocks of a round, and returns them by position.
    fn settle(&self, round: Round) -> Result<Vec<(usize, Vec<f32>)>, CommError> {
        self.mpi.sweep()?;
        let settle = |(from, mut coming): (usize, OnTheWay)| {
            let mut over = || coming.is_over().map_err(|problem| self.mpi.failed(self.what, problem));
            self.mpi.wait(|| self.what.into(), || vec![self.ranks[from]], || Ok(over()?.then_some(())))?;
            match coming.into_buffer() {
                Some(Buffer::Floats(numbers)) => Ok((from, numbers)),
                _ => Err(self.mpi.failed(self.what, "a block of no numbers".into())),
            }
        };
        round.into_iter().map(settle).collect()
    }

    /// Adds the summands of a round to those of this rank, in rank order, and puts the sum there.
    fn add_up(&self, round: Round, mine: &mut [f32]) -> Result<(), CommError> {
        let mut summands = self.settle(round)?;
        summands.sort_unstable_by_key(|(from, _)| *from);
        let (before, after) = summands.split_at(summands.partition_point(|(from, _)| *from < self.me));
        add_in_order(mine, before.iter().map(|(_, x)| x.as_slice()), after.iter().map(|(_, x)| x.as_slice()));
        for (_, block) in summands {
            self.mpi.recycle(block);
        }
        Ok(())
    }

    /// Puts the blocks of a round where `place` says.
    fn put(&self, round: Round, mut place: impl FnMut(usize, &[f32])) -> Result<(), CommError> {
        for (from, numbers) in self.settle(round)? {
            place(from, &numbers);
            self.mpi.recycle(numbers);
        }
        Ok(())
    }
}

/// Replaces `mine` by the sum of what comes before it, itself, and what comes after it, added in that order.
fn add_in_order<'a>(
    mine: &mut [f32],
    mut before: impl Iterator<Item = &'a [f32]>,
    after: impl Iterator<Item = &'a [f32]>,
) {
    let add = |sum: &mut [f32], more: &[f32]| sum.iter_mut().zip(more).for_each(|(total, x)| *total += x);
    if let Some(first) = before.next() {
        let mut sum = first.to_vec();
        before.for_each(|more| add(&mut sum, more));
        // Addition of two floats commutes.
        add(mine, &sum);
    }
    after.for_each(|more| add(mine, more));
}

impl Mpi {
    /// Tells the group what this rank calls and waits until all have told theirs.
    pub(super) fn meet(
        &self,
        group: &[Rank],
        name: &'static str,
        len: usize,
        root: Option<Rank>,
        inline: &[f32],
    ) -> Result<Arrived<Vec<Call>>, CommError> {
        checks::group(self.rank(), group, self.size())?;
        self.sweep()?;
        let mine = Call { name, len, root, group: group.to_vec(), inline: inline.to_vec() };
        let others = || group.iter().copied().filter(|rank| *rank != self.rank());
        let note = Note::Call(mine.clone());
        others().try_for_each(|rank| self.tell(rank, &note))?;
        let has_called = |rank: &Rank| self.inbox.borrow().calls.get(rank).is_some_and(|calls| !calls.is_empty());
        let absent = || others().filter(|rank| !has_called(rank)).collect::<Vec<_>>();
        let waited =
            self.wait(|| name.into(), absent, || Ok(others().all(|rank| has_called(&rank)).then_some(())))?.waited;
        let mut inbox = self.inbox.borrow_mut();
        let mut call = |rank: &Rank| match inbox.calls.get_mut(rank) {
            Some(calls) if *rank != self.rank() => calls.pop_front(),
            _ => Some(mine.clone()),
        };
        let calls: Vec<Call> = group.iter().filter_map(&mut call).collect();
        if calls.iter().all(|call| call.agrees(&mine)) {
            return Ok(Arrived { value: calls, waited });
        }
        let tell = |(rank, call): (&Rank, &Call)| format!("{rank} calls {} with {}", call.name, call.len);
        Err(CommError::Mismatch { rank: self.rank(), calls: group.iter().zip(&calls).map(tell).collect() })
    }

    fn team<'a>(&'a self, ranks: &'a [Rank], what: &'static str) -> Team<'a> {
        let me = ranks.iter().position(|rank| *rank == self.rank()).unwrap_or_default();
        Team { mpi: self, ranks, me, what }
    }

    /// All-reduce.
    pub(super) fn sum_everywhere(&self, group: &[Rank], buffer: &mut [f32]) -> Result<Duration, CommError> {
        const WHAT: &str = "all-reduce";
        let len = buffer.len();
        if len <= INLINE {
            let met = self.meet(group, WHAT, len, None, buffer)?;
            sum_inline(&met.value, buffer);
            return Ok(met.waited);
        }
        if len * group.len().saturating_sub(1) <= DIRECT {
            return self.sum_directly(group, buffer);
        }
        let waited = self.meet(group, WHAT, len, None, &[])?.waited;
        self.team(group, WHAT).sum(buffer, |_| true)?;
        Ok(waited)
    }

    /// All-reduce of few numbers: they leave together with the call, and every rank adds up those of all.
    fn sum_directly(&self, group: &[Rank], buffer: &mut [f32]) -> Result<Duration, CommError> {
        const WHAT: &str = "all-reduce";
        checks::group(self.rank(), group, self.size())?;
        let (team, len) = (self.team(group, WHAT), buffer.len());
        team.others().try_for_each(|p| team.post(SUMMANDS, p, buffer))?;
        let waited = self.meet(group, WHAT, len, None, &[])?.waited;
        let mut summands = Round::new();
        team.others().try_for_each(|p| team.expect(SUMMANDS, p, len, &mut summands))?;
        team.add_up(summands, buffer)?;
        Ok(waited)
    }

    /// Reduce-scatter: the summands of part `p` go to rank number `p`.
    pub(super) fn sum_in_parts(
        &self,
        group: &[Rank],
        input: &[f32],
        output: &mut [f32],
    ) -> Result<Duration, CommError> {
        const WHAT: &str = "reduce-scatter";
        let waited = self.meet(group, WHAT, input.len(), None, &[])?.waited;
        let (team, len) = (self.team(group, WHAT), output.len());
        output.copy_from_slice(&input[team.me * len..][..len]);
        let mut summands = Round::new();
        for k in 0..=blocks((0, len)) {
            let mut next = Round::new();
            for p in team.others() {
                team.expect(SUMMANDS, p, block((0, len), k).len(), &mut next)?;
                team.post(SUMMANDS, p, &input[block((p * len, (p + 1) * len), k)])?;
            }
            let ready = std::mem::replace(&mut summands, next);
            if let Some(k) = k.checked_sub(1) {
                team.add_up(ready, &mut output[block((0, len), k)])?;
            }
        }
        Ok(waited)
    }

    /// Reduce: every rank sums a part and sends it to the root.
    pub(super) fn sum_at(&self, group: &[Rank], root: usize, buffer: &mut [f32]) -> Result<Duration, CommError> {
        const WHAT: &str = "reduce";
        let waited = self.meet(group, WHAT, buffer.len(), Some(group[root]), &[])?.waited;
        self.team(group, WHAT).sum(buffer, |p| p == root)?;
        Ok(waited)
    }

    /// All-gather.
    pub(super) fn gather_everywhere(
        &self,
        group: &[Rank],
        input: &[f32],
        output: &mut [f32],
    ) -> Result<Duration, CommError> {
        const WHAT: &str = "all-gather";
        let len = input.len();
        let waited = self.meet(group, WHAT, len, None, &[])?.waited;
        let team = self.team(group, WHAT);
        output[team.me * len..][..len].copy_from_slice(input);
        let place = |p: usize| (p * len, (p + 1) * len);
        team.swap((0, len), place, |_| (0, len), input, output)?;
        Ok(waited)
    }

    /// All-to-all.
    pub(super) fn swap_parts(&self, group: &[Rank], input: &[f32], output: &mut [f32]) -> Result<Duration, CommError> {
        const WHAT: &str = "all-to-all";
        let waited = self.meet(group, WHAT, input.len(), None, &[])?.waited;
        let (team, len) = (self.team(group, WHAT), input.len() / group.len());
        let place = |p: usize| (p * len, (p + 1) * len);
        output[team.me * len..][..len].copy_from_slice(&input[team.me * len..][..len]);
        team.swap((0, len), place, place, input, output)?;
        Ok(waited)
    }

    /// Broadcast, as a chain of ranks that pass blocks on: each sends the numbers once, however many they are.
    pub(super) fn copy_everywhere(
        &self,
        group: &[Rank],
        root: usize,
        buffer: &mut [f32],
    ) -> Result<Duration, CommError> {
        const WHAT: &str = "broadcast";
        let (len, n) = (buffer.len(), group.len());
        let inline = if len <= INLINE { &buffer[..] } else { &[] };
        let met = self.meet(group, WHAT, len, Some(group[root]), inline)?;
        if len <= INLINE {
            buffer.copy_from_slice(&met.value[root].inline);
            return Ok(met.waited);
        }
        let team = self.team(group, WHAT);
        let (before, after) = ((team.me + n - 1) % n, (team.me + 1) % n);
        let mut coming = Round::new();
        for k in 0..=blocks((0, len)) {
            let mut next = Round::new();
            if team.me != root {
                team.expect(RESULTS, before, block((0, len), k).len(), &mut next)?;
            }
            let ready = std::mem::replace(&mut coming, next);
            let Some(k) = k.checked_sub(1) else { continue };
            team.put(ready, |_, numbers| buffer[block((0, len), k)].copy_from_slice(numbers))?;
            if after != root {
                team.post(RESULTS, after, &buffer[block((0, len), k)])?;
            }
        }
        Ok(met.waited)
    }
}

impl Team<'_> {
    /// Every rank sums its part of the buffers and sends it to those that `wants` names, whose buffers end as the sum. Of
    /// the others only the own part is summed.
    fn sum(&self, buffer: &mut [f32], wants: impl Fn(usize) -> bool) -> Result<(), CommError> {
        let (len, n) = (buffer.len(), self.ranks.len());
        let mine = part(self.me, n, len);
        let rounds = (0..n).map(|p| blocks(part(p, n, len))).max().unwrap_or(0);
        let (mut summands, mut results) = (Round::new(), Round::new());
        for k in 0..rounds + 2 {
            let mut next = Round::new();
            for p in self.others() {
                self.expect(SUMMANDS, p, block(mine, k).len(), &mut next)?;
                self.post(SUMMANDS, p, &buffer[block(part(p, n, len), k)])?;
            }
            let ready = std::mem::replace(&mut summands, next);
            let mut coming = Round::new();
            if let Some(k) = k.checked_sub(1) {
                for p in self.others().filter(|_| wants(self.me)) {
                    self.expect(RESULTS, p, block(part(p, n, len), k).len(), &mut coming)?;
                }
                self.add_up(ready, &mut buffer[block(mine, k)])?;
                let sum = &buffer[block(mine, k)];
                self.others().filter(|p| wants(*p)).try_for_each(|p| self.post(RESULTS, p, sum))?;
            }
            let ready = std::mem::replace(&mut results, coming);
            if let Some(k) = k.checked_sub(2) {
                self.put(ready, |p, sum| buffer[block(part(p, n, len), k)].copy_from_slice(sum))?;
            }
        }
        Ok(())
    }

    /// Every rank sends every other the numbers of `input` at `sent(p)` and puts what comes from it at `place(p)` of
    /// `output`; all of these are as long as `one`.
    fn swap(
        &self,
        one: (usize, usize),
        place: impl Fn(usize) -> (usize, usize),
        sent: impl Fn(usize) -> (usize, usize),
        input: &[f32],
        output: &mut [f32],
    ) -> Result<(), CommError> {
        let mut coming = Round::new();
        for k in 0..=blocks(one) {
            let mut next = Round::new();
            for p in self.others() {
                self.expect(RESULTS, p, block(one, k).len(), &mut next)?;
                self.post(RESULTS, p, &input[block(sent(p), k)])?;
            }
            let ready = std::mem::replace(&mut coming, next);
            if let Some(k) = k.checked_sub(1) {
                self.put(ready, |p, numbers| output[block(place(p), k)].copy_from_slice(numbers))?;
            }
        }
        Ok(())
    }
}

/// The sum of numbers that came with the calls, in rank order.
fn sum_inline(calls: &[Call], sum: &mut [f32]) {
    let (Some(first), others) = (calls.first(), calls.iter().skip(1)) else { return };
    sum.copy_from_slice(&first.inline);
    for call in others {
        sum.iter_mut().zip(&call.inline).for_each(|(total, x)| *total += x);
    }
}
