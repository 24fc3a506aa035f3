//! The cores of this machine as devices.

use std::collections::BTreeMap;

use cutplane_graph::{ClusterSpec, DeviceKind, DeviceSpec, Dtype, LinkKind, LinkSpec, NodeKind, NodeSpec};

const HOST: &str = "host";
const MODEL: &str = "cpu-core";
/// Used where the system does not say how much memory it has.
const FALLBACK_MEMORY_GIB: f64 = 4.0;

/// `count` cores of this machine. Each has an even share of the machine's memory.
pub(super) fn cores(count: usize) -> ClusterSpec {
    let share_gib = total_memory_gib() / count as f64;
    let device = |index: usize| NodeSpec {
        name: format!("cpu:{index}"),
        kind: NodeKind::Device,
        model: Some(MODEL.to_owned()),
        host: Some(HOST.to_owned()),
    };
    let link = |index: usize| LinkSpec {
        from: format!("cpu:{index}"),
        to: HOST.to_owned(),
        kind: LinkKind::SharedMemory,
        bandwidth_gb_per_s: 10.0,
        latency_us: 1.0,
    };
    let host = NodeSpec { name: HOST.to_owned(), kind: NodeKind::Host, model: None, host: None };
    ClusterSpec {
        name: format!("cpu:{count}"),
        device_models: BTreeMap::from([(MODEL.to_owned(), core_spec(share_gib))]),
        nodes: std::iter::once(host).chain((0..count).map(device)).collect(),
        links: (0..count).map(link).collect(),
    }
}

fn core_spec(memory_gib: f64) -> DeviceSpec {
    DeviceSpec {
        model: MODEL.to_owned(),
        kind: DeviceKind::Cpu,
        memory_gib,
        peak_tflop_per_s: BTreeMap::from([(Dtype::F32, 0.1)]),
        memory_bandwidth_gb_per_s: 10.0,
        launch_overhead_us: 5.0,
        matmul_efficiency: 0.8,
        memory_efficiency: 0.85,
        accelerator: None,
        source: "memory: even share of this machine's; all rates are priors, `cutplane profile` measures them"
            .to_owned(),
    }
}

/// `MemTotal` of `/proc/meminfo`, rounded down to whole MiB.
fn total_memory_gib() -> f64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    memory_gib_of(&text).unwrap_or(FALLBACK_MEMORY_GIB)
}

fn memory_gib_of(meminfo: &str) -> Option<f64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    (kib >= 1024).then(|| (kib / 1024) as f64 / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_kib_and_absent_lines_fall_back() {
        assert_eq!(memory_gib_of("MemFree: 1 kB\nMemTotal:       8388608 kB\n"), Some(8.0));
        assert_eq!(memory_gib_of("MemTotal: many kB"), None);
        assert_eq!(memory_gib_of(""), None);
    }

    #[test]
    fn two_cores_share_the_memory_and_meet_at_the_host() {
        let spec = cores(2);
        let names: Vec<&str> = spec.nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["host", "cpu:0", "cpu:1"]);
        let share = spec.device_models[MODEL].memory_gib;
        assert!((share * 2.0 - total_memory_gib()).abs() < 1e-9, "{share}");
    }
}
