//! A mesh of equal devices, and what collectives along its axes cost.

use std::cell::RefCell;
use std::collections::HashMap;

use super::error::ShardError;
use crate::network::{Collective, Fabric, Group, Library, time};

/// Axes of a mesh; one of one device where the mesh has fewer.
pub const AXES: usize = 2;

/// A set of axes.
pub type Axes = [bool; AXES];

/// A mesh of devices: the last axis runs over neighbours, the first over what is left. Ranks are numbered as on the fabric.
#[derive(Clone, Debug)]
pub struct Mesh<'a> {
    sizes: [usize; AXES],
    given: usize,
    fabric: &'a Fabric,
    library: Library,
    known: RefCell<HashMap<(Collective, u64, Axes), f64>>,
}

impl<'a> Mesh<'a> {
    /// A mesh of one or two axes, outermost first.
    ///
    /// # Errors
    /// [`ShardError::Mesh`] when there are other than one or two axes, or they do not make up the fabric's ranks.
    pub fn new(sizes: &[usize], fabric: &'a Fabric, library: Library) -> Result<Self, ShardError> {
        let refuse = |problem: String, remedy: String| {
            let mesh = sizes.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
            Err(ShardError::Mesh { mesh, problem, remedy })
        };
        let both = match *sizes {
            [one] => [1, one],
            [outer, inner] => [outer, inner],
            _ => return refuse(format!("{} axes", sizes.len()), "write one size or two, such as 16x8".to_owned()),
        };
        let (devices, node) = (both[0].checked_mul(both[1]), fabric.node());
        if devices != Some(fabric.ranks()) {
            let (ranks, nodes) = (fabric.ranks(), fabric.ranks() / node.max(1));
            let problem = format!("{} has {ranks} devices", fabric.name());
            return refuse(problem, format!("write sizes whose product is {ranks}, such as {nodes}x{node}"));
        }
        let mesh = Self { sizes: both, given: sizes.len(), fabric, library, known: RefCell::default() };
        for axis in 0..AXES {
            mesh.group([axis == 0, axis == 1])?;
        }
        Ok(mesh)
    }

    /// Devices along each axis.
    pub const fn sizes(&self) -> [usize; AXES] {
        self.sizes
    }

    /// The axes that were given: all, or the last.
    pub fn axes(&self) -> std::ops::Range<usize> {
        AXES - self.given..AXES
    }

    /// Devices.
    pub const fn devices(&self) -> usize {
        self.sizes[0] * self.sizes[1]
    }

    /// Devices that differ along some of the axes.
    pub fn ranks(&self, over: Axes) -> usize {
        (0..AXES).filter(|axis| over[*axis]).map(|axis| self.sizes[axis]).product()
    }

    fn group(&self, over: Axes) -> Result<Group, ShardError> {
        let stride = if over[AXES - 1] { 1 } else { self.sizes[AXES - 1] };
        Ok(Group::strided(self.ranks(over), stride, self.fabric.node())?)
    }

    /// Time of one collective along the axes, s; `bytes` as the collective counts them. Along both axes it is the cheaper of
    /// one ring or tree over all, and one axis after the other (Cho et al. 2019).
    pub fn seconds(&self, collective: Collective, bytes: f64, over: Axes) -> f64 {
        if bytes <= 0.0 || self.ranks(over) < 2 {
            return 0.0;
        }
        let key = (collective, bytes.to_bits(), over);
        if let Some(known) = self.known.borrow().get(&key) {
            return *known;
        }
        let flat = self.flat(collective, bytes, over);
        let seconds = if over == [true; AXES] { flat.min(self.nested(collective, bytes)) } else { flat };
        self.known.borrow_mut().insert(key, seconds);
        seconds
    }

    fn flat(&self, collective: Collective, bytes: f64, over: Axes) -> f64 {
        // The constructor has seen that every group is regular.
        self.group(over)
            .map_or(f64::INFINITY, |group| time(collective, bytes, &group, self.fabric, &self.library).seconds)
    }

    /// Along both axes, the inner one moving the whole buffer and the outer one a share of it.
    fn nested(&self, collective: Collective, bytes: f64) -> f64 {
        let share = bytes / self.sizes[AXES - 1] as f64;
        let (outer, inner) = ([true, false], [false, true]);
        match collective {
            Collective::AllReduce => {
                self.flat(Collective::ReduceScatter, bytes, inner)
                    + self.flat(Collective::AllReduce, share, outer)
                    + self.flat(Collective::AllGather, bytes, inner)
            }
            Collective::AllGather | Collective::ReduceScatter => {
                self.flat(collective, bytes, inner) + self.flat(collective, share, outer)
            }
            _ => f64::INFINITY,
        }
    }
}
