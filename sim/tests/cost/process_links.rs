//! Prices of links between ranks in processes of their own.

use std::sync::Arc;

use cutplane_graph::{DeviceGraph, DeviceId};
use cutplane_record::{AllReducePoint, DeviceProfile, LinkClass, MessagePoint, ProcessLinks};
use cutplane_sim::cost::{CostModel, Profiled};
use cutplane_units::{Bytes, Nanos};

use crate::profiled::{cores, profile};

/// Within a host a message of 1 kB takes 1 us, between hosts 10 us, and one of 100 kB 1 ms.
fn cost() -> Profiled {
    let message = |bytes, send_ns, recv_ns, latency_ns| MessagePoint { bytes, send_ns, recv_ns, latency_ns };
    let sum = |ranks, bytes, time_ns| AllReducePoint { ranks, bytes, time_ns, time_mad_ns: 0.0 };
    let near = ProcessLinks {
        class: LinkClass::WithinHost,
        messages: vec![message(1_000, 200.0, 100.0, 700.0)],
        all_reduce: vec![sum(2, 1_000, 900.0)],
    };
    let far = ProcessLinks {
        class: LinkClass::BetweenHosts,
        messages: vec![message(1_000, 150.0, 150.0, 9_700.0), message(100_000, 300.0, 300.0, 999_400.0)],
        all_reduce: vec![sum(2, 1_000, 50_000.0), sum(2, 100_000, 2_000_000.0)],
    };
    Profiled::new([Arc::new(DeviceProfile { processes: vec![near, far], ..profile() })])
}

fn wire(cost: &Profiled, devices: &DeviceGraph, to: usize, bytes: u64) -> [u64; 2] {
    let (from, to) = (DeviceId::new(0), DeviceId::new(to));
    let route = devices.route(from, to).unwrap();
    let (latency, time) = cost.wire(Bytes::new(bytes), &route, devices.device(from), devices.device(to)).unwrap();
    [latency, time].map(Nanos::get)
}

#[test]
fn a_message_takes_as_long_as_was_measured_between_processes() {
    let (cost, devices) = (cost(), cores(&[2, 1]));
    // The profile's threads spend 150 ns on sending and taking 1 kB, and 10.5 us on 100 kB, which are prices of their own.
    assert_eq!(wire(&cost, &devices, 2, 1_000), [10_000 - 150, 0]);
    assert_eq!(wire(&cost, &devices, 2, 100_000), [10_000 - 150, 1_000_000 - 10_500 - 9_850]);
    // Below the shortest message there is no less to wait for.
    assert_eq!(wire(&cost, &devices, 2, 10), [10_000 - 150, 0]);
    // On one host only where ranks are processes there.
    assert_eq!(wire(&cost, &devices, 1, 1_000), [10, 0]);
    assert_eq!(wire(&cost.in_processes(), &devices, 1, 1_000), [1_000 - 150, 0]);
}

#[test]
fn an_all_reduce_over_hosts_sends_what_all_ranks_of_a_host_have() {
    let (cost, devices) = (cost(), cores(&[2, 2]));
    let sum = |cost: &Profiled, ids: &[usize], bytes| {
        let group: Vec<DeviceId> = ids.iter().copied().map(DeviceId::new).collect();
        cost.all_reduce(Bytes::new(bytes), &group, &devices).unwrap().get()
    };
    assert_eq!(sum(&cost, &[0, 2], 1_000), 50_000);
    assert_eq!(sum(&cost, &[0, 1, 2, 3], 50_000), 2_000_000);
    assert_eq!(sum(&cost, &[0, 1], 1_000), 400);
    // Unequal numbers of ranks were not measured: the links of the graph, 1 GB/s and 1 us, a ring of three.
    let ring = sum(&cost, &[0, 1, 2], 3_000_000);
    assert!((4_000_000..4_100_000).contains(&ring), "{ring}");
    assert_eq!(sum(&cost.in_processes(), &[0, 1], 1_000), 900);
}
