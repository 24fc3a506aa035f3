//! When everything of a step happens, class by class.

use cutplane_units::Nanos;
use serde::Serialize;

use super::program::{Activity, Pass, StepProgram};
use super::schedule::PassKind;
use super::sweep::{PassRecord, Swept};

/// How far spans go into passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// A pass is one span.
    Passes,
    /// A pass is its pieces: kernels, collectives, waits.
    Pieces,
}

/// Something that every rank of a class does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StepSpan {
    /// What.
    pub activity: Activity,
    /// From the start of the step.
    pub start: Nanos,
    /// When it has ended.
    pub end: Nanos,
    /// Micro-batch, of a pass or message.
    pub micro_batch: Option<u64>,
    /// Model chunk of the device, of a pass, message or bucket.
    pub chunk: Option<usize>,
}

/// When the parts behind the passes happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Closing {
    /// All gradients have met: the norm of all of them can be taken, and every rank updates.
    pub synchronised: Nanos,
    /// The slowest rank has updated its parameters and has those of the others.
    pub updated: Nanos,
    /// The step is over.
    pub end: Nanos,
}

/// The timeline of one step. Spans are made when they are asked for: what repeats is kept once.
#[derive(Clone, Debug, PartialEq)]
pub struct StepTimeline<'a> {
    program: &'a StepProgram,
    swept: Swept,
    closing: Closing,
}

impl<'a> StepTimeline<'a> {
    pub(super) fn new(program: &'a StepProgram, swept: Swept) -> Self {
        let closing = closing(program, &swept.computed, &swept.exchanged);
        Self { program, swept, closing }
    }

    /// Length of the step.
    pub const fn makespan(&self) -> Nanos {
        self.closing.end
    }

    /// When the parts behind the passes happen.
    pub const fn closing(&self) -> Closing {
        self.closing
    }

    /// The program that was run.
    pub const fn program(&self) -> &'a StepProgram {
        self.program
    }

    /// When a device has done its last pass.
    pub fn computed(&self, device: usize) -> Nanos {
        Nanos::new(self.swept.computed[device])
    }

    /// When a device's gradients have met their copies, a shared parameter's aside.
    pub fn synchronised(&self, device: usize) -> Nanos {
        Nanos::new(ready(self.program, &self.swept.computed, &self.swept.exchanged, device))
    }

    /// Passes of all classes, folded ones counted each time.
    pub fn passes(&self) -> u64 {
        (0..self.program.devices.len()).map(|device| self.records(device).count() as u64).sum()
    }

    /// Passes that are kept: those of steady stretches once.
    pub fn kept_passes(&self) -> u64 {
        self.swept.passes.iter().map(|passes| passes.len() as u64).sum()
    }

    /// Time that a device works on passes.
    pub fn busy(&self, device: usize) -> Nanos {
        Nanos::new(self.records(device).map(|pass| pass.end - pass.start).sum())
    }

    /// Micro-batches (of chunks) whose activations a device holds at most: forward passes begun, less backward passes
    /// ended; under zero-bubble less weight gradients ended.
    pub fn most_in_flight(&self, device: usize) -> u64 {
        let releases = if self.program.kinds.iter().any(|kind| !kind.weight_gradient.time.is_zero())
            && self.program.schedule == super::PipelineSchedule::ZeroBubble
        {
            PassKind::WeightGradient
        } else {
            PassKind::Backward
        };
        let (mut now, mut most) = (0_u64, 0);
        for pass in self.records(device) {
            if pass.kind == PassKind::Forward {
                now += 1;
                most = most.max(now);
            } else if pass.kind == releases {
                now -= 1;
            }
        }
        most
    }

    /// All that a class of ranks does, stream by stream: passes, messages out, messages in, buckets of gradients, what
    /// follows the passes; within a stream in order of time.
    pub fn for_each_span(&self, device: usize, detail: Detail, visit: &mut impl FnMut(&StepSpan)) {
        for pass in self.records(device) {
            self.visit_pass(device, &pass, detail, visit);
        }
        for pass in self.records(device).filter(|pass| pass.left != u64::MAX) {
            let end = Nanos::new(pass.left) + self.program.hop.transfer;
            visit(&of_pass(&pass, Activity::Send, Nanos::new(pass.left), end));
        }
        self.visit_messages_in(device, visit);
        for bucket in &self.swept.buckets[device] {
            let chunk = Some(usize::from(bucket.chunk));
            let (start, end) = (Nanos::new(bucket.start), Nanos::new(bucket.end));
            visit(&StepSpan { activity: Activity::Gradients, start, end, micro_batch: None, chunk });
        }
        self.visit_closing(device, visit);
    }

    /// The spans of a class.
    pub fn spans(&self, device: usize, detail: Detail) -> Vec<StepSpan> {
        let mut spans = Vec::new();
        self.for_each_span(device, detail, &mut |span| spans.push(*span));
        spans
    }

    /// The passes of a device in order, folded stretches unfolded.
    fn records(&self, device: usize) -> impl Iterator<Item = PassRecord> {
        let passes = &self.swept.passes[device];
        let mut from = 0;
        let mut parts: Vec<(usize, usize, u64, usize)> = Vec::with_capacity(2 * self.swept.folds.len() + 1);
        for (number, fold) in self.swept.folds.iter().enumerate() {
            let until = fold.until[device];
            parts.push((from, until, 0, number));
            parts.extend((1..=fold.times).map(|time| (until - fold.length[device], until, time, number)));
            from = until;
        }
        parts.push((from, passes.len(), 0, 0));
        parts.into_iter().flat_map(move |(from, until, time, number)| {
            passes[from..until].iter().map(move |pass| match time {
                0 => *pass,
                _ => self.moved(pass, time, number),
            })
        })
    }

    fn moved(&self, pass: &PassRecord, time: u64, number: usize) -> PassRecord {
        let fold = &self.swept.folds[number];
        let (shift, each) =
            (fold.shift * time, if pass.kind == PassKind::Forward { fold.forward } else { fold.backward });
        PassRecord {
            start: pass.start + shift,
            end: pass.end + shift,
            left: pass.left.saturating_add(shift),
            micro_batch: (i64::from(pass.micro_batch) + each * time as i64) as u32,
            ..*pass
        }
    }

    fn visit_pass(&self, device: usize, pass: &PassRecord, detail: Detail, visit: &mut impl FnMut(&StepSpan)) {
        let work = self.program.work(device, usize::from(pass.chunk));
        let (whole, activity): (&Pass, Activity) = match pass.kind {
            PassKind::Forward => (&work.forward, Activity::Forward),
            PassKind::Backward => (&work.backward, Activity::Backward),
            PassKind::WeightGradient => (&work.weight_gradient, Activity::WeightGradient),
        };
        if detail == Detail::Passes || whole.pieces.is_empty() {
            return visit(&of_pass(pass, activity, Nanos::new(pass.start), Nanos::new(pass.end)));
        }
        // A pass that took longer than planned took longer in all its parts.
        let planned: u64 = whole.pieces.iter().map(|piece| piece.time.get()).sum();
        let length = pass.end - pass.start;
        let stretched = |done: u64| {
            let done = if length == planned {
                done
            } else {
                (u128::from(done) * u128::from(length) / u128::from(planned.max(1))) as u64
            };
            Nanos::new(pass.start + done)
        };
        let mut done = 0;
        for piece in &whole.pieces {
            let start = stretched(done);
            done += piece.time.get();
            visit(&of_pass(pass, piece.activity, start, stretched(done)));
        }
    }

    /// Activations from the device before, gradients from the device behind: from leaving there to arriving here.
    fn visit_messages_in(&self, device: usize, visit: &mut impl FnMut(&StepSpan)) {
        let devices = self.program.devices.len();
        let flight = self.program.hop.transfer + self.program.hop.latency;
        for (kind, sender) in
            [(PassKind::Forward, (device + devices - 1) % devices), (PassKind::Backward, (device + 1) % devices)]
        {
            let chunk_moves = |pass: &PassRecord| match kind {
                PassKind::Forward if device == 0 => pass.chunk + 1,
                PassKind::Backward if device + 1 == devices => pass.chunk.wrapping_sub(1),
                _ => pass.chunk,
            };
            for pass in self.records(sender).filter(|pass| pass.kind == kind && pass.left != u64::MAX) {
                let left = Nanos::new(pass.left);
                let mut span = of_pass(&pass, Activity::Receive, left, left + flight);
                span.chunk = Some(usize::from(chunk_moves(&pass)));
                visit(&span);
            }
        }
    }

    fn visit_closing(&self, device: usize, visit: &mut impl FnMut(&StepSpan)) {
        let work = &self.program.devices[device];
        let Closing { synchronised, updated, end } = self.closing;
        let ready = self.synchronised(device);
        let mut part = |activity, start: Nanos, end: Nanos| {
            if end > start {
                visit(&StepSpan { activity, start, end, micro_batch: None, chunk: None });
            }
        };
        part(Activity::Gradients, ready.saturating_sub(work.sync), ready);
        let last = self.program.devices.len() - 1;
        if last > 0 && (device == 0 || device == last) {
            let met = self.synchronised(0).max(self.synchronised(last));
            part(Activity::TiedGradients, met, met + self.program.tied);
        }
        part(Activity::Optimizer, synchronised, synchronised + work.optimizer);
        let optimised = synchronised + work.optimizer;
        part(Activity::ParameterGather, optimised, optimised + work.gather);
        part(Activity::Overhead, updated, end);
    }
}

fn of_pass(pass: &PassRecord, activity: Activity, start: Nanos, end: Nanos) -> StepSpan {
    let (micro_batch, chunk) = (Some(u64::from(pass.micro_batch)), Some(usize::from(pass.chunk)));
    StepSpan { activity, start, end, micro_batch, chunk }
}

/// When a device's own gradients have met; ns.
fn ready(program: &StepProgram, computed: &[u64], exchanged: &[u64], device: usize) -> u64 {
    computed[device].max(exchanged[device]) + program.devices[device].sync.get()
}

/// What follows the passes: gradients of shared parameters meet when both ends have theirs; the norm of all gradients makes
/// every rank wait for all; then the slowest update, and the fixed cost.
pub(super) fn closing(program: &StepProgram, computed: &[u64], exchanged: &[u64]) -> Closing {
    let last = program.devices.len() - 1;
    let ready = |device: usize| ready(program, computed, exchanged, device);
    let own = (0..=last).map(ready).max().unwrap_or(0);
    let tied = if last > 0 { ready(0).max(ready(last)) + program.tied.get() } else { 0 };
    let synchronised = Nanos::new(own.max(tied));
    let update = program.devices.iter().map(|device| device.optimizer + device.gather).max().unwrap_or_default();
    let updated = synchronised + update;
    Closing { synchronised, updated, end: updated + program.overhead }
}
