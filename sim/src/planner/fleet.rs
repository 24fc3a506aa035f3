//! The cluster as a planner sees it: classes of equal devices, and who takes which device.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use cutplane_graph::{Device, DeviceGraph, DeviceId, LinkId, Route};
use cutplane_units::Bytes;

use super::configuration::{Configuration, Placement};
use super::error::PlanError;
use super::problem::Problem;
use crate::cost::CostError;

/// Devices of equal specification, in cluster order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeviceClass {
    /// The devices.
    pub(super) devices: Vec<DeviceId>,
    /// Most devices that one host of this class has, whatever their class: who can disturb whom.
    host_size: usize,
}

/// One kind of path between two neighbouring stages.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    /// A device of the upstream stage.
    pub(super) from: DeviceId,
    /// Its partner downstream.
    pub(super) to: DeviceId,
    /// The path.
    pub(super) route: Rc<Route>,
    /// How many messages at least share the narrowest link when all replicas send at once.
    pub(super) share: f64,
}

/// What decides the price of a message between two stages: routes and sharing, each kind once.
pub(super) type LaneKey = Vec<(DeviceIdKey, u64, u64, u64)>;
/// What decides the price of a collective: its devices' classes, hosts and the routes around the ring.
pub(super) type GroupKey = Vec<(DeviceIdKey, usize, u64, u64)>;
/// Class of a device.
pub(super) type DeviceIdKey = usize;

/// The usable devices of a cluster by class. With one class (the usual cluster), the position of a stage says which
/// devices it takes, and every route is priced exactly. With several classes, any class can follow any other; a stage's
/// replicas are devices of one class, and routes between two classes are priced at the slowest of the paths between
/// their first and last devices.
#[derive(Debug)]
pub(super) struct Fleet<'a> {
    graph: &'a DeviceGraph,
    classes: Vec<DeviceClass>,
    class_of: HashMap<DeviceId, usize>,
    routes: RefCell<HashMap<(DeviceId, DeviceId), Rc<Route>>>,
    uniform: bool,
}

impl<'a> Fleet<'a> {
    /// Sorts the devices that compute in the problem's precision into classes.
    pub(super) fn new(problem: &Problem<'a>) -> Result<Self, PlanError> {
        let graph = problem.devices;
        let mut classes: Vec<DeviceClass> = Vec::new();
        let mut class_of = HashMap::new();
        for id in graph.device_ids().filter(|id| graph.device(*id).spec.peak(problem.precision).is_some()) {
            let same = |class: &DeviceClass| graph.device(class.devices[0]).spec == graph.device(id).spec;
            let index = classes.iter().position(same).unwrap_or_else(|| {
                classes.push(DeviceClass { devices: Vec::new(), host_size: 0 });
                classes.len() - 1
            });
            classes[index].devices.push(id);
            class_of.insert(id, index);
        }
        if classes.is_empty() {
            let (cluster, precision) = (graph.name().to_owned(), problem.precision.to_string());
            return Err(PlanError::NoDevices { cluster, precision });
        }
        set_host_sizes(graph, &mut classes);
        let mut fleet = Self { graph, classes, class_of, routes: RefCell::default(), uniform: false };
        fleet.uniform = fleet.check_uniform()?;
        Ok(fleet)
    }

    fn check_uniform(&self) -> Result<bool, PlanError> {
        let [class] = &self.classes[..] else { return Ok(false) };
        let devices = &class.devices;
        let one_host = devices.iter().all(|id| self.device(*id).host == self.device(devices[0]).host);
        let mut kinds = Vec::new();
        for other in devices.iter().skip(1) {
            let route = self.route(devices[0], *other)?;
            kinds.push((route.latency, route.bandwidth.get().to_bits()));
        }
        kinds.dedup();
        Ok(one_host && kinds.len() <= 1)
    }

    /// The classes, in the order of their first devices.
    pub(super) fn classes(&self) -> &[DeviceClass] {
        &self.classes
    }

    /// The class of a device, if it is usable.
    pub(super) fn class_of(&self, device: DeviceId) -> Option<usize> {
        self.class_of.get(&device).copied()
    }

    /// Usable devices.
    pub(super) fn device_count(&self) -> usize {
        self.class_of.len()
    }

    /// One class, one host, one kind of route: placements make no difference.
    pub(super) fn is_uniform(&self) -> bool {
        self.uniform
    }

    /// Stages that each class has room for.
    pub(super) fn capacities(&self, data_degree: usize) -> Vec<usize> {
        self.classes.iter().map(|class| class.devices.len() / data_degree).collect()
    }

    /// One device of the cluster.
    pub(super) fn device(&self, id: DeviceId) -> &'a Device {
        self.graph.device(id)
    }

    /// A device that stands for its class.
    pub(super) fn sample(&self, class: usize) -> &'a Device {
        self.device(self.classes[class].devices[0])
    }

    /// Memory of each device of a class.
    pub(super) fn memory(&self, class: usize) -> Bytes {
        self.sample(class).spec.memory()
    }

    /// Devices of one host that work at the same time, at most: what [`crate::cost::CostModel::contention`] is asked for.
    pub(super) fn busy(&self, class: usize, configuration: &Configuration) -> usize {
        self.classes[class].host_size.min(configuration.concurrency())
    }

    /// The devices of the `ordinal`-th stage of a class. With one class the ordinal is the stage's position.
    pub(super) fn group(&self, class: usize, configuration: &Configuration, ordinal: usize) -> Vec<DeviceId> {
        let Configuration { data_degree, stages, placement, .. } = *configuration;
        let devices = &self.classes[class].devices;
        let place = |replica: usize| match placement {
            Placement::ReplicasAdjacent => ordinal * data_degree + replica,
            Placement::StagesAdjacent => replica * stages + ordinal,
        };
        (0..data_degree).map(|replica| devices[place(replica)]).collect()
    }

    /// The groups whose prices stand for a stage of `class` at `position`: the very group when there is one class, else
    /// the first and last groups of the class.
    pub(super) fn groups_at(&self, class: usize, configuration: &Configuration, position: usize) -> Vec<Vec<DeviceId>> {
        if self.classes.len() == 1 {
            return vec![self.group(class, configuration, position)];
        }
        let last = (self.classes[class].devices.len() / configuration.data_degree).saturating_sub(1);
        let mut groups = vec![self.group(class, configuration, 0)];
        if last > 0 {
            groups.push(self.group(class, configuration, last));
        }
        groups
    }

    /// The kinds of paths into the stage at `position` (1 or later) from the stage before it.
    pub(super) fn lanes(
        &self,
        configuration: &Configuration,
        position: usize,
        from: usize,
        to: usize,
    ) -> Result<Vec<Lane>, PlanError> {
        let pairs: Vec<(DeviceId, DeviceId)> = if self.classes.len() == 1 {
            let upstream = self.group(0, configuration, position - 1);
            upstream.into_iter().zip(self.group(0, configuration, position)).collect()
        } else {
            let (a, b) = (&self.classes[from].devices, &self.classes[to].devices);
            let ends = |list: &[DeviceId]| [list[0], list[list.len() - 1]];
            let all = ends(a).into_iter().flat_map(|x| ends(b).map(|y| (x, y))).filter(|(x, y)| x != y);
            let mut all: Vec<_> = all.collect();
            all.sort_unstable();
            all.dedup();
            return self.to_lanes(&all, false);
        };
        self.to_lanes(&pairs, true)
    }

    /// Whether the activation into the stage at `position`, and the gradient back, share a link with the messages between
    /// that stage, or the one before, and its other neighbour. With several classes it is taken for granted.
    pub(super) fn shares_links(&self, configuration: &Configuration, position: usize) -> Result<bool, PlanError> {
        let stages = configuration.stages;
        if position == 0 || stages < 3 {
            return Ok(false);
        }
        if self.classes.len() > 1 {
            return Ok(true);
        }
        let device = |stage: usize| self.group(0, configuration, stage)[0];
        let shared = |end: usize, a: usize, b: usize| -> Result<bool, PlanError> {
            let (from_a, from_b) = (self.route(device(a), device(end))?, self.route(device(b), device(end))?);
            Ok(from_a.links.iter().any(|link| from_b.links.contains(link)))
        };
        let behind = position + 1 < stages && shared(position, position - 1, position + 1)?;
        let before = position > 1 && shared(position - 1, position, position - 2)?;
        Ok(behind || before)
    }

    fn to_lanes(&self, pairs: &[(DeviceId, DeviceId)], together: bool) -> Result<Vec<Lane>, PlanError> {
        let mut users: HashMap<LinkId, u32> = HashMap::new();
        let routes: Vec<_> = pairs.iter().map(|(from, to)| self.route(*from, *to)).collect::<Result<_, _>>()?;
        for link in routes.iter().flat_map(|route| &route.links) {
            *users.entry(*link).or_default() += 1;
        }
        let mut lanes: Vec<Lane> = Vec::new();
        for ((from, to), route) in pairs.iter().zip(routes) {
            let crowd = |link: &LinkId| {
                let count = if together { f64::from(users[link]) } else { 1.0 };
                count * route.bandwidth.get() / self.graph.link(*link).bandwidth.get()
            };
            let share = route.links.iter().map(crowd).fold(1.0, f64::max);
            let lane = Lane { from: *from, to: *to, route, share };
            if !lanes.iter().any(|known| self.lane_key(known) == self.lane_key(&lane)) {
                lanes.push(lane);
            }
        }
        Ok(lanes)
    }

    fn lane_key(&self, lane: &Lane) -> (DeviceIdKey, u64, u64, u64) {
        let route = &lane.route;
        (self.class_of[&lane.from], route.latency.get(), route.bandwidth.get().to_bits(), lane.share.to_bits())
    }

    /// What decides the price of these lanes.
    pub(super) fn lanes_key(&self, lanes: &[Lane]) -> LaneKey {
        lanes.iter().map(|lane| self.lane_key(lane)).collect()
    }

    /// What decides the price of a collective over `group`.
    pub(super) fn group_key(&self, group: &[DeviceId]) -> Result<GroupKey, PlanError> {
        let host = |id: DeviceId| {
            let name = &self.device(id).host;
            group.iter().position(|other| self.device(*other).host == *name).unwrap_or(0)
        };
        let next = group.iter().cycle().skip(1);
        let entry = |(id, next): (&DeviceId, &DeviceId)| -> Result<_, PlanError> {
            let route = self.route(*id, *next)?;
            Ok((self.class_of[id], host(*id), route.latency.get(), route.bandwidth.get().to_bits()))
        };
        group.iter().zip(next).map(entry).collect()
    }

    fn route(&self, from: DeviceId, to: DeviceId) -> Result<Rc<Route>, PlanError> {
        if let Some(route) = self.routes.borrow().get(&(from, to)) {
            return Ok(Rc::clone(route));
        }
        let found = self.graph.route(from, to).map(Rc::new);
        let route = found.ok_or_else(|| CostError::no_route(self.device(from), self.device(to)))?;
        self.routes.borrow_mut().insert((from, to), Rc::clone(&route));
        Ok(route)
    }
}

fn set_host_sizes(graph: &DeviceGraph, classes: &mut [DeviceClass]) {
    let mut sizes: HashMap<&str, usize> = HashMap::new();
    for id in classes.iter().flat_map(|class| &class.devices) {
        *sizes.entry(graph.device(*id).host.as_str()).or_default() += 1;
    }
    for class in classes {
        let largest = class.devices.iter().map(|id| sizes[graph.device(*id).host.as_str()]).max();
        class.host_size = largest.unwrap_or(1);
    }
}
