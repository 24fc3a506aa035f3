//! Exchange of gradients between replicas, beside the backward pass as far as the stack lets it.

use super::error::GraphStepError;
use super::replica::{GradientReady, Replica};
use super::stack::GraphStack;
use crate::network::{Collective, Fabric, Group, Interconnect, Library, NetworkError, time};

/// How replicas agree on their parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Exchange {
    /// All-reduces by a library.
    AllReduce(Library),
    /// Parameters live in host memory: every device pulls them and pushes its gradients over its own bus, and the host adds
    /// these up. A lone replica does so too.
    HostServer,
    /// Parameters, or sums, are spread over the devices of a machine, which copy to each other without a library.
    DeviceServers,
    /// Devices of a machine sum up among themselves; the machines push the sums to servers spread over all of them, and
    /// pull back (TensorFlow's `distributed_replicated`).
    MachineServers,
}

/// Replicas and what joins them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GradientGroup<'a> {
    /// Replicas, one a device.
    pub replicas: u64,
    /// What joins them.
    pub fabric: &'a Fabric,
    /// How they exchange gradients.
    pub exchange: Exchange,
    /// Bytes of a gradient on the wire.
    pub gradient_bytes: u64,
    /// Deviation of the work in the replicas' batches over its mean: sentences of unequal length.
    pub deviation: f64,
}

/// Bus of a device to its host where the fabric's innermost level is no bus: PCI Express 3 x16, bytes/s.
const HOST_BUS: f64 = 15.75e9;

impl GradientGroup<'_> {
    fn group(&self) -> Result<Group, GraphStepError> {
        let refuse = |error: NetworkError| GraphStepError::Field {
            field: "replicas",
            value: format!("{} ({error})", self.replicas),
            remedy: "use whole nodes, or a divisor of one",
        };
        Group::new(self.replicas as usize, self.in_node() as usize).map_err(refuse)
    }

    /// Replicas of a node.
    fn in_node(&self) -> u64 {
        self.replicas.min(self.fabric.node() as u64).max(1)
    }

    /// Bytes a second of one device to the others of its machine, or to its host.
    fn bus(&self, to_host: bool) -> f64 {
        let level = self.fabric.levels().first().filter(|level| !level.interconnect.crosses_nodes());
        match level {
            Some(level) if !to_host || matches!(level.interconnect, Interconnect::Pcie(_)) => {
                level.achieved.unwrap_or(level.bandwidth * Library::NCCL.share(level.interconnect))
            }
            _ => HOST_BUS * Library::NCCL.share(Interconnect::Pcie(3)),
        }
    }

    /// Time to exchange `bytes` of gradients, s.
    fn seconds(&self, bytes: f64, group: &Group, stack: &GraphStack) -> f64 {
        let (replicas, in_node) = (self.replicas as f64, self.in_node() as f64);
        let others = |ranks: f64| (ranks - 1.0) / ranks;
        // Sent and then received, one after the other.
        let among_devices = 2.0 * bytes * others(in_node) / self.bus(false);
        let copied = match self.exchange {
            Exchange::AllReduce(library) => {
                let found = time(Collective::AllReduce, bytes, group, self.fabric, &library);
                return found.seconds / stack.exchange_speed;
            }
            Exchange::HostServer => {
                let host = replicas * bytes / (stack.host_gb_per_s * 1e9);
                return 2.0 * host.max(bytes / self.bus(true) / stack.copy_speed);
            }
            Exchange::DeviceServers => among_devices,
            Exchange::MachineServers => among_devices + 2.0 * bytes * others(replicas / in_node) / self.card(),
        };
        copied / stack.copy_speed
    }

    /// Bytes a second between machines.
    fn card(&self) -> f64 {
        let crossing = self.fabric.levels().iter().find(|level| level.interconnect.crosses_nodes());
        crossing.map_or(HOST_BUS, |level| level.achieved.unwrap_or(level.bandwidth) * level.ports as f64)
    }
}

/// Messages: gradients that are whole one after the other, in buckets of at least `bucket` bytes.
fn buckets(gradients: &[GradientReady], element: u64, bucket: f64) -> Vec<(f64, f64)> {
    let mut messages = Vec::new();
    let mut waiting = 0.0;
    for ready in gradients {
        waiting += (ready.elements * element) as f64;
        if waiting >= bucket {
            messages.push((ready.at, waiting));
            waiting = 0.0;
        }
    }
    if let Some(last) = gradients.last().filter(|_| waiting > 0.0) {
        messages.push((last.at, waiting));
    }
    messages
}

/// Messages of a coordinator that looks every `cycle` seconds, sends together what is whole by then up to `most` bytes, and
/// looks again when that has arrived (Horovod's tensor fusion: Sergeev and Del Balso 2018, section 4): when the last has
/// arrived, and how long all take, s. A tensor larger than `most` travels alone.
fn coordinated(
    gradients: &[GradientReady],
    element: u64,
    [cycle, most]: [f64; 2],
    seconds: impl Fn(f64) -> f64,
) -> (f64, f64) {
    let (mut free, mut serial) = (0.0_f64, 0.0);
    let mut waiting = gradients;
    while let Some(first) = waiting.first() {
        let now = (free.max(first.at) / cycle).ceil() * cycle;
        let (mut bytes, mut taken) = (0.0, 0);
        for ready in waiting {
            let more = (ready.elements * element) as f64;
            // The first one is there, whatever rounding says.
            if taken > 0 && (ready.at > now || bytes + more > most) {
                break;
            }
            (bytes, taken) = (bytes + more, taken + 1);
        }
        waiting = &waiting[taken..];
        let taking = seconds(bytes);
        (free, serial) = (now + taking, serial + taking);
    }
    (free, serial)
}

/// Time of a data-parallel step, s: the slowest replica, the part of the exchange that does not hide behind its backward
/// pass, the update.
///
/// # Errors
/// [`GraphStepError::Field`] for replicas that fill no whole number of nodes.
pub fn data_parallel(
    replica: &Replica,
    parallel: &GradientGroup<'_>,
    stack: &GraphStack,
) -> Result<f64, GraphStepError> {
    let group = parallel.group()?;
    let alone = parallel.replicas < 2 && parallel.exchange != Exchange::HostServer;
    let exposed = if alone { 0.0 } else { exposed(replica, parallel, &group, stack) };
    let waited = stack.slowest_of(parallel.replicas, parallel.deviation);
    Ok(replica.backward_end * waited + exposed + replica.update + replica.fixed)
}

fn exposed(replica: &Replica, parallel: &GradientGroup<'_>, group: &Group, stack: &GraphStack) -> f64 {
    let (gradients, element, most) = (&replica.gradients, parallel.gradient_bytes, stack.bucket_mb * 1e6);
    let seconds = |bytes: f64| parallel.seconds(bytes, group, stack);
    let (free, serial) = if stack.cycle_ms > 0.0 {
        coordinated(gradients, element, [stack.cycle_ms * 1e-3, most], seconds)
    } else {
        buckets(gradients, element, most).into_iter().fold((0.0_f64, 0.0), |(free, serial), (ready, bytes)| {
            let taking = seconds(bytes);
            (free.max(ready) + taking, serial + taking)
        })
    };
    let tail = (free - replica.backward_end).max(0.0);
    stack.exchange_overlap * tail + (1.0 - stack.exchange_overlap) * serial
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(at: f64, elements: u64) -> GradientReady {
        GradientReady { at, elements, tensors: 1 }
    }

    #[test]
    fn a_coordinator_sends_together_what_waited() {
        // Three tensors of 4 MB: the first goes alone at the second look, the others wait for it and go together at 30 ms.
        let gradients = [ready(0.004, 1_000_000), ready(0.006, 1_000_000), ready(0.011, 1_000_000)];
        let (free, serial) = coordinated(&gradients, 4, [0.005, 64e6], |bytes| 0.017 + bytes * 1e-9);
        assert!((free - 0.055).abs() < 1e-9 && (serial - 0.046).abs() < 1e-9, "{free} {serial}");
    }

    #[test]
    fn a_coordinator_fills_its_buffer_and_sends_larger_tensors_alone() {
        let gradients = [ready(0.0, 1), ready(0.0, 30), ready(0.0, 2), ready(0.0, 2)];
        let lengths = std::cell::RefCell::new(Vec::new());
        coordinated(&gradients, 1, [0.005, 4.0], |bytes| {
            lengths.borrow_mut().push(bytes as u64);
            0.001
        });
        assert_eq!(*lengths.borrow(), [1, 30, 4]);
    }
}
