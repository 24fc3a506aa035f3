//! One sweep over the rounds of a schedule: when every pass starts and ends.

use super::buckets::{self, BucketSpan, Overlap};
use super::fold::{Fold, Folder};
use super::program::{Gradients, StepProgram};
use super::schedule::{PassKind, Rounds};

/// Stretches passes: what makes one draw of a noisy step differ from another.
pub(super) trait Clock {
    /// Whether equal passes take equal time, so that steady states repeat.
    const REPEATS: bool;

    /// Time of a pass on a device that takes `alone` ns by the program.
    fn pass(&mut self, device: usize, alone: u64) -> u64;
}

/// Every pass takes what the program says.
pub(super) struct Exact;

impl Clock for Exact {
    const REPEATS: bool = true;

    fn pass(&mut self, _: usize, alone: u64) -> u64 {
        alone
    }
}

/// A pass that was run; times in ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PassRecord {
    pub(super) start: u64,
    pub(super) end: u64,
    /// When its result left for the next stage; `u64::MAX` when it went nowhere.
    pub(super) left: u64,
    pub(super) micro_batch: u32,
    pub(super) chunk: u16,
    pub(super) kind: PassKind,
}

/// What a sweep finds out.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Swept {
    /// By device, in order of execution; a folded stretch stands once.
    pub(super) passes: Vec<Vec<PassRecord>>,
    pub(super) folds: Vec<Fold>,
    /// By device.
    pub(super) buckets: Vec<Vec<BucketSpan>>,
    /// When each device has done its last pass.
    pub(super) computed: Vec<u64>,
    /// When the last bucket of each device has met its copies.
    pub(super) exchanged: Vec<u64>,
}

/// Everything that later rounds read; ns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// When each device is free.
    pub(super) free: Vec<u64>,
    /// When each device's link down, and up, is free.
    down: Vec<u64>,
    up: Vec<u64>,
    /// When the activation, and the gradient, that each device takes next has arrived.
    activation: Vec<u64>,
    gradient: Vec<u64>,
}

impl State {
    fn new(devices: usize) -> Self {
        let zeros = vec![0; devices];
        Self { free: zeros.clone(), down: zeros.clone(), up: zeros.clone(), activation: zeros.clone(), gradient: zeros }
    }

    pub(super) fn times(&self) -> impl Iterator<Item = u64> {
        [&self.free, &self.down, &self.up, &self.activation, &self.gradient].into_iter().flatten().copied()
    }

    /// Moves all that has happened by `shift` ns.
    pub(super) fn advance(&mut self, shift: u64) {
        let all = [&mut self.free, &mut self.down, &mut self.up, &mut self.activation, &mut self.gradient];
        all.into_iter().flatten().filter(|time| **time > 0).for_each(|time| *time += shift);
    }

    /// Forgets messages that nobody waits for any more: between the two halves of fill-drain.
    fn forget_forwards(&mut self) {
        self.down.fill(0);
        self.activation.fill(0);
    }
}

/// Times of the three kinds of passes of a chunk on a device, ns.
type Times = [u64; 3];

/// What a device does next.
#[derive(Clone, Copy, Debug)]
struct Turn {
    kind: PassKind,
    chunk: usize,
    micro_batch: u64,
    /// Whether the gradients of its chunk are whole behind it.
    completes: bool,
    /// Whether another device waits for its result.
    goes_on: bool,
}

/// One step under way.
pub(super) struct Sweep<'a, C> {
    program: &'a StepProgram,
    clock: &'a mut C,
    rounds: Rounds,
    /// By device, then chunk.
    times: Vec<Times>,
    state: State,
    found: Swept,
    records: bool,
}

/// Runs a program; passes are recorded only when asked for.
pub(super) fn sweep<C: Clock>(program: &StepProgram, clock: &mut C, records: bool) -> Swept {
    let rounds = Rounds::new(program.schedule, program.devices.len(), program.chunks, program.micro_batches);
    let devices = rounds.devices;
    let of_chunk = |device: usize, chunk: usize| {
        let work = program.work(device, chunk);
        let weight = work.weight_gradient.time.get();
        // Without passes of their own, weight gradients are part of the backward pass.
        let merged = if rounds.splits_backward() { 0 } else { weight };
        [work.forward.time.get(), work.backward.time.get() + merged, weight]
    };
    let times = (0..devices).flat_map(|device| (0..rounds.chunks).map(move |chunk| of_chunk(device, chunk)));
    let per_device = if records { (3 * rounds.units.min(4096)) as usize } else { 0 };
    let mut sweep = Sweep {
        program,
        clock,
        rounds,
        times: times.collect(),
        state: State::new(devices),
        found: Swept {
            passes: vec![Vec::with_capacity(per_device); devices],
            folds: Vec::new(),
            buckets: vec![Vec::new(); devices],
            computed: vec![0; devices],
            exchanged: vec![0; devices],
        },
        records,
    };
    sweep.run();
    sweep.found.computed.clone_from(&sweep.state.free);
    sweep.found
}

impl<C: Clock> Sweep<'_, C> {
    fn run(&mut self) {
        let mut round = 0;
        if C::REPEATS {
            for (number, steady) in self.rounds.steady().into_iter().enumerate() {
                round = self.until(round, steady.from);
                if number > 0 {
                    self.state.forget_forwards();
                }
                let mut folder = Folder::new(steady);
                while round < steady.until {
                    if let Some(repeats) = folder.look(round, &self.state, self.found.passes[0].len()) {
                        self.fold(repeats);
                        round += repeats.rounds * repeats.times;
                    }
                    round = self.until(round, (round + 1).min(steady.until));
                }
            }
        }
        self.until(round, self.rounds.count());
    }

    fn fold(&mut self, repeats: super::fold::Repeats) {
        self.state.advance(repeats.shift * repeats.times);
        let fold = Fold::new(repeats, &self.found.passes, &self.rounds);
        self.found.folds.push(fold);
    }

    /// Works through rounds `from` to `until`; returns the next one.
    fn until(&mut self, from: u64, until: u64) -> u64 {
        for round in from..until {
            self.round(round);
        }
        from.max(until)
    }

    fn round(&mut self, round: u64) {
        let devices = self.rounds.devices;
        // What closes the circle is read before it is written anew.
        let (mut around_down, mut around_up) = (None, None);
        for device in (0..devices).rev() {
            if let Some(unit) = self.rounds.forward(round, device) {
                around_down = self.forward(device, unit).or(around_down);
            }
        }
        for turn in 0..devices {
            let device = if self.rounds.climbs() { devices - 1 - turn } else { turn };
            if let Some(unit) = self.rounds.backward(round, device) {
                around_up = self.backward(device, unit).or(around_up);
            }
            if let Some(unit) = self.rounds.weight_gradient(round, device) {
                self.weight_gradient(device, unit);
            }
        }
        if let Some(arrival) = around_down {
            self.state.activation[0] = arrival;
        }
        if let Some(arrival) = around_up {
            self.state.gradient[devices - 1] = arrival;
        }
    }

    /// Arrival at the first device, when the next chunk lies there.
    fn forward(&mut self, device: usize, unit: u64) -> Option<u64> {
        let (chunk, micro_batch) = self.rounds.forward_place(unit);
        let last = self.rounds.devices - 1;
        let needs = if device == 0 && chunk == 0 { 0 } else { self.state.activation[device] };
        let goes_on = device < last || chunk + 1 < self.rounds.chunks;
        let turn = Turn { kind: PassKind::Forward, chunk, micro_batch, completes: false, goes_on };
        let arrival = self.run_pass(device, needs, turn)?;
        if device == last {
            return Some(arrival);
        }
        self.state.activation[device + 1] = arrival;
        None
    }

    /// Arrival at the last device, when the chunk before lies there.
    fn backward(&mut self, device: usize, unit: u64) -> Option<u64> {
        let (chunk, micro_batch) = self.rounds.backward_place(unit);
        let (last_device, last_chunk) = (self.rounds.devices - 1, self.rounds.chunks - 1);
        let needs = if device == last_device && chunk == last_chunk { 0 } else { self.state.gradient[device] };
        let completes = !self.rounds.splits_backward() && self.rounds.completes(unit);
        let goes_on = device > 0 || chunk > 0;
        let turn = Turn { kind: PassKind::Backward, chunk, micro_batch, completes, goes_on };
        let arrival = self.run_pass(device, needs, turn)?;
        if device == 0 {
            return Some(arrival);
        }
        self.state.gradient[device - 1] = arrival;
        None
    }

    fn weight_gradient(&mut self, device: usize, unit: u64) {
        let completes = self.rounds.completes(unit);
        let kind = PassKind::WeightGradient;
        self.run_pass(device, 0, Turn { kind, chunk: 0, micro_batch: unit, completes, goes_on: false });
    }

    /// Runs a pass as soon as the device is free and what it `needs` is there; when its result arrives where it goes on.
    fn run_pass(&mut self, device: usize, needs: u64, turn: Turn) -> Option<u64> {
        let start = self.state.free[device].max(needs);
        let end = self.pass(device, start, turn);
        let handed = turn.goes_on.then(|| self.hand_over(end, device, turn.kind));
        if self.records {
            let left = handed.map_or(u64::MAX, |(left, _)| left);
            let (micro_batch, chunk) = (turn.micro_batch as u32, turn.chunk as u16);
            self.found.passes[device].push(PassRecord { start, end, left, micro_batch, chunk, kind: turn.kind });
        }
        handed.map(|(_, arrival)| arrival)
    }

    /// Runs a pass from `start`; buckets of gradients travel beside it and after it when it completes them.
    fn pass(&mut self, device: usize, start: u64, turn: Turn) -> u64 {
        let Turn { kind, chunk, completes, .. } = turn;
        let alone = self.times[device * self.rounds.chunks + chunk][kind as usize];
        let work = self.clock.pass(device, alone);
        let overlap = Overlap { slowdown: self.program.overlap_slowdown, busy_until: self.found.exchanged[device] };
        let gradients = if completes { self.program.devices[device].gradients[chunk] } else { Gradients::default() };
        let spans = self.records.then_some(&mut self.found.buckets[device]);
        let (end, exchanged) = buckets::beside(start, work, gradients, overlap, chunk, spans);
        self.state.free[device] = end;
        self.found.exchanged[device] = exchanged;
        end
    }

    /// When a result that is there at `end` leaves, and when it has arrived.
    fn hand_over(&mut self, end: u64, device: usize, kind: PassKind) -> (u64, u64) {
        let link = if kind == PassKind::Forward { &mut self.state.down } else { &mut self.state.up };
        let left = end.max(link[device]);
        let hop = self.program.hop;
        link[device] = left + hop.transfer.get();
        (left, link[device] + hop.latency.get())
    }
}
