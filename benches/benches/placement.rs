//! Placement: how the contiguous search, exact, grows with the graph and with the number of accelerators.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use cutplane_graph::placement::{PlacementDevices, PlacementNode, PlacementProblem};
use cutplane_sim::placement::{PlaceOptions, place};

/// A chain of modules of three parallel branches, as in convolutional networks: four nodes a module, costs of a fixed pattern.
fn modules(count: i64, accelerators: usize) -> PlacementProblem {
    let node = |id: i64| PlacementNode {
        id,
        on_accelerator: true,
        cpu_time: 10.0 + (id % 7) as f64,
        accelerator_time: 1.0 + (id % 5) as f64 / 5.0,
        transfer_time: 0.1 + (id % 3) as f64 / 10.0,
        size: 1.0,
        backward: false,
        color: None,
    };
    let module = |first: i64| (1..4).flat_map(move |branch| [(first, first + branch), (first + branch, first + 4)]);
    let edges: Vec<(i64, i64)> = (0..count).flat_map(|number| module(4 * number)).collect();
    let devices = PlacementDevices { accelerators, cpus: 1, accelerator_memory: 1e9 };
    PlacementProblem::new(devices, (0..=4 * count).map(node).collect(), &edges).expect("a valid problem")
}

fn contiguous(criterion: &mut Criterion) {
    let options = PlaceOptions { contiguous: true, ..PlaceOptions::default() };
    let mut group = criterion.benchmark_group("place-contiguous");
    for (count, accelerators) in [(25, 4), (100, 4), (250, 4), (100, 2), (100, 8)] {
        let problem = modules(count, accelerators);
        let name = BenchmarkId::new(format!("accelerators-{accelerators}"), problem.nodes().len());
        group.bench_with_input(name, &problem, |bencher, problem| {
            bencher.iter(|| place(problem, &options).expect("a placement").objective);
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = contiguous
}
criterion_main!(benches);
