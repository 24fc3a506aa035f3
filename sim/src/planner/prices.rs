//! Prices of a problem, computed once and shared by all configurations that need them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;

use cutplane_graph::DeviceId;
use cutplane_units::{Bytes, Nanos};

use super::blocks::Blocks;
use super::configuration::{Configuration, ScheduleKey};
use super::error::PlanError;
use super::estimate::{BlockPin, StepCosts, Wire};
use super::fleet::{Fleet, GroupKey, Lane, LaneKey};
use super::problem::{LayerPin, Problem};
use super::sums::Sums;
use super::tables::{Crossing, Holdings, IntervalWork, Table, Traffic, holdings_table, in_flight_table, work_table};
use crate::cost::memory::IntervalMemory;
use crate::cost::stage::OpPrices;
use crate::cost::{Contention, CostModel, WorkTime};

type Cache<K, V> = RefCell<HashMap<K, Rc<V>>>;

fn cached<K: Hash + Eq, V>(
    cache: &Cache<K, V>,
    key: K,
    make: impl FnOnce() -> Result<V, PlanError>,
) -> Result<Rc<V>, PlanError> {
    if let Some(known) = cache.borrow().get(&key) {
        return Ok(Rc::clone(known));
    }
    let value = Rc::new(make()?);
    cache.borrow_mut().insert(key, Rc::clone(&value));
    Ok(value)
}

/// The groups of devices that sum gradients: those of a stage alone, and with the holders of tied parameters.
#[derive(Clone, Debug)]
struct Groups {
    own: Vec<Vec<DeviceId>>,
    with_earlier: Vec<Vec<DeviceId>>,
    with_later: Vec<Vec<DeviceId>>,
}

type Keys = [Vec<GroupKey>; 3];

/// A problem with its prices.
pub(super) struct Prices<'a> {
    /// The problem.
    pub(super) problem: &'a Problem<'a>,
    /// Its devices by class.
    pub(super) fleet: Fleet<'a>,
    /// Its operators by block.
    pub(super) blocks: Blocks,
    cost: &'a dyn CostModel,
    traffic: Cache<u64, Traffic>,
    work: Cache<(u64, usize), Table<IntervalWork>>,
    ops: Cache<(u64, usize), Vec<WorkTime>>,
    time: Cache<(u64, usize, usize), Table<u64>>,
    memory: Cache<(u64, usize), IntervalMemory>,
    room: Cache<(u64, usize), Table<u64>>,
    holdings: Cache<(), Table<Holdings>>,
    optimizer: Cache<usize, Table<WorkTime>>,
    sums: Sums<'a>,
    tail: Cache<(usize, usize, Keys), Table<u64>>,
    wires: Cache<(u64, LaneKey, bool), Vec<Wire>>,
}

impl<'a> Prices<'a> {
    /// Prepares an empty cache.
    ///
    /// # Errors
    /// [`PlanError::NoLoss`], [`PlanError::NoDevices`].
    pub(super) fn new(problem: &'a Problem<'a>, cost: &'a dyn CostModel) -> Result<Self, PlanError> {
        if problem.model.loss().is_none() {
            return Err(PlanError::NoLoss { model: problem.model.name().to_owned() });
        }
        let fleet = Fleet::new(problem)?;
        check_pins(problem, &fleet)?;
        Ok(Self {
            problem,
            fleet,
            blocks: Blocks::new(problem.model),
            cost,
            traffic: Cache::default(),
            work: Cache::default(),
            ops: Cache::default(),
            time: Cache::default(),
            memory: Cache::default(),
            room: Cache::default(),
            holdings: Cache::default(),
            optimizer: Cache::default(),
            sums: Sums::new(cost, problem.devices),
            tail: Cache::default(),
            wires: Cache::default(),
        })
    }

    /// Where a configuration has the pinned layers.
    fn pins(&self, configuration: &Configuration) -> Vec<BlockPin> {
        let pin = |pin: &LayerPin| {
            let blocks = self.blocks.of_layer(self.problem.model, pin.layer);
            let device = DeviceId::new(pin.device);
            let class = self.fleet.class_of(device).unwrap_or_default();
            let alone = self.fleet.classes().len() == 1;
            let holds = |stage: &usize| self.fleet.group(class, configuration, *stage).contains(&device);
            // A device that no stage has leaves no position.
            let position = alone.then(|| (0..configuration.stages).find(holds).unwrap_or(usize::MAX));
            BlockPin { blocks, class, position }
        };
        self.problem.limits.layer_pins.iter().map(pin).collect()
    }

    /// Samples in a micro-batch of a configuration.
    fn batch(&self, configuration: &Configuration) -> u64 {
        configuration.micro_batch_size(self.problem.global_batch)
    }

    fn contention(&self, class: usize, busy: usize) -> Contention {
        self.cost.contention(self.fleet.sample(class), busy)
    }

    fn traffic(&self, batch: u64) -> Result<Rc<Traffic>, PlanError> {
        cached(&self.traffic, batch, || {
            Ok(Traffic::new(self.problem.model, &self.blocks, batch, self.problem.precision))
        })
    }

    fn work(&self, batch: u64, class: usize) -> Result<Rc<Table<IntervalWork>>, PlanError> {
        cached(&self.work, (batch, class), || {
            let traffic = self.traffic(batch)?;
            work_table(self.problem, self.cost, &self.blocks, &traffic, batch, self.fleet.sample(class))
        })
    }

    fn time(&self, batch: u64, class: usize, busy: usize) -> Result<Rc<Table<u64>>, PlanError> {
        cached(&self.time, (batch, class, busy), || {
            let contention = self.contention(class, busy);
            Ok(self.work(batch, class)?.map(|work| work.time(contention)))
        })
    }

    /// Memory of every interval on a class.
    pub(super) fn memory(&self, batch: u64, class: usize) -> Result<Rc<IntervalMemory>, PlanError> {
        cached(&self.memory, (batch, class), || {
            let Problem { model, precision, memory, .. } = *self.problem;
            Ok(IntervalMemory::new(model, batch, precision, memory, self.fleet.sample(class))?)
        })
    }

    fn room(&self, batch: u64, class: usize) -> Result<Rc<Table<u64>>, PlanError> {
        cached(&self.room, (batch, class), || {
            let memory = self.memory(batch, class)?;
            Ok(in_flight_table(self.problem, &self.blocks, &memory, self.fleet.sample(class)))
        })
    }

    /// Bytes that blocks `first..end` need as the stage at `position`.
    pub(super) fn needed(
        &self,
        configuration: &Configuration,
        first: usize,
        end: usize,
        position: usize,
        class: usize,
    ) -> Result<Bytes, PlanError> {
        let ops = self.blocks.ops(first, end);
        let memory = self.memory(self.batch(configuration), class)?;
        Ok(memory.interval(ops.start, ops.end, self.problem.optimizer, configuration.in_flight(position)).total)
    }

    fn holdings(&self) -> Result<Rc<Table<Holdings>>, PlanError> {
        let nothing = |_: usize, _: usize, _: &[u64]| Ok(());
        cached(&self.holdings, (), || holdings_table(self.problem.model, &self.blocks, nothing))
    }

    fn optimizer(&self, class: usize) -> Result<Rc<Table<WorkTime>>, PlanError> {
        cached(&self.optimizer, class, || {
            let device = self.fleet.sample(class);
            let mut cells = HashMap::new();
            holdings_table(self.problem.model, &self.blocks, |first, end, elements| -> Result<(), PlanError> {
                cells.insert((first, end), self.cost.optimizer(self.problem.optimizer, elements, device)?);
                Ok(())
            })?;
            Table::try_build(self.blocks.len(), WorkTime::default(), |first, end| Ok(cells[&(first, end)]))
        })
    }

    /// With one class, tied parameters are shared with the first or last stage; with several, with any other group.
    fn groups(&self, configuration: &Configuration, position: usize, class: usize) -> Groups {
        let own = self.fleet.groups_at(class, configuration, position);
        let single = self.fleet.classes().len() == 1;
        let others = |other_position: usize| -> Vec<Vec<DeviceId>> {
            let classes = 0..self.fleet.classes().len();
            let roomy = classes.filter(|other| self.fleet.capacities(configuration.data_degree)[*other] > 0);
            let all: Vec<Vec<DeviceId>> = if single {
                self.fleet.groups_at(0, configuration, other_position)
            } else {
                roomy.flat_map(|other| self.fleet.groups_at(other, configuration, 0)).collect()
            };
            let joined = own.iter().flat_map(|own| all.iter().map(move |other| union(own, other)));
            joined.filter(|group| group.len() > configuration.data_degree).collect()
        };
        Groups { with_earlier: others(0), with_later: others(configuration.stages - 1), own: own.clone() }
    }

    fn tail(&self, configuration: &Configuration, position: usize, class: usize) -> Result<Rc<Table<u64>>, PlanError> {
        let groups = self.groups(configuration, position, class);
        let keys = |list: &[Vec<DeviceId>]| -> Result<Vec<GroupKey>, PlanError> {
            let mut keys = Vec::with_capacity(list.len());
            for group in list {
                keys.push(self.fleet.group_key(group)?);
            }
            Ok(keys)
        };
        let keys: Keys = [keys(&groups.own)?, keys(&groups.with_earlier)?, keys(&groups.with_later)?];
        let busy = self.fleet.busy(class, configuration);
        cached(&self.tail, (class, busy, keys.clone()), || {
            let (holdings, optimizer) = (self.holdings()?, self.optimizer(class)?);
            let contention = self.contention(class, busy);
            let own = self.sums.of((&groups.own, &keys[0]))?;
            let with_earlier = self.sums.of((&groups.with_earlier, &keys[1]))?;
            let with_later = self.sums.of((&groups.with_later, &keys[2]))?;
            Table::try_build(self.blocks.len(), 0, |first, end| {
                let held = holdings.get(first, end);
                let work = IntervalWork { work: optimizer.get(first, end), fixed: Nanos::ZERO };
                Ok(work.time(contention)
                    + own.nanos(held.own)?
                    + with_earlier.nanos(held.with_earlier)?
                    + with_later.nanos(held.with_later)?)
            })
        })
    }

    fn wires(&self, batch: u64, lanes: &[Lane], in_turn: bool) -> Result<Rc<Vec<Wire>>, PlanError> {
        cached(&self.wires, (batch, self.fleet.lanes_key(lanes), in_turn), || {
            let traffic = self.traffic(batch)?;
            let mut known = HashMap::new();
            let mut wires = Vec::with_capacity(traffic.cuts.len());
            for cut in &traffic.cuts {
                let wire = match known.get(cut) {
                    Some(wire) => *wire,
                    None => self.wire(lanes, *cut, in_turn)?,
                };
                known.insert(*cut, wire);
                wires.push(wire);
            }
            Ok(wires)
        })
    }

    /// The slowest of the lanes. Activations and gradients load the link together, or `in_turn`.
    fn wire(&self, lanes: &[Lane], cut: Crossing, in_turn: bool) -> Result<Wire, PlanError> {
        let mut slowest = Wire::default();
        for lane in lanes {
            let (from, to) = (self.fleet.device(lane.from), self.fleet.device(lane.to));
            let (mut both_ways, mut longer, mut sum) = (0, 0, 0);
            for (bytes, source, target) in [(cut.forward, from, to), (cut.backward, to, from)] {
                if bytes.is_zero() {
                    continue;
                }
                let (latency, transfer) = self.cost.wire(bytes, &lane.route, source, target)?;
                let transfer = transfer.scale(lane.share).get();
                both_ways += latency.get() + transfer;
                if self.cost.overlaps(source) {
                    both_ways += self.cost.send(bytes, source)?.get();
                }
                if self.cost.overlaps(target) {
                    both_ways += self.cost.recv(bytes, target)?.get();
                }
                (longer, sum) = (transfer.max(longer), sum + transfer);
            }
            slowest.transfer = slowest.transfer.max(if in_turn { sum } else { longer });
            slowest.both_ways = slowest.both_ways.max(both_ways);
        }
        Ok(slowest)
    }

    /// Everything that the closed form needs of a configuration.
    ///
    /// # Errors
    /// [`PlanError::Cost`].
    pub(super) fn step_costs(&self, configuration: Configuration) -> Result<StepCosts, PlanError> {
        let batch = self.batch(&configuration);
        let classes = 0..self.fleet.classes().len();
        let capacities = self.fleet.capacities(configuration.data_degree);
        let mut costs = StepCosts {
            configuration,
            blocks: self.blocks.len(),
            time: Vec::new(),
            room: Vec::new(),
            tail: Vec::new(),
            wires: Vec::new(),
            in_flight: (0..configuration.stages).map(|position| configuration.in_flight(position)).collect(),
            pins: self.pins(&configuration),
            capacities,
        };
        let nothing = Rc::new(Table::filled(self.blocks.len(), 0));
        for class in classes.clone() {
            costs.time.push(self.time(batch, class, self.fleet.busy(class, &configuration))?);
            costs.room.push(self.room(batch, class)?);
        }
        for position in 0..configuration.stages {
            let (mut tails, mut wires) = (Vec::new(), Vec::new());
            let fill_drain = configuration.schedule == ScheduleKey::FillDrain;
            let in_turn = fill_drain || self.fleet.shares_links(&configuration, position)?;
            for class in classes.clone() {
                let usable = costs.capacities[class] > 0;
                tails.push(if usable { self.tail(&configuration, position, class)? } else { Rc::clone(&nothing) });
                let mut from_class = Vec::new();
                for to in classes.clone().filter(|_| position > 0) {
                    let lanes = self.fleet.lanes(&configuration, position, class, to)?;
                    from_class.push(self.wires(batch, &lanes, in_turn)?);
                }
                wires.push(from_class);
            }
            costs.tail.push(tails);
            costs.wires.push(wires);
        }
        Ok(costs)
    }

    /// A step time that no split of the configuration beats, from the operators alone: with `W` the sum of the operators'
    /// times on their fastest class, `W + (m - 1) max(W / p, slowest operator)`.
    ///
    /// # Errors
    /// [`PlanError::Cost`].
    pub(super) fn work_bound(&self, configuration: &Configuration) -> Result<u64, PlanError> {
        let batch = self.batch(configuration);
        let usable = self.fleet.capacities(configuration.data_degree);
        let mut fastest = vec![f64::INFINITY; self.problem.model.ops().len()];
        for class in (0..usable.len()).filter(|class| usable[*class] > 0) {
            let contention = self.contention(class, self.fleet.busy(class, configuration));
            for (known, work) in fastest.iter_mut().zip(self.ops(batch, class)?.iter()) {
                let time = work.compute.as_f64() * contention.compute + work.memory.as_f64() * contention.memory;
                *known = known.min(time);
            }
        }
        let total: f64 = fastest.iter().sum();
        let slowest = fastest.iter().copied().fold(0.0, f64::max);
        let period = slowest.max(total / configuration.stages as f64);
        let bound = total + (configuration.micro_batches - 1) as f64 * period;
        // A hair off against floating-point error.
        Ok((bound * (1.0 - 1e-12)) as u64)
    }

    /// Forward and backward work of every operator.
    fn ops(&self, batch: u64, class: usize) -> Result<Rc<Vec<WorkTime>>, PlanError> {
        cached(&self.ops, (batch, class), || {
            let Problem { model, precision, .. } = *self.problem;
            let prices = OpPrices::new(self.cost, model, batch, precision, self.fleet.sample(class))?;
            let work = |op| {
                let (forward, backward) = prices.interval(op, op + 1);
                forward + backward
            };
            Ok((0..model.ops().len()).map(work).collect())
        })
    }
}

fn check_pins(problem: &Problem<'_>, fleet: &Fleet<'_>) -> Result<(), PlanError> {
    for LayerPin { layer, device } in &problem.limits.layer_pins {
        let refuse =
            |what: String| PlanError::EmptySpace { reason: format!("pin 'layer.{layer}=device:{device}': {what}") };
        if !problem.model.ops().iter().any(|op| op.layer == Some(*layer)) {
            let layers = problem.model.layer_count();
            return Err(refuse(format!("{} has {layers} layers, counted from 0", problem.model.name())));
        }
        if fleet.class_of(DeviceId::new(*device)).is_none() {
            return Err(refuse(format!("the cluster has {} usable devices, counted from 0", fleet.device_count())));
        }
    }
    Ok(())
}

fn union(a: &[DeviceId], b: &[DeviceId]) -> Vec<DeviceId> {
    let mut all: Vec<DeviceId> = a.iter().chain(b).copied().collect();
    all.sort_unstable();
    all.dedup();
    all
}
