//! Placement workloads: the format, every refusal by name, and no panic on anything.

use cutplane_zoo::{ZooError, placement_from_str, read_placement};

const GOOD: &str = r#"{"maxSizePerFPGA": 100.0, "maxFPGAs": 2, "maxCPUs": 1, "nodes": [
  {"id": 1, "supportedOnFpga": 1, "cpuLatency": 10.0, "fpgaLatency": 1.0, "isBackwardNode": false, "colorClass": 3, "size": 4},
  {"id": 2, "supportedOnFpga": false, "cpuLatency": 5, "isBackwardNode": 0, "name": "b"},
  {"id": 7, "supportedOnFpga": true, "cpuLatency": 5, "fpgaLatency": 0.5, "isBackwardNode": 1, "colorClass": 3, "size": 0}],
 "edges": [{"sourceId": 1, "destId": 2, "cost": 0.25, "size": 1}, {"sourceId": 1, "destId": 7, "cost": 0.25}]}"#;

#[test]
fn reads_every_field() {
    let problem = placement_from_str("w.json", GOOD).expect("a workload");
    let devices = problem.devices();
    assert_eq!((devices.accelerators, devices.cpus, devices.accelerator_memory), (2, 1, 100.0));
    let nodes = problem.nodes();
    assert_eq!(nodes.iter().map(|node| node.id).collect::<Vec<_>>(), [1, 2, 7]);
    assert_eq!((nodes[0].transfer_time, nodes[0].size, nodes[0].color), (0.25, 4.0, Some(3)));
    assert_eq!((nodes[1].on_accelerator, nodes[1].color, nodes[1].backward), (false, None, false));
    assert_eq!((nodes[2].backward, nodes[2].accelerator_time), (true, 0.5));
    assert_eq!(problem.successors(0), [1, 2]);
    assert!(problem.is_training());
}

#[test]
fn refusals_name_file_place_and_remedy() {
    let cases = [
        (r#""maxFPGAs": 2"#, r#""maxFPGAs": -2"#, "maxFPGAs"),
        (r#""maxFPGAs": 2, "maxCPUs": 1"#, r#""maxFPGAs": 0, "maxCPUs": 0"#, "at least one device"),
        (r#""maxCPUs": 1"#, r#""maxCPUs": 100000"#, "at most 4096"),
        (r#""maxSizePerFPGA": 100.0,"#, "", "'maxSizePerFPGA' is missing"),
        (r#""id": 2,"#, r#""id": 1,"#, "node 1 is there twice"),
        (r#""id": 2,"#, r#""id": "two","#, "nodes[1]: id"),
        (r#""cpuLatency": 10.0"#, r#""cpuLatency": -1"#, "node 1: cpuLatency' is -1"),
        (r#""cpuLatency": 10.0"#, r#""cpuLatency": "x""#, "node 1: cpuLatency"),
        (r#""fpgaLatency": 1.0"#, r#""fpgaLatency": null"#, "node 1: fpgaLatency' is null"),
        (r#""supportedOnFpga": 1,"#, r#""supportedOnFpga": 2,"#, "node 1: supportedOnFpga"),
        (r#""destId": 7"#, r#""destId": 8"#, "from node 1 to node 8 ends at a node that is not there"),
        (r#""destId": 7"#, r#""destId": 1"#, "joins a node to itself"),
        (r#""destId": 7, "cost": 0.25"#, r#""destId": 7, "cost": 0.5"#, "another edge from node 1 costs 0.25"),
        (
            r#""sourceId": 1, "destId": 7, "cost": 0.25"#,
            r#""sourceId": 2, "destId": 1, "cost": 0"#,
            "waits for itself through 2 edges",
        ),
        (r#""edges": ["#, r#""edges": [3, "#, "edges[0]"),
        (r#"{"maxSizePerFPGA""#, r#"["maxSizePerFPGA""#, "not JSON"),
    ];
    for (old, new, word) in cases {
        assert!(GOOD.contains(old), "{old}");
        let error = placement_from_str("w.json", &GOOD.replacen(old, new, 1)).expect_err(word).to_string();
        assert!(error.contains("w.json") && error.contains(word), "{old} -> {new}: {error}");
    }
    let piper = placement_from_str("p.json", r#"{"maxDevices": 4, "nodes": [], "edges": []}"#);
    assert!(piper.expect_err("refused").to_string().contains("Piper"));
    assert!(matches!(read_placement("no/such.json".as_ref()), Err(ZooError::Io { .. })));
}

/// Every byte replaced, removed or doubled in turn, and tokens exchanged at random: an answer or an error, never a panic.
#[test]
fn mutations_never_panic() {
    let replacements = [&b"0"[..], b"-", b"1e999", b"null", b"\"", b"{", b"]", b"", b"18446744073709551616", b"\xff"];
    let mut read = 0;
    for at in 0..GOOD.len() {
        for replacement in replacements {
            let mutated = [&GOOD.as_bytes()[..at], replacement, &GOOD.as_bytes()[at + 1..]].concat();
            read += u32::from(placement_from_str("m.json", &String::from_utf8_lossy(&mutated)).is_ok());
        }
        assert!(placement_from_str("m.json", &GOOD[..at]).is_err());
    }
    assert!(read > 0, "some mutations are harmless");
    let tokens: Vec<&str> = GOOD.split_inclusive([',', ':']).collect();
    let mut state = 1_u64;
    let mut below = |count: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % count
    };
    for _ in 0..100_000 {
        let mut mutated = tokens.clone();
        for _ in 0..=below(3) {
            let (to, from) = (below(tokens.len()), below(tokens.len()));
            mutated[to] = tokens[from];
        }
        let _ = placement_from_str("m.json", &mutated.concat());
    }
}
