//! Every rank of small layouts simulated by itself: the timeline of a class is that of each of its ranks.

use std::collections::HashMap;

use cutplane_sim::engine::step::PipelineSchedule::{
    FillDrain, Interleaved, OneForwardOneBackward, Vanilla, ZeroBubble,
};
use cutplane_sim::engine::step::{
    Activity, Detail, Gradients, HopTime, Pass, PassKind, Piece, PipelineSchedule, StepProgram, simulate_step,
};
use cutplane_units::Nanos;
use proptest::prelude::*;

use crate::step_support::equal;

/// Kind, chunk, micro-batch.
type Task = (PassKind, usize, u64);
/// Pipeline device, replica, place among the ranks in step.
type Rank = (usize, u64, u64);

/// What a device does in order, written down as the papers draw it.
fn tasks(program: &StepProgram, device: usize) -> Vec<Task> {
    let (p, v, m) = (program.devices.len() as u64, program.chunks, program.micro_batches);
    let groups = m.div_ceil(p);
    let walk = || {
        (0..groups).flat_map(move |group| {
            (0..v).flat_map(move |chunk| (group * p..((group + 1) * p).min(m)).map(move |micro| (chunk, micro)))
        })
    };
    let forwards: Vec<Task> = walk().map(|(chunk, micro)| (PassKind::Forward, chunk, micro)).collect();
    let mut backwards: Vec<Task> = walk().map(|(chunk, micro)| (PassKind::Backward, v - 1 - chunk, micro)).collect();
    if program.schedule == FillDrain {
        backwards.reverse();
    }
    let (all, behind) = (forwards.len(), p as usize - 1 - device);
    let warm = match program.schedule {
        Vanilla => 0,
        FillDrain => all,
        Interleaved if v > 1 => (2 * behind + (v - 1) * p as usize).min(all),
        _ => behind.min(all),
    };
    let mut order: Vec<Task> = forwards[..warm].to_vec();
    let mut weights = 0;
    for (done, backward) in backwards.iter().enumerate() {
        order.extend(forwards.get(warm + done));
        order.push(*backward);
        if program.schedule == ZeroBubble && done >= device {
            order.push((PassKind::WeightGradient, 0, weights));
            weights += 1;
        }
    }
    order.extend(
        (weights..if program.schedule == ZeroBubble { m } else { 0 }).map(|w| (PassKind::WeightGradient, 0, w)),
    );
    order
}

/// One rank: how far it is, and when.
#[derive(Default)]
struct State {
    task: usize,
    piece: usize,
    now: u64,
    start: u64,
    passes: Vec<(Task, u64, u64)>,
    link: HashMap<PassKind, u64>,
    /// When each of its buckets is ready.
    buckets: Vec<u64>,
}

struct Cluster<'a> {
    program: &'a StepProgram,
    tasks: Vec<Vec<Task>>,
    ranks: HashMap<Rank, State>,
    /// Arrival of the input of a task at a rank.
    arrived: HashMap<(Rank, Task), u64>,
    /// Ranks that have come to a collective of a pass, and the last to come.
    gathered: HashMap<(usize, u64, usize, usize), (u64, u64)>,
}

impl<'a> Cluster<'a> {
    /// Runs every rank; one may be late by so much.
    fn run(program: &'a StepProgram, late: Option<(Rank, u64)>) -> Self {
        let devices = 0..program.devices.len();
        let tasks = devices.clone().map(|device| tasks(program, device)).collect();
        let mut cluster =
            Self { program, tasks, ranks: HashMap::new(), arrived: HashMap::new(), gathered: HashMap::new() };
        let all: Vec<Rank> = devices
            .flat_map(|d| (0..program.replicas).flat_map(move |r| (0..program.ranks_in_step).map(move |g| (d, r, g))))
            .collect();
        for rank in &all {
            let now = late.filter(|(one, _)| one == rank).map_or(0, |(_, by)| by);
            cluster.ranks.insert(*rank, State { now, ..State::default() });
        }
        // Round robin until nobody can go on.
        while all.iter().filter(|rank| cluster.step(**rank)).count() > 0 {}
        for rank in &all {
            assert_eq!(cluster.ranks[rank].task, cluster.tasks[rank.0].len(), "{rank:?} is stuck");
        }
        cluster
    }

    fn pass(&self, device: usize, (kind, chunk, _): Task) -> &'a Pass {
        let work = &self.program.kinds[self.program.devices[device].chunks[chunk]];
        match kind {
            PassKind::Forward => &work.forward,
            PassKind::Backward => &work.backward,
            PassKind::WeightGradient => &work.weight_gradient,
        }
    }

    /// Does the next piece of a rank; false when it has to wait.
    fn step(&mut self, rank: Rank) -> bool {
        let state = &self.ranks[&rank];
        let Some(task) = self.tasks[rank.0].get(state.task).copied() else { return false };
        let (number, at, now) = (state.task, state.piece, state.now);
        let pieces = &self.pass(rank.0, task).pieces;
        let mut from = now;
        if at == 0 {
            let Some(arrival) = self.input(rank, task) else { return false };
            from = now.max(arrival);
            self.ranks.get_mut(&rank).unwrap().start = from;
        }
        let Some(piece) = pieces.get(at) else {
            self.end(rank, task);
            return true;
        };
        if piece.activity == Activity::TensorParallel {
            let key = (rank.0, rank.1, number, at);
            let (came, last) = self.gathered.entry(key).or_default();
            let waits = &mut self.ranks.get_mut(&rank).unwrap().piece;
            // Marked as come by a piece number out of range of the pass.
            if *waits == at {
                (*came, *last) = (*came + 1, (*last).max(from));
                *waits = at + 1000;
            }
        }
        self.resume(rank, number, at, from, piece);
        true
    }

    fn resume(&mut self, rank: Rank, number: usize, at: usize, from: u64, piece: &Piece) {
        if piece.activity != Activity::TensorParallel {
            let state = self.ranks.get_mut(&rank).unwrap();
            (state.now, state.piece) = (from + piece.time.get(), at + 1);
            return;
        }
        let (came, last) = self.gathered[&(rank.0, rank.1, number, at)];
        if came == self.program.ranks_in_step {
            for place in 0..self.program.ranks_in_step {
                let state = self.ranks.get_mut(&(rank.0, rank.1, place)).unwrap();
                (state.now, state.piece) = (last + piece.time.get(), at + 1);
            }
        }
    }

    /// When what a pass needs is there; `None` while it is not.
    fn input(&self, rank: Rank, task: Task) -> Option<u64> {
        let (last, top) = (self.program.devices.len() - 1, self.program.chunks - 1);
        match task {
            (PassKind::Forward, 0, _) if rank.0 == 0 => Some(0),
            (PassKind::Backward, chunk, _) if rank.0 == last && chunk == top => Some(0),
            (PassKind::WeightGradient, ..) => Some(0),
            _ => self.arrived.get(&(rank, task)).copied(),
        }
    }

    fn end(&mut self, rank: Rank, task: Task) {
        let hop = self.program.hop;
        let next = self.receiver(rank.0, task);
        let completes = self.completes(rank.0, task);
        let time = self.pass(rank.0, task).time.get();
        let state = self.ranks.get_mut(&rank).unwrap();
        let (start, end) = (state.start, state.now);
        state.passes.push((task, start, end));
        (state.task, state.piece) = (state.task + 1, 0);
        for bucket in 1..=completes {
            state.buckets.push(start + (u128::from(time) * u128::from(bucket) / u128::from(completes)) as u64);
        }
        if let Some((device, chunk)) = next {
            let link = state.link.entry(task.0).or_default();
            *link = end.max(*link) + hop.transfer.get();
            let arrival = *link + hop.latency.get();
            self.arrived.insert(((device, rank.1, rank.2), (task.0, chunk, task.2)), arrival);
        }
    }

    fn receiver(&self, device: usize, (kind, chunk, _): Task) -> Option<(usize, usize)> {
        let last = self.program.devices.len() - 1;
        match kind {
            PassKind::Forward if device < last => Some((device + 1, chunk)),
            PassKind::Forward if chunk + 1 < self.program.chunks => Some((0, chunk + 1)),
            PassKind::Backward if device > 0 => Some((device - 1, chunk)),
            PassKind::Backward if chunk > 0 => Some((last, chunk - 1)),
            _ => None,
        }
    }

    /// Buckets that a pass completes.
    fn completes(&self, device: usize, (kind, chunk, micro): Task) -> u64 {
        let last = if self.program.schedule == FillDrain { 0 } else { self.program.micro_batches - 1 };
        let completing =
            if self.program.schedule == ZeroBubble { PassKind::WeightGradient } else { PassKind::Backward };
        if kind == completing && micro == last { self.program.devices[device].gradients[chunk].buckets } else { 0 }
    }

    /// When the last bucket of a device has met its copies: each starts when the last replica has it.
    fn exchanged(&self, device: usize, place: u64) -> u64 {
        let buckets = self.ranks[&(device, 0, place)].buckets.len();
        let times: Vec<Gradients> = self.program.devices[device].gradients.iter().rev().copied().collect();
        let costs = times.iter().flat_map(|all| {
            let upto = |index: u64| (u128::from(all.time.get()) * u128::from(index) / u128::from(all.buckets)) as u64;
            (0..all.buckets).map(move |index| upto(index + 1) - upto(index))
        });
        let ready = (0..buckets).map(|bucket| {
            (0..self.program.replicas).map(|replica| self.ranks[&(device, replica, place)].buckets[bucket]).max()
        });
        costs.zip(ready).fold(0, |free, (cost, ready)| free.max(ready.unwrap()) + cost)
    }
}

fn layouts() -> impl Strategy<Value = StepProgram> {
    let schedule = prop::sample::select(vec![Vanilla, FillDrain, OneForwardOneBackward, Interleaved, ZeroBubble]);
    let times = prop::collection::vec(1_u64..400, 12);
    (schedule, 1_usize..5, 1_usize..4, 1_u64..5, 1_u64..4, 1_u64..4, times, 0_u64..60).prop_map(build)
}

fn build(
    (schedule, p, v, m, replicas, in_step, times, hop): (PipelineSchedule, usize, usize, u64, u64, u64, Vec<u64>, u64),
) -> StepProgram {
    let interleaved = schedule == Interleaved;
    let v = if interleaved { v } else { 1 };
    let m = if interleaved { m * p as u64 } else { m };
    let mut program = equal(schedule, p, v, m, [0, 0, 0]);
    let time = |index: usize| Nanos::new(times[index % times.len()]);
    // Kernels around a collective, as a layer has them.
    let pass = |seed: usize| {
        let kinds = [Activity::Forward, Activity::TensorParallel, Activity::Forward];
        Pass::of_pieces(
            kinds.into_iter().enumerate().map(|(at, activity)| Piece { activity, time: time(seed + at) }).collect(),
        )
    };
    program.kinds.clear();
    for (at, device) in program.devices.iter_mut().enumerate() {
        for chunk in 0..v {
            device.chunks[chunk] = program.kinds.len();
            let seed = 5 * at + 3 * chunk;
            let weight_gradient = if schedule == ZeroBubble { pass(seed + 2) } else { Pass::default() };
            let kind = cutplane_sim::engine::step::ChunkWork {
                forward: pass(seed),
                backward: pass(seed + 1),
                weight_gradient,
            };
            program.kinds.push(kind);
            device.gradients[chunk] = Gradients { time: time(seed + 4), buckets: 1 + (seed as u64 % 3) };
        }
    }
    program.hop = HopTime { transfer: Nanos::new(hop), latency: Nanos::new(hop / 3) };
    (program.replicas, program.ranks_in_step) = (replicas, in_step);
    program
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_class_is_each_of_its_ranks(program in layouts()) {
        let timeline = simulate_step(&program).unwrap();
        let cluster = Cluster::run(&program, None);
        prop_assert_eq!(program.ranks(), cluster.ranks.len() as u64);
        for (rank, state) in &cluster.ranks {
            let spans = timeline.spans(rank.0, Detail::Passes);
            let class: Vec<(u64, u64)> =
                spans.iter().take(state.passes.len()).map(|span| (span.start.get(), span.end.get())).collect();
            let own: Vec<(u64, u64)> = state.passes.iter().map(|(_, start, end)| (*start, *end)).collect();
            prop_assert_eq!(&class, &own, "{:?}", rank);
            let synchronised = cluster.exchanged(rank.0, rank.2).max(own.last().unwrap().1);
            prop_assert_eq!(timeline.synchronised(rank.0).get(), synchronised, "{:?}", rank);
        }
    }
}

#[test]
fn a_rank_of_its_own_breaks_the_class() {
    // The oracle notices: one late rank delays those in step with it, and the other replica not before gradients meet.
    let times = (0..12).map(|at| 50 + at * 7).collect();
    let program = build((OneForwardOneBackward, 3, 1, 4, 2, 2, times, 10));
    let late = Cluster::run(&program, Some(((0, 1, 0), 5_000)));
    let end = |rank| late.ranks[&rank].passes.last().unwrap().2;
    assert!(end((2, 1, 1)) >= 5_000 && end((2, 0, 1)) < 5_000);
    assert!(late.exchanged(2, 0) >= 5_000);
}
