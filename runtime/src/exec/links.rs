//! Measuring the links between ranks: the same messages and the same gradient synchronisation that a run uses.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use cutplane_graph::{Dtype, InputRole, ModelError, ModelGraph, ModelGraphBuilder, OpKind, TensorType, WeightLayout};
use cutplane_plan::{GroupId, Optimizer, Ownership, Rank, Segment, SyncGroup};
use cutplane_record::{AllReducePoint, MessagePoint};
use cutplane_units::Bytes;

use super::step::Fault;
use super::sync::GradientSync;
use super::transfer::{Roads, Transfers, hand_over, take};
use crate::backend::{Backend, available_cores, run_rank};
use crate::comm::{CommOptions, Communicator, InProcess};
use crate::error::RuntimeError;
use crate::optimizer::OptimizerSettings;
use crate::segment::SegmentRunner;
use crate::tensor::HostTensor;

/// 4 KiB to 64 MiB.
pub(super) const SIZES: [u64; 8] = [4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20];
const ROUNDS: usize = 15;

/// Messages and all-reduces of several sizes.
pub(crate) type Links = (Vec<MessagePoint>, Vec<AllReducePoint>);

/// Measures messages between two ranks and all-reduces of 2 to `ranks` ranks, all in this process, each pinned to its
/// core and all on the device of `backend`; `transfers` says whether tensors stay on it. A message has been taken when its
/// numbers are where an operator wants them. Sizes take turns in every round, so that a disturbance does not fall on one of them; the numbers are medians and
/// median absolute deviations over the rounds. `progress` is told the share that is done.
///
/// With one rank there is no link, and nothing is measured.
///
/// # Errors
/// [`RuntimeError::Thread`], or [`RuntimeError::Rank`] when a rank cannot be reached.
pub(crate) fn measure_links(
    backend: &Backend,
    ranks: usize,
    transfers: Transfers,
    progress: &mut dyn FnMut(f64),
) -> Result<Links, RuntimeError> {
    if ranks < 2 {
        return Ok((Vec::new(), Vec::new()));
    }
    let spin = if ranks > available_cores() { Duration::ZERO } else { CommOptions::default().spin };
    let world = InProcess::world(ranks, CommOptions { spin, ..CommOptions::default() });
    let roads = &Roads::on_one(backend, ranks, transfers);
    let (done, news) = std::sync::mpsc::channel();
    let all: Result<Vec<Samples>, RuntimeError> = std::thread::scope(|scope| {
        let start = |comm: InProcess| {
            let (done, core) = (done.clone(), comm.rank().index());
            scope.spawn(move || run_rank(core, &roads.backends[core], move || measure_rank(&comm, roads, &done)))
        };
        let threads: Vec<_> = world.into_iter().map(start).collect();
        drop(done);
        news.into_iter().for_each(&mut *progress);
        threads.into_iter().enumerate().map(|(rank, thread)| outcome(rank as u32, thread.join())).collect()
    });
    let all = all?;
    Ok((message_points(&all), all_reduce_points(&all, ranks)))
}

type Joined = std::thread::Result<Result<Result<Samples, Fault>, RuntimeError>>;

fn outcome(rank: u32, joined: Joined) -> Result<Samples, RuntimeError> {
    let fail = |problem: String| RuntimeError::Rank { rank, problem };
    joined.map_err(|_| fail("panicked while links were measured".into()))??.map_err(|fault| fail(fault.to_string()))
}

/// Times in nanoseconds by size, one a round.
type BySize = Vec<Vec<f64>>;

/// What one rank has measured.
#[derive(Default)]
struct Samples {
    send: BySize,
    /// When a message was handed over, and when its receiver had it.
    handed_over: Vec<Vec<Instant>>,
    noticed: Vec<Vec<Instant>>,
    recv: BySize,
    /// By group size, then by buffer size.
    all_reduce: Vec<BySize>,
}

fn measure_rank(comm: &InProcess, roads: &Roads, done: &Sender<f64>) -> Result<Samples, Fault> {
    let ranks = roads.backends.len();
    let empty = || vec![Vec::with_capacity(ROUNDS); SIZES.len()];
    let mut samples = Samples {
        send: empty(),
        handed_over: vec![Vec::new(); SIZES.len()],
        noticed: vec![Vec::new(); SIZES.len()],
        recv: empty(),
        all_reduce: vec![empty(); ranks - 1],
    };
    let mut fixtures = SIZES.iter().map(|bytes| Fixture::new(*bytes, roads)).collect::<Result<Vec<_>, _>>()?;
    let mut payloads: Vec<Vec<HostTensor>> = if comm.rank() == Rank(0) {
        SIZES.iter().map(|bytes| vec![zeros(*bytes as usize / 4).arrived(&roads.backends[0])]).collect()
    } else {
        vec![Vec::new(); SIZES.len()]
    };
    // The first round touches all memory and is not counted.
    for round in 0..=ROUNDS {
        let counted = round > 0;
        for size in 0..SIZES.len() {
            if comm.rank().index() < 2 {
                exchange(comm, roads, size, &mut payloads[size], &mut samples, counted)?;
            }
            for group in 2..=ranks {
                let members: Vec<Rank> = (0..group as u32).map(Rank).collect();
                if let Some(time) = fixtures[size].time(comm, roads, &members)?.filter(|_| counted) {
                    samples.all_reduce[group - 2][size].push(time);
                }
            }
        }
        if comm.rank() == Rank(0) {
            // Progress that nobody watches is no failure.
            let _ = done.send(round as f64 / ROUNDS as f64);
        }
    }
    Ok(samples)
}

pub(super) fn zeros(elements: usize) -> HostTensor {
    HostTensor::f32([elements], vec![0.0; elements])
}

/// Rank 0 sends to a waiting rank 1; rank 1 sends back, and rank 0 takes the message when it is surely there.
fn exchange(
    comm: &InProcess,
    roads: &Roads,
    size: usize,
    payload: &mut Vec<HostTensor>,
    samples: &mut Samples,
    counted: bool,
) -> Result<(), Fault> {
    let pair = [Rank(0), Rank(1)];
    let backend = &roads.backends[0];
    backend.sync()?;
    comm.barrier(&pair)?;
    if comm.rank() == Rank(0) {
        // Long enough for the receiver to be looking, shorter than its patience.
        let ready = Instant::now();
        while ready.elapsed() < Duration::from_micros(5) {
            std::hint::spin_loop();
        }
        let start = Instant::now();
        hand_over(comm, roads, Rank(1), 0, std::mem::take(payload))?;
        let end = Instant::now();
        comm.barrier(&pair)?;
        let (received, time) = timed(|| fetch(comm, backend, Rank(1)))?;
        *payload = received;
        if counted {
            samples.send[size].push(nanos(end - start));
            samples.handed_over[size].push(end);
            samples.recv[size].push(time);
        }
    } else {
        let arrived = take(comm, Rank(0), 0)?.value;
        if counted {
            samples.noticed[size].push(Instant::now());
        }
        *payload = arrived.into_iter().map(|tensor| tensor.arrived(backend)).collect();
        backend.sync()?;
        hand_over(comm, roads, Rank(0), 0, std::mem::take(payload))?;
        comm.barrier(&pair)?;
    }
    Ok(())
}

/// Takes the message and puts it where an operator wants it.
fn fetch(comm: &InProcess, backend: &Backend, from: Rank) -> Result<Vec<HostTensor>, Fault> {
    let payload = take(comm, from, 0)?.value.into_iter().map(|tensor| tensor.arrived(backend)).collect();
    backend.sync()?;
    Ok(payload)
}

fn timed<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<(T, f64), Fault> {
    let start = Instant::now();
    let value = work()?;
    Ok((value, nanos(start.elapsed())))
}

pub(super) fn nanos(time: Duration) -> f64 {
    time.as_nanos() as f64
}

/// A segment whose parameters have a given total size: square layers of at most 4 MiB, as a model has them.
pub(super) struct Fixture {
    model: ModelGraph,
    runner: SegmentRunner,
}

impl Fixture {
    pub(super) fn new(bytes: u64, roads: &Roads) -> Result<Self, Fault> {
        let width = (bytes / 4).min(1 << 20).isqrt();
        let layers = bytes / 4 / (width * width);
        let model = layers_of(width, layers).map_err(|error| Fault::Program(error.to_string()))?;
        let params = (0..model.params().len()).map(cutplane_graph::ParamId::new).collect();
        let inputs = model.inputs().collect();
        let segment =
            Segment { stage: 0, ops: model.op_ids().collect(), inputs, outputs: model.outputs().to_vec(), params };
        let weights = |_| HostTensor::f32([width as usize; 2], vec![0.0; (width * width) as usize]);
        let settings = OptimizerSettings::new(Optimizer::Sgd, 0.0);
        let runner = SegmentRunner::new(Arc::new(model.clone()), segment, &roads.backends[0], &weights, settings)?;
        Ok(Self { model, runner })
    }

    /// Time of the synchronisation over `ranks`, once all are there; `None` on the others.
    pub(super) fn time(
        &mut self,
        comm: &impl Communicator,
        roads: &Roads,
        ranks: &[Rank],
    ) -> Result<Option<f64>, Fault> {
        if !ranks.contains(&comm.rank()) {
            return Ok(None);
        }
        let params = self.runner.params().to_vec();
        let group = SyncGroup { ranks: ranks.to_vec(), params, bytes: Bytes::ZERO, ownership: Ownership::Everybody };
        let sync = GradientSync::new(&self.model, GroupId(0), &group);
        roads.backends[0].sync()?;
        comm.barrier(&group.ranks)?;
        let ((), time) = timed(|| {
            sync.all_reduce(comm, roads, &mut self.runner)?;
            Ok(roads.backends[0].sync()?)
        })?;
        Ok(Some(time))
    }
}

fn layers_of(width: u64, layers: u64) -> Result<ModelGraph, ModelError> {
    let mut builder = ModelGraphBuilder::new("links");
    let mut value = builder.input("x", InputRole::Features, TensorType::batched(&[width], Dtype::F32))?;
    for layer in 0..layers {
        let kind =
            OpKind::Linear { inputs: width, outputs: width, bias: false, layout: WeightLayout::InOut, init_std: 0.02 };
        value = builder.op(&format!("layer.{layer}"), kind, &[value])?;
    }
    builder.output(value).build()
}

fn message_points(all: &[Samples]) -> Vec<MessagePoint> {
    let (sender, receiver) = (&all[0], &all[1]);
    let latency = |size: usize| -> Vec<f64> {
        let pairs = sender.handed_over[size].iter().zip(&receiver.noticed[size]);
        pairs.map(|(sent, noticed)| nanos(noticed.saturating_duration_since(*sent))).collect()
    };
    let point = |(size, bytes): (usize, &u64)| MessagePoint {
        bytes: *bytes,
        send_ns: median(&sender.send[size]),
        recv_ns: median(&sender.recv[size]),
        latency_ns: median(&latency(size)),
    };
    SIZES.iter().enumerate().map(point).collect()
}

fn all_reduce_points(all: &[Samples], ranks: usize) -> Vec<AllReducePoint> {
    let mut points = Vec::new();
    for group in 2..=ranks {
        for (size, bytes) in SIZES.iter().enumerate() {
            // The synchronisation ends when its last rank ends.
            let slowest = |round: usize| {
                all[..group].iter().map(|rank| rank.all_reduce[group - 2][size][round]).fold(0.0, f64::max)
            };
            let times: Vec<f64> = (0..ROUNDS).map(slowest).collect();
            let time_ns = median(&times);
            let deviations: Vec<f64> = times.iter().map(|time| (time - time_ns).abs()).collect();
            points.push(AllReducePoint {
                ranks: group as u32,
                bytes: *bytes,
                time_ns,
                time_mad_ns: median(&deviations),
            });
        }
    }
    points
}

/// The middle number; of an even count the upper one.
pub(super) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(ranks: usize, progress: &mut dyn FnMut(f64)) -> Result<Links, RuntimeError> {
        measure_links(&Backend::cpu(), ranks, Transfers::default(), progress)
    }

    #[test]
    fn handles_and_copies_are_measured_apart() {
        let twin = Backend::cpu_as_card();
        let measure = |transfers| measure_links(&twin, 2, transfers, &mut |_| ()).expect("measured").0;
        for points in [measure(Transfers::OnDevice), measure(Transfers::Staged)] {
            assert_eq!(points.iter().map(|point| point.bytes).collect::<Vec<_>>(), SIZES);
        }
    }

    #[test]
    fn links_have_every_size_and_larger_sums_take_longer() {
        let mut shares = Vec::new();
        let (messages, sums) = links(2, &mut |share| shares.push(share)).expect("measured");
        assert_eq!(messages.iter().map(|point| point.bytes).collect::<Vec<_>>(), SIZES);
        assert_eq!(
            sums.iter().map(|point| (point.ranks, point.bytes)).collect::<Vec<_>>(),
            SIZES.map(|size| (2, size))
        );
        assert!(sums[7].time_ns > 20.0 * sums[3].time_ns, "64 MiB against 256 KiB: {sums:?}");
        assert!(messages.iter().all(|point| point.send_ns > 0.0 && point.recv_ns > 0.0));
        assert_eq!(shares.last(), Some(&1.0));
        for point in messages {
            println!("{point:?}");
        }
        for point in sums {
            println!("{point:?} {:.1} GB/s", point.bytes as f64 / point.time_ns);
        }
    }

    #[test]
    fn one_rank_has_no_links() {
        let (messages, sums) = links(1, &mut |_| ()).expect("nothing to do");
        assert!(messages.is_empty() && sums.is_empty());
    }

    #[test]
    fn medians_are_of_the_middle() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[])), (2.0, 0.0));
    }
}
