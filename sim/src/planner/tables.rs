//! Tables over all intervals of blocks: what a stage of blocks `first..end` costs, whatever its position.

use std::collections::HashMap;

use cutplane_graph::{Device, Dtype, ModelGraph, ParamId, Pass, ValueId};
use cutplane_units::{Bytes, Nanos};

use super::blocks::Blocks;
use super::error::PlanError;
use super::problem::Problem;
use crate::cost::memory::IntervalMemory;
use crate::cost::stage::OpPrices;
use crate::cost::{Contention, CostError, CostModel, WorkTime};

/// One number for each interval `first..end` of blocks, `0 <= first < end <= blocks`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Table<T> {
    blocks: usize,
    cells: Vec<T>,
}

impl<T: Copy> Table<T> {
    /// A table with `value` everywhere.
    pub(super) fn filled(blocks: usize, value: T) -> Self {
        Self { blocks, cells: vec![value; (blocks + 1) * (blocks + 1)] }
    }

    /// The value of an interval.
    pub(super) fn get(&self, first: usize, end: usize) -> T {
        self.cells[first * (self.blocks + 1) + end]
    }

    /// The values of the intervals that start at `first`, by end.
    pub(super) fn row(&self, first: usize) -> &[T] {
        let width = self.blocks + 1;
        &self.cells[first * width..(first + 1) * width]
    }

    fn set(&mut self, first: usize, end: usize, value: T) {
        self.cells[first * (self.blocks + 1) + end] = value;
    }

    /// The table of `f` of every entry.
    pub(super) fn map<U: Copy>(&self, f: impl Fn(T) -> U) -> Table<U> {
        Table { blocks: self.blocks, cells: self.cells.iter().map(|cell| f(*cell)).collect() }
    }

    /// Fills a table interval by interval.
    pub(super) fn try_build<E>(
        blocks: usize,
        empty: T,
        mut price: impl FnMut(usize, usize) -> Result<T, E>,
    ) -> Result<Self, E> {
        let mut table = Self::filled(blocks, empty);
        for first in 0..blocks {
            for end in first + 1..=blocks {
                table.set(first, end, price(first, end)?);
            }
        }
        Ok(table)
    }
}

/// What one micro-batch costs a stage: operators, segment overhead, and messages where the device handles them itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct IntervalWork {
    /// Stretches under contention.
    pub(super) work: WorkTime,
    /// Does not.
    pub(super) fixed: Nanos,
}

impl IntervalWork {
    /// Time of one forward and one backward pass.
    pub(super) fn time(self, contention: Contention) -> u64 {
        let stretched = self.work.compute.scale(contention.compute) + self.work.memory.scale(contention.memory);
        (stretched + self.fixed).get()
    }
}

/// Bytes that cross a cut: all values, and those that gradients come back for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Crossing {
    /// Down the pipeline.
    pub(super) forward: Bytes,
    /// Up the pipeline.
    pub(super) backward: Bytes,
}

impl Crossing {
    fn add(&mut self, bytes: Bytes, float: bool) {
        self.forward += bytes;
        if float {
            self.backward += bytes;
        }
    }

    fn remove(&mut self, bytes: Bytes, float: bool) {
        self.forward = self.forward - bytes;
        if float {
            self.backward = self.backward - bytes;
        }
    }
}

/// A value by the blocks that write and read it.
struct Flow {
    bytes: Bytes,
    float: bool,
    producer: Option<usize>,
    /// Ascending, each block once.
    readers: Vec<usize>,
}

fn flows(model: &ModelGraph, blocks: &Blocks, batch: u64, precision: Dtype) -> Vec<Flow> {
    let block_of = blocks.block_of();
    let flow = |index: usize| {
        let value = model.value(ValueId::new(index));
        let mut readers: Vec<usize> = value.consumers.iter().map(|op| block_of[op.index()]).collect();
        readers.sort_unstable();
        readers.dedup();
        let producer = value.producer.map(|op| block_of[op.index()]);
        Flow { bytes: value.ty.bytes_in(batch, precision), float: value.ty.dtype.is_float(), producer, readers }
    };
    (0..model.values().len()).map(flow).collect()
}

/// Everything of one micro-batch size that crosses cuts.
pub(super) struct Traffic {
    /// Into an interval from operators before it.
    pub(super) incoming: Table<Crossing>,
    /// Out of an interval to operators after it.
    pub(super) outgoing: Table<Crossing>,
    /// Graph inputs that an interval reads.
    pub(super) load: Table<Bytes>,
    /// Across each cut `0..=blocks`.
    pub(super) cuts: Vec<Crossing>,
}

impl Traffic {
    /// Sizes for micro-batches of `batch` samples.
    pub(super) fn new(model: &ModelGraph, blocks: &Blocks, batch: u64, precision: Dtype) -> Self {
        let count = blocks.len();
        let flows = flows(model, blocks, batch, precision);
        let mut traffic = Self {
            incoming: Table::filled(count, Crossing::default()),
            outgoing: Table::filled(count, Crossing::default()),
            load: Table::filled(count, Bytes::ZERO),
            cuts: vec![Crossing::default(); count + 1],
        };
        // Flows that start, end, or are read at a block.
        let (mut written, mut last_read, mut read) = (vec![vec![]; count], vec![vec![]; count], vec![vec![]; count]);
        for (index, flow) in flows.iter().enumerate() {
            if let (Some(producer), Some(last)) = (flow.producer, flow.readers.last()) {
                written[producer].push(index);
                last_read[*last].push(index);
                (producer + 1..=*last).for_each(|cut| traffic.cuts[cut].add(flow.bytes, flow.float));
            }
            let mut previous = None;
            for reader in &flow.readers {
                read[*reader].push((index, previous));
                previous = Some(*reader);
            }
        }
        for first in 0..count {
            let (mut incoming, mut outgoing, mut load) = (Crossing::default(), Crossing::default(), Bytes::ZERO);
            for block in first..count {
                for index in &written[block] {
                    outgoing.add(flows[*index].bytes, flows[*index].float);
                }
                for flow in last_read[block].iter().map(|index| &flows[*index]) {
                    if flow.producer.is_some_and(|producer| producer >= first) {
                        outgoing.remove(flow.bytes, flow.float);
                    }
                }
                for (flow, previous) in read[block].iter().map(|(index, previous)| (&flows[*index], previous)) {
                    let seen = previous.is_some_and(|block| block >= first);
                    match flow.producer {
                        None if !seen => load += flow.bytes,
                        Some(producer) if !seen && producer < first => incoming.add(flow.bytes, flow.float),
                        _ => {}
                    }
                }
                traffic.incoming.set(first, block + 1, incoming);
                traffic.outgoing.set(first, block + 1, outgoing);
                traffic.load.set(first, block + 1, load);
            }
        }
        traffic
    }
}

/// Prices by size, asked once.
struct BySize<'c, T, F: Fn(Bytes) -> Result<T, CostError>> {
    price: &'c F,
    known: HashMap<Bytes, T>,
}

impl<'c, T: Copy + Default, F: Fn(Bytes) -> Result<T, CostError>> BySize<'c, T, F> {
    fn new(price: &'c F) -> Self {
        Self { price, known: HashMap::new() }
    }

    fn get(&mut self, bytes: Bytes) -> Result<T, CostError> {
        if let Some(known) = self.known.get(&bytes) {
            return Ok(*known);
        }
        let price = (self.price)(bytes)?;
        self.known.insert(bytes, price);
        Ok(price)
    }
}

/// Work of every interval on one device, one forward and one backward pass.
pub(super) fn work_table(
    problem: &Problem<'_>,
    cost: &dyn CostModel,
    blocks: &Blocks,
    traffic: &Traffic,
    batch: u64,
    device: &Device,
) -> Result<Table<IntervalWork>, PlanError> {
    let prices = OpPrices::new(cost, problem.model, batch, problem.precision, device)?;
    let nothing_is_free = |price: &dyn Fn(Bytes) -> Result<Nanos, CostError>, bytes: Bytes| {
        if bytes.is_zero() { Ok(Nanos::ZERO) } else { price(bytes) }
    };
    let segment = |boundary| -> Result<WorkTime, CostError> {
        Ok(cost.segment(Pass::Forward, boundary, device)? + cost.segment(Pass::Backward, boundary, device)?)
    };
    let send = |bytes| nothing_is_free(&|bytes| cost.send(bytes, device), bytes);
    let recv = |bytes| nothing_is_free(&|bytes| cost.recv(bytes, device), bytes);
    let load = |bytes| nothing_is_free(&|bytes| cost.load(bytes, device), bytes);
    let (mut segment, mut send, mut recv, mut load) =
        (BySize::new(&segment), BySize::new(&send), BySize::new(&recv), BySize::new(&load));
    // A device by itself has nobody to write to, and its profile no time for that.
    let own_messages = !cost.overlaps(device) && problem.devices.devices().len() > 1;
    Table::try_build(blocks.len(), IntervalWork::default(), |first, end| {
        let ops = blocks.ops(first, end);
        let (forward, backward) = prices.interval(ops.start, ops.end);
        let (incoming, outgoing) = (traffic.incoming.get(first, end), traffic.outgoing.get(first, end));
        let mut fixed = load.get(traffic.load.get(first, end))?;
        if own_messages {
            fixed += recv.get(incoming.forward)? + send.get(outgoing.forward)?;
            fixed += recv.get(outgoing.backward)? + send.get(incoming.backward)?;
        }
        let work = forward + backward + segment.get(outgoing.backward)?;
        Ok(IntervalWork { work, fixed })
    })
}

/// Micro-batches that fit at once beside the state of a stage, for every interval; zero when not even one does.
pub(super) fn in_flight_table(
    problem: &Problem<'_>,
    blocks: &Blocks,
    memory: &IntervalMemory,
    device: &Device,
) -> Table<u64> {
    let available = device.spec.memory();
    let fits = |first: usize, end: usize| -> Result<u64, std::convert::Infallible> {
        let ops = blocks.ops(first, end);
        let one = memory.interval(ops.start, ops.end, problem.optimizer, 1);
        let each = one.activations_per_micro_batch.get();
        let room = available
            .checked_add(one.activations_per_micro_batch)
            .and_then(|sum| (sum.get()).checked_sub(one.total.get()));
        Ok(match room {
            None => 0,
            Some(_) if each == 0 => u64::MAX,
            Some(room) => room / each,
        })
    };
    match Table::try_build(blocks.len(), 0, fits) {
        Ok(table) => table,
        Err(never) => match never {},
    }
}

/// Parameters of a stage, by who else holds them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Holdings {
    /// Only this stage.
    pub(super) own: Bytes,
    /// Also a stage before.
    pub(super) with_earlier: Bytes,
    /// Also a stage after, and none before.
    pub(super) with_later: Bytes,
}

/// Holdings of every interval, and the elements of its parameter tensors handed to `visit`.
pub(super) fn holdings_table<E>(
    model: &ModelGraph,
    blocks: &Blocks,
    mut visit: impl FnMut(usize, usize, &[u64]) -> Result<(), E>,
) -> Result<Table<Holdings>, E> {
    let block_of = blocks.block_of();
    let users = |param: usize| model.params()[param].users.iter().map(|op| block_of[op.index()]);
    let span: Vec<(usize, usize)> = (0..model.params().len())
        .map(|param| (users(param).min().unwrap_or(0), users(param).max().unwrap_or(0)))
        .collect();
    let (mut used, mut last_used) = (vec![Vec::new(); blocks.len()], vec![Vec::new(); blocks.len()]);
    for op in model.op_ids() {
        used[block_of[op.index()]].extend(model.op(op).params.iter().map(|param: &ParamId| param.index()));
    }
    for (param, (_, latest)) in span.iter().enumerate() {
        last_used[*latest].push(param);
    }
    let bytes = |param: usize| model.params()[param].bytes();
    let mut table = Table::filled(blocks.len(), Holdings::default());
    // The start for which a parameter was last counted, plus one.
    let mut counted = vec![0; span.len()];
    for first in 0..blocks.len() {
        let (mut holdings, mut elements) = (Holdings::default(), Vec::new());
        for block in first..blocks.len() {
            for param in &used[block] {
                if std::mem::replace(&mut counted[*param], first + 1) == first + 1 {
                    continue;
                }
                elements.push(model.params()[*param].elements());
                let (earliest, latest) = span[*param];
                let held = match () {
                    () if earliest < first => &mut holdings.with_earlier,
                    () if latest > block => &mut holdings.with_later,
                    () => &mut holdings.own,
                };
                *held += bytes(*param);
            }
            // Nobody behind this block holds them any more.
            for param in last_used[block].iter().filter(|param| (first..block).contains(&span[**param].0)) {
                holdings.with_later = holdings.with_later - bytes(*param);
                holdings.own += bytes(*param);
            }
            table.set(first, block + 1, holdings);
            visit(first, block + 1, &elements)?;
        }
    }
    Ok(table)
}
