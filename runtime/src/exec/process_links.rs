//! Measuring the links between processes: the messages and gradient synchronisations of a run, between ranks on one host and
//! between hosts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cutplane_plan::Rank;
use cutplane_record::{AllReducePoint, LinkClass, MessagePoint, ProcessLinks};

use super::links::{Fixture, SIZES, median, nanos, zeros};
use super::step::Fault;
use super::transfer::{Roads, Transfers, hand_over, take};
use crate::backend::{Backend, run_rank};
use crate::comm::{CommOptions, Communicator, Processes};
use crate::error::RuntimeError;

/// Time for one size of messages, and for one of sums. Sizes that take longer are left out, but for the first [`FEWEST`].
const TIME: Duration = Duration::from_millis(300);
const FEWEST: usize = 3;
/// Rounds for each size.
const ROUNDS: (usize, usize) = (3, 15);
/// How long a process waits for one that is still measuring something else.
const PATIENCE: Duration = Duration::from_mins(15);
/// Message numbers.
const PING: u64 = 0;
const PONG: u64 = 1;

/// Measures what a message costs between two processes of one host and of two hosts, and all-reduces over one rank of each
/// process of a host and of each host. All processes call this together, on a core of their own each, and get the same
/// answer; it has no entry for a class of which there is no pair.
///
/// # Errors
/// [`RuntimeError::Rank`] when a process cannot be reached.
pub fn measure_process_links(
    processes: &Arc<dyn Processes>,
    backend: &Backend,
    core: usize,
) -> Result<Vec<ProcessLinks>, RuntimeError> {
    let rank = processes.index() as u32;
    let fail = |problem: String| RuntimeError::Rank { rank, problem };
    let options = CommOptions { timeout: PATIENCE, ..CommOptions::default() };
    let ends = processes.world(processes.count(), options).map_err(|error| fail(error.to_string()))?;
    let Some(comm) = ends.into_iter().next() else { return Ok(Vec::new()) };
    let roads = Roads::on_one(backend, processes.count(), Transfers::Staged);
    let members = members(&processes.hosts());
    let measured = run_rank(core, backend, || {
        let bench = Bench { comm, roads: &roads };
        members.iter().map(|(class, ranks)| bench.measure(*class, ranks)).collect::<Result<Vec<_>, Fault>>()
    })?;
    measured.map_err(|fault| fail(fault.to_string()))
}

/// For each class of links the ranks between which it is measured: those of the first host with several, and the first of
/// each host.
fn members(hosts: &[usize]) -> Vec<(LinkClass, Vec<Rank>)> {
    let count = hosts.iter().max().map_or(0, |last| last + 1);
    let on = |host: usize| {
        let ranks = hosts.iter().enumerate().filter(move |(_, of)| **of == host);
        ranks.map(|(rank, _)| Rank(rank as u32)).collect::<Vec<_>>()
    };
    let near = (0..count).map(on).find(|ranks| ranks.len() > 1);
    let far: Vec<Rank> = (0..count).filter_map(|host| on(host).first().copied()).collect();
    let far = (far.len() > 1).then_some(far);
    let near = near.map(|ranks| (LinkClass::WithinHost, ranks));
    near.into_iter().chain(far.map(|ranks| (LinkClass::BetweenHosts, ranks))).collect()
}

struct Bench<'a> {
    comm: Box<dyn Communicator>,
    roads: &'a Roads,
}

impl Bench<'_> {
    fn everybody(&self) -> Vec<Rank> {
        (0..self.comm.size() as u32).map(Rank).collect()
    }

    fn measure(&self, class: LinkClass, ranks: &[Rank]) -> Result<ProcessLinks, Fault> {
        let mut links = ProcessLinks { class, messages: Vec::new(), all_reduce: Vec::new() };
        let pair = [ranks[0], ranks[1]];
        for bytes in SIZES {
            let Some(rounds) = self.rounds(pair[0], links.messages.len(), || Ok(self.round_trip(pair, bytes)?.1))?
            else {
                break;
            };
            links.messages.push(self.message(pair, bytes, rounds)?);
        }
        for size in 2..=ranks.len() {
            links.all_reduce.extend(self.all_reduces(&ranks[..size])?);
        }
        Ok(links)
    }

    /// For how many rounds there is time, by one that is not counted; `None` when a size is to be left out. The same on
    /// all ranks: `judge` says.
    fn rounds(
        &self,
        judge: Rank,
        known: usize,
        mut once: impl FnMut() -> Result<f64, Fault>,
    ) -> Result<Option<usize>, Fault> {
        let mut time = [once()? as f32];
        self.comm.broadcast(&self.everybody(), judge, &mut time)?;
        let fit = nanos(TIME) / f64::from(time[0]).max(1.0);
        Ok((fit >= 1.0 || known < FEWEST).then_some((fit as usize).clamp(ROUNDS.0, ROUNDS.1)))
    }

    /// A message there and back; the time that the first rank spends on sending, and that of the whole. Zeros on others.
    fn round_trip(&self, [first, second]: [Rank; 2], bytes: u64) -> Result<(f64, f64), Fault> {
        let pair = [first, second];
        if !pair.contains(&self.comm.rank()) {
            return Ok((0.0, 0.0));
        }
        let payload = vec![zeros(bytes as usize / 4)];
        self.comm.barrier(&pair)?;
        if self.comm.rank() == second {
            let back = take(&self.comm, first, PING)?.value;
            hand_over(&self.comm, self.roads, first, PONG, back)?;
            return Ok((0.0, 0.0));
        }
        let start = Instant::now();
        hand_over(&self.comm, self.roads, second, PING, payload)?;
        let sent = start.elapsed();
        take(&self.comm, second, PONG)?;
        Ok((nanos(sent), nanos(start.elapsed())))
    }

    /// Time that the first rank spends on taking a message that is there, since it has listened for `patience`.
    fn taking(&self, [first, second]: [Rank; 2], bytes: u64, patience: f64) -> Result<f64, Fault> {
        let pair = [first, second];
        if !pair.contains(&self.comm.rank()) {
            return Ok(0.0);
        }
        self.comm.barrier(&pair)?;
        let mut time = 0.0;
        if self.comm.rank() == second {
            hand_over(&self.comm, self.roads, first, PING, vec![zeros(bytes as usize / 4)])?;
        } else {
            let start = Instant::now();
            while nanos(start.elapsed()) < patience {
                self.comm.health()?;
            }
            let start = Instant::now();
            take(&self.comm, second, PING)?;
            time = nanos(start.elapsed());
        }
        // The sender keeps the message moving until it has been taken.
        self.comm.barrier(&pair)?;
        Ok(time)
    }

    fn message(&self, pair: [Rank; 2], bytes: u64, rounds: usize) -> Result<MessagePoint, Fault> {
        let trips = (0..rounds).map(|_| self.round_trip(pair, bytes)).collect::<Result<Vec<_>, _>>()?;
        let middle = |of: fn(&(f64, f64)) -> f64| median(&trips.iter().map(of).collect::<Vec<_>>());
        let (send, one_way) = (middle(|trip| trip.0), middle(|trip| trip.1) / 2.0);
        let takes = (0..ROUNDS.0).map(|_| self.taking(pair, bytes, 2.0 * one_way)).collect::<Result<Vec<_>, _>>()?;
        let recv = median(&takes).min((one_way - send).max(0.0));
        let mut told = [send, recv, one_way].map(|time| time as f32);
        self.comm.broadcast(&self.everybody(), pair[0], &mut told)?;
        let [send_ns, recv_ns, one_way] = told.map(f64::from);
        Ok(MessagePoint { bytes, send_ns, recv_ns, latency_ns: (one_way - send_ns - recv_ns).max(0.0) })
    }

    fn all_reduces(&self, group: &[Rank]) -> Result<Vec<AllReducePoint>, Fault> {
        let mut points = Vec::new();
        for bytes in SIZES {
            let mut fixture = Fixture::new(bytes, self.roads)?;
            let mut once = || Ok(fixture.time(&self.comm, self.roads, group)?.unwrap_or(0.0));
            let Some(rounds) = self.rounds(group[0], points.len(), &mut once)? else { break };
            let mine = (0..rounds).map(|_| Ok(once()? as f32)).collect::<Result<Vec<f32>, Fault>>()?;
            let mut all = vec![0.0; rounds * self.comm.size()];
            self.comm.all_gather(&self.everybody(), &mine, &mut all)?;
            // The synchronisation ends when its last rank ends; ranks beside the group have taken no time.
            let slowest = |round: usize| all.iter().skip(round).step_by(rounds).copied().fold(0.0, f32::max);
            let times: Vec<f64> = (0..rounds).map(|round| f64::from(slowest(round))).collect();
            let time_ns = median(&times);
            let deviations: Vec<f64> = times.iter().map(|time| (time - time_ns).abs()).collect();
            points.push(AllReducePoint { ranks: group.len() as u32, bytes, time_ns, time_mad_ns: median(&deviations) });
        }
        Ok(points)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_measured_within_the_first_host_that_has_any_and_between_hosts() {
        let ranks = |ids: &[u32]| ids.iter().copied().map(Rank).collect::<Vec<_>>();
        assert_eq!(members(&[0]), []);
        assert_eq!(members(&[0, 0, 0]), [(LinkClass::WithinHost, ranks(&[0, 1, 2]))]);
        assert_eq!(members(&[0, 1]), [(LinkClass::BetweenHosts, ranks(&[0, 1]))]);
        let both = [(LinkClass::WithinHost, ranks(&[1, 2])), (LinkClass::BetweenHosts, ranks(&[0, 1, 3]))];
        assert_eq!(members(&[0, 1, 1, 2]), both);
    }
}
