//! Prices from measured device profiles.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use cutplane_graph::{Device, DeviceGraph, DeviceId, DeviceKind, Dtype, ModelGraph, OpId, Pass, Route};
use cutplane_plan::Optimizer;
use cutplane_record::{ContentionPoint, DeviceProfile, LinkClass, OperatorCurve};
use cutplane_units::{Bytes, Nanos};

use super::curve::{Grid, Line, PerWork};
use super::links::{Links, nanos};
use super::{Contention, CostError, CostModel, WorkTime, collective};

/// Name of the curve of a segment's boundary, over its f32 elements: forward, the fixed cost of starting a pass; backward,
/// the cost of seeding the vector-Jacobian product, `(y * upstream).sum().backward()`.
const BOUNDARY: &str = "boundary";
/// Name of the curve of copying a micro-batch's inputs, over their i32 elements.
const LOAD: &str = "load";

/// Curves that stand in for others: as many elements are read and written, by as plain a kernel.
const STAND_INS: [(&str, &str); 1] = [("arithmetic", "add")];

/// Prices by interpolation in measured [`DeviceProfile`]s, one for each device model.
///
/// - Operators: time per work, multilinear in logarithms over the grid of the curve; outside the grid the nearest edge's
///   time per work. How far it is bound by memory follows from how much its neighbours slow it down, where that was
///   measured; else `linear*` and `attention*` are bound by compute, all else by memory.
/// - An operator without a curve of its own is priced by its stand-in, if there is one (the sum of two values for other arithmetic): profiles of earlier builds
///   lack curves of operators that only partitioned models hold.
/// - One-axis tables (messages, optimizer, load, boundary, all-reduce): interpolated in both logarithms; below the first
///   point its time, above the last along the line through the last two.
/// - Between ranks in processes of their own: as measured between processes of two hosts, where the profile knows that, and
///   of one host, once [`Profiled::in_processes`] says that ranks of a host are processes. The shortest message's time is
///   latency, what a longer one takes beyond it is time on the route's links, which messages share. An all-reduce over
///   hosts with `g` ranks each takes as long as one of `g` times the payload over one rank each: every rank sends to every
///   other, so `g` times as much goes between two hosts.
/// - Operators have a price in the precisions that the profile has curves of; all else is measured in f32.
#[derive(Clone, Debug)]
pub struct Profiled {
    tables: HashMap<String, Table>,
    in_processes: bool,
}

/// A profile arranged for look-up.
#[derive(Clone, Debug)]
struct Table {
    profile: Arc<DeviceProfile>,
    grids: HashMap<(String, Dtype), Result<Grid, String>>,
    start: Option<Line>,
    seed: Option<Line>,
    load: Option<Line>,
    optimizers: HashMap<Optimizer, Line>,
    threads: Links,
    within_host: Option<Links>,
    between_hosts: Option<Links>,
}

/// Bytes that an operator keeps and needs, as measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Footprint {
    /// Kept between forward and backward, besides inputs, output and parameters.
    pub(super) kept: Bytes,
    /// Largest extra allocation while it runs.
    pub(super) workspace: Bytes,
}

impl Profiled {
    /// Takes the profiles; a device is priced by the one whose `device_model` is its
    /// [`cutplane_graph::DeviceSpec::model`], the last of several.
    pub fn new(profiles: impl IntoIterator<Item = Arc<DeviceProfile>>) -> Self {
        let named = |profile: Arc<DeviceProfile>| (profile.device_model.clone(), Table::new(profile));
        Self { tables: profiles.into_iter().map(named).collect(), in_processes: false }
    }

    /// Prices of runs whose ranks are processes of their own also where they are on one host.
    #[must_use]
    pub fn in_processes(self) -> Self {
        Self { in_processes: true, ..self }
    }

    /// The links between processes that are, or are not, on one host, where that is what lies between ranks.
    fn process_links<'t>(&self, table: &'t Table, one_host: bool) -> Option<&'t Links> {
        if one_host { table.within_host.as_ref().filter(|_| self.in_processes) } else { table.between_hosts.as_ref() }
    }

    fn table(&self, device: &Device) -> Result<&Table, CostError> {
        self.tables.get(&device.spec.model).ok_or_else(|| CostError::no_profile(device))
    }

    /// The curve's name, the operator's work, and its times and bytes per work.
    fn look_up(
        &self,
        model: &ModelGraph,
        op: OpId,
        batch: u64,
        precision: Dtype,
        device: &Device,
    ) -> Result<(&'static str, f64, PerWork), CostError> {
        let table = self.table(device)?;
        table.check_precision(precision, device)?;
        let key = model.profile_key(op, batch);
        let work = || format!("operator '{}'", model.op(op).name);
        let grid = table.grid(key.operator, precision).ok_or_else(|| table.no_curve(work(), key.operator))?;
        let per_work = grid.as_ref().map_err(Clone::clone).and_then(|grid| grid.at(&key.axes));
        let per_work = per_work.map_err(|problem| CostError::BadCurve {
            work: work(),
            curve: key.operator.to_owned(),
            device_model: table.profile.device_model.clone(),
            problem,
        })?;
        Ok((key.operator, key.work, per_work))
    }

    /// What an operator keeps and needs, in bytes.
    pub(super) fn footprint(
        &self,
        model: &ModelGraph,
        op: OpId,
        batch: u64,
        precision: Dtype,
        device: &Device,
    ) -> Result<Footprint, CostError> {
        let (_, work, per_work) = self.look_up(model, op, batch, precision, device)?;
        let bytes = |per_work: f64| Bytes::new((per_work * work).round() as u64);
        Ok(Footprint { kept: bytes(per_work.kept_bytes), workspace: bytes(per_work.workspace_bytes) })
    }
}

impl Table {
    fn new(profile: Arc<DeviceProfile>) -> Self {
        let grid = |curve: &OperatorCurve| ((curve.operator.clone(), curve.precision), Grid::new(curve));
        let curve = |name: &str| profile.operators.iter().find(|curve| curve.operator == name);
        let forward = |curve: &OperatorCurve| Line::new(curve.points.iter().map(|p| (elements(&p.axes), p.forward_ns)));
        let backward =
            |curve: &OperatorCurve| Line::new(curve.points.iter().map(|p| (elements(&p.axes), p.backward_ns)));
        let between = |class: LinkClass| {
            let links = profile.processes.iter().find(|links| links.class == class)?;
            Some(Links::new(&links.messages, &links.all_reduce))
        };
        let mut steps: HashMap<Optimizer, Vec<(u64, f64)>> = HashMap::new();
        for point in &profile.optimizers {
            steps.entry(point.optimizer).or_default().push((point.elements, point.step_ns));
        }
        Self {
            grids: profile.operators.iter().map(grid).collect(),
            start: curve(BOUNDARY).and_then(forward),
            seed: curve(BOUNDARY).and_then(backward),
            load: curve(LOAD).and_then(forward),
            optimizers: steps.into_iter().filter_map(|(rule, list)| Some((rule, Line::new(list)?))).collect(),
            threads: Links::new(&profile.messages, &profile.all_reduce),
            within_host: between(LinkClass::WithinHost),
            between_hosts: between(LinkClass::BetweenHosts),
            profile,
        }
    }

    /// The curve of an operator, or of its stand-in.
    fn grid(&self, operator: &str, precision: Dtype) -> Option<&Result<Grid, String>> {
        let named = |name: &str| self.grids.get(&(name.to_owned(), precision));
        let stand_in =
            || STAND_INS.iter().find(|(missing, _)| *missing == operator).and_then(|(_, other)| named(other));
        named(operator).or_else(stand_in)
    }

    /// Refuses a precision that no curve of the profile is in.
    fn check_precision(&self, precision: Dtype, device: &Device) -> Result<(), CostError> {
        let mut known = vec![Dtype::F32];
        known.extend(self.profile.operators.iter().map(|curve| curve.precision));
        if known.contains(&precision) {
            return Ok(());
        }
        known.sort_unstable();
        known.dedup();
        Err(CostError::precision(device, precision, &known))
    }

    /// The part of an operator's time that is bound by memory, from 0 to 1, when its neighbours stretch it by `factor`: the
    /// two extremes are the measured factors of the largest number of ranks. None where those do not differ.
    fn memory_share(&self, factor: f64) -> Option<f64> {
        let most = self.profile.contention.iter().max_by_key(|point| point.busy_ranks)?;
        let (low, high) = (most.compute_factor.max(1.0), most.memory_factor.max(1.0));
        (high > low).then(|| ((factor - low) / (high - low)).clamp(0.0, 1.0))
    }

    fn no_curve(&self, work: String, curve: &str) -> CostError {
        CostError::NoCurve { work, curve: curve.to_owned(), device_model: self.profile.device_model.clone() }
    }

    fn no_points(&self, table: &'static str) -> CostError {
        CostError::NoPoints { table, device_model: self.profile.device_model.clone() }
    }

    /// What a rank itself spends on a message: as between threads, or as between processes where there are no others.
    fn message(&self, line: fn(&Links) -> &Option<Line>, payload: Bytes) -> Result<Nanos, CostError> {
        let known = [Some(&self.threads), self.within_host.as_ref(), self.between_hosts.as_ref()];
        let line = known.into_iter().flatten().find_map(|links| line(links).as_ref());
        line.map(|line| nanos(line.at(payload.get()))).ok_or_else(|| self.no_points("messages"))
    }

    /// Latency and time on the links of a message between processes, beside what sender and receiver spend on it.
    fn between_processes(&self, links: &Links, payload: Bytes) -> Result<Option<(Nanos, Nanos)>, CostError> {
        let own = |payload| -> Result<Nanos, CostError> {
            Ok(self.message(|links| &links.send, payload)? + self.message(|links| &links.recv, payload)?)
        };
        let (Some(least), Some(all)) = (links.one_way(links.shortest.min(payload)), links.one_way(payload)) else {
            return Ok(None);
        };
        let latency = least.saturating_sub(own(links.shortest.min(payload))?);
        Ok(Some((latency, all.saturating_sub(own(payload)?).saturating_sub(latency))))
    }
}

/// Product of the axes: a one-axis curve has its elements there.
fn elements(axes: &[u64]) -> u64 {
    axes.iter().product()
}

/// Whether two devices are ranks on one card: their names are `card/0`, `card/1` and so on.
fn on_one_card(from: &Device, to: &Device) -> bool {
    let card = |device: &Device| device.name.split_once('/').map(|(card, _)| card.to_owned());
    card(from).is_some() && card(from) == card(to)
}

fn is_compute_bound(curve: &str) -> bool {
    curve.starts_with("linear") || curve.starts_with("attention")
}

/// Factors for `busy` ranks: those of the largest measured number not above it.
fn factors(points: &[ContentionPoint], busy: usize) -> Contention {
    let known = points.iter().filter(|point| point.busy_ranks as usize <= busy && point.busy_ranks > 1);
    match known.max_by_key(|point| point.busy_ranks) {
        None => Contention { compute: 1.0, memory: 1.0 },
        Some(point) => Contention { compute: point.compute_factor.max(1.0), memory: point.memory_factor.max(1.0) },
    }
}

impl CostModel for Profiled {
    fn name(&self) -> &'static str {
        "profiled"
    }

    fn op(
        &self,
        model: &ModelGraph,
        op: OpId,
        pass: Pass,
        batch: u64,
        precision: Dtype,
        device: &Device,
    ) -> Result<WorkTime, CostError> {
        let (curve, work, per_work) = self.look_up(model, op, batch, precision, device)?;
        let time = match pass {
            Pass::Forward => nanos(per_work.forward_ns * work),
            Pass::Backward => nanos(per_work.backward_ns * work),
        };
        let measured = per_work.beside_factor.and_then(|factor| self.table(device).ok()?.memory_share(factor));
        let share = measured.unwrap_or(if is_compute_bound(curve) { 0.0 } else { 1.0 });
        let memory = nanos(time.as_f64() * share);
        Ok(WorkTime { compute: time - memory, memory })
    }

    /// From the curve `boundary`. The last stage starts its backward pass from the loss and seeds nothing.
    fn segment(&self, pass: Pass, boundary: Bytes, device: &Device) -> Result<WorkTime, CostError> {
        let table = self.table(device)?;
        let line = if pass == Pass::Forward { &table.start } else { &table.seed };
        let line = line.as_ref().ok_or_else(|| table.no_curve("a segment".to_owned(), BOUNDARY))?;
        let memory = if pass == Pass::Backward && boundary.is_zero() {
            Nanos::ZERO
        } else {
            nanos(line.at(boundary.get() / Dtype::F32.size()))
        };
        Ok(WorkTime { compute: Nanos::ZERO, memory })
    }

    fn send(&self, payload: Bytes, device: &Device) -> Result<Nanos, CostError> {
        let table = self.table(device)?;
        table.message(|links| &links.send, payload)
    }

    fn recv(&self, payload: Bytes, device: &Device) -> Result<Nanos, CostError> {
        let table = self.table(device)?;
        table.message(|links| &links.recv, payload)
    }

    /// Between processes: as measured, if it was. Between ranks on cores of a host, or on one card: the measured latency; the
    /// payload moves in send and receive. Otherwise the links of the route are added.
    fn wire(&self, payload: Bytes, route: &Route, from: &Device, to: &Device) -> Result<(Nanos, Nanos), CostError> {
        let table = self.table(from)?;
        if let Some(links) = self.process_links(table, from.host == to.host)
            && let Some(known) = table.between_processes(links, payload)?
        {
            return Ok(known);
        }
        let latency = table.message(|links| &links.latency, payload)?;
        if from.host == to.host && (from.spec.kind == DeviceKind::Cpu || on_one_card(from, to)) {
            return Ok((latency, Nanos::ZERO));
        }
        Ok((latency + route.latency, payload.transfer_time(route.bandwidth)))
    }

    /// As measured inside a host, or between hosts with as many ranks each; else the closed form over the links.
    fn all_reduce(&self, payload: Bytes, group: &[DeviceId], devices: &DeviceGraph) -> Result<Nanos, CostError> {
        let Some((first, others)) = group.split_first() else { return Ok(Nanos::ZERO) };
        if others.is_empty() {
            return Ok(Nanos::ZERO);
        }
        let host = |id: &DeviceId| devices.device(*id).host.as_str();
        let hosts: BTreeSet<&str> = group.iter().map(host).collect();
        let each = group.iter().filter(|id| host(id) == host(first)).count();
        let times = group.iter().map(|id| {
            let table = self.table(devices.device(*id))?;
            let links = self.process_links(table, hosts.len() == 1);
            if hosts.len() > 1 {
                let even = each * hosts.len() == group.len();
                let known =
                    links.filter(|_| even).and_then(|links| links.all_reduce(payload * each as u64, hosts.len()));
                return known.map_or_else(|| collective::all_reduce(payload, group, devices), Ok);
            }
            let known = links.and_then(|links| links.all_reduce(payload, group.len()));
            let known = known.or_else(|| table.threads.all_reduce(payload, group.len()));
            known.ok_or_else(|| table.no_points("all_reduce"))
        });
        times.into_iter().try_fold(Nanos::ZERO, |slowest, time| Ok(slowest.max(time?)))
    }

    fn optimizer(&self, optimizer: Optimizer, tensors: &[u64], device: &Device) -> Result<WorkTime, CostError> {
        let table = self.table(device)?;
        let line = table.optimizers.get(&optimizer).ok_or_else(|| table.no_points("optimizers"))?;
        let memory = tensors.iter().map(|elements| nanos(line.at(*elements))).sum();
        Ok(WorkTime { compute: Nanos::ZERO, memory })
    }

    fn load(&self, payload: Bytes, device: &Device) -> Result<Nanos, CostError> {
        let table = self.table(device)?;
        let line = table.load.as_ref().ok_or_else(|| table.no_curve("loading a micro-batch".to_owned(), LOAD))?;
        Ok(nanos(line.at(payload.get() / Dtype::I32.size())))
    }

    fn contention(&self, device: &Device, busy: usize) -> Contention {
        let none = Contention { compute: 1.0, memory: 1.0 };
        self.tables.get(&device.spec.model).map_or(none, |table| factors(&table.profile.contention, busy))
    }

    fn overlaps(&self, device: &Device) -> bool {
        device.spec.kind == DeviceKind::Gpu
    }
}
