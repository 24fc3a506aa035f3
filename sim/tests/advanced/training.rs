//! Techniques inside a step: loading, synchrony, recomputation, overlap, freezing, offload, compression, recurrence.

use cutplane_graph::{ModelSource, Overrides};
use cutplane_sim::advanced::asynchronous_pipeline::{DOUBLE_BUFFERED_VERSIONS, stashed_versions, steady_rate};
use cutplane_sim::advanced::compression::{decomposed_latency, distillation_step, pruned_operations, tiled_channels};
use cutplane_sim::advanced::freezing::{Layer, step};
use cutplane_sim::advanced::goodput::{RateRule, StepModel, epoch_seconds, scaled_rate, statistical_efficiency};
use cutplane_sim::advanced::input::Loading;
use cutplane_sim::advanced::offload::{Path, host_optimizer_step, streamed_pass, swap_hides};
use cutplane_sim::advanced::overlap::{bucketed, data_parallel_bounds, sliced};
use cutplane_sim::advanced::recomputation::{best_segments, full_recomputation_slowdown, segment_memory};
use cutplane_sim::advanced::recurrence::{cell_operations, serial_depth, wavefront_depth};
use cutplane_sim::advanced::synchrony::{asynchronous_rate, bulk_rate, proportional_shares};
use cutplane_sim::engine::step::served_at;
use cutplane_units::Nanos;

use crate::near;

#[test]
fn the_gradient_of_the_books_network_has_4_805_528_bytes() {
    let name = "mnist".to_owned();
    let source = ModelSource::BuiltIn { name, overrides: Overrides::default(), sequence_length: 1 };
    let parameters = cutplane_zoo::build(&source).unwrap().parameter_count();
    assert_eq!((parameters, 4 * parameters), (1_201_382, 4_805_528));
}

#[test]
fn a_step_waits_for_its_samples() {
    let loading = Loading { bytes: 30e6, storage: 300e6, decoding: 0.8, decoded: 150e6, bus: 12e9 };
    assert!(near(loading.iteration(1, 0.2, true), 0.8, 1e-12));
    assert!(near(loading.iteration(4, 0.2, true), 0.2, 1e-12));
    assert!(near(loading.iteration(4, 0.2, false), 0.4, 1e-12));
    // With many loaders the disk is the bottleneck.
    assert!(near(loading.iteration(64, 0.05, true), 0.1, 1e-12));
    assert_eq!(loading.workers_for(0.2), 4);
}

#[test]
fn large_batches_lose_efficiency_as_adaptdl_says() {
    assert_eq!(statistical_efficiency(3.0, 1.0, 1.0), 1.0);
    // (3 + 1) / (3 / 4 + 1) / 4
    assert!(near(statistical_efficiency(3.0, 1.0, 4.0), 4.0 / 7.0, 1e-12));
    assert!(near(statistical_efficiency(1.0, 0.0, 8.0), 1.0, 1e-12), "noise alone is averaged away");
    assert!(near(statistical_efficiency(0.0, 1.0, 8.0), 1.0 / 8.0, 1e-12), "without noise more samples tell nothing");
    assert_eq!((scaled_rate(0.1, 4.0, RateRule::Linear), scaled_rate(0.1, 4.0, RateRule::SquareRoot)), (0.4, 0.2));
    assert_eq!(epoch_seconds(60_000, 128, 0.01), 4.69);
}

#[test]
fn pollux_steps_of_many_replicas() {
    let model =
        StepModel { compute: 0.0, compute_per_sample: 0.01, exchange: 0.03, exchange_per_replica: 0.01, gamma: 1.0 };
    assert!(near(model.seconds(1, 10.0), 0.1, 1e-12));
    assert!(near(model.seconds(4, 10.0), 0.1 + 0.05, 1e-12));
    let hidden = StepModel { gamma: 2.0, ..model };
    assert!(near(hidden.seconds(4, 10.0), 0.1f64.hypot(0.05), 1e-12));
    let goodput = |replicas| model.goodput(replicas, 10.0, 10.0, 3.0, 1.0);
    assert!(near(goodput(1), 100.0, 1e-12) && goodput(2) > goodput(1));
}

#[test]
fn barriers_wait_for_the_slowest_and_staleness_forgives() {
    let makespan = |steps: [[u64; 4]; 2], bound| {
        let steps = steps.map(|worker| worker.map(Nanos::new).to_vec());
        served_at(&steps, Nanos::ZERO, bound).unwrap().makespan.get()
    };
    let steps = [[1, 3, 1, 3], [3, 1, 3, 1]];
    assert_eq!([Some(0), Some(1), None].map(|bound| makespan(steps, bound)), [12, 8, 8]);
    let straggler = [[1; 4], [2; 4]];
    assert_eq!([Some(0), Some(1), Some(9)].map(|bound| makespan(straggler, bound)), [8; 3]);
    assert_eq!((bulk_rate(&[1.0, 2.0]), asynchronous_rate(&[1.0, 2.0])), (1.0, 1.5));
}

#[test]
fn a_k80_takes_n_samples_where_a_v100_takes_2_n() {
    let shares = proportional_shares(&[1.0, 2.0]);
    assert!(near(shares[0], 1.0 / 3.0, 1e-12) && near(shares[1], 2.0 / 3.0, 1e-12));
    assert_eq!(shares.iter().map(|share| (share * 96.0).round() as u64).collect::<Vec<_>>(), [32, 64]);
}

#[test]
fn square_root_segments_need_twice_the_root() {
    assert_eq!((best_segments(16), segment_memory(16, 4)), (4, 8));
    assert_eq!((best_segments(100), segment_memory(100, 10)), (10, 20));
    for layers in 1..200 {
        let least = (1..=layers).map(|segments| segment_memory(layers, segments)).min().unwrap();
        assert_eq!(segment_memory(layers, best_segments(layers)), least, "{layers} layers");
    }
    assert!(near(full_recomputation_slowdown(2.0), 4.0 / 3.0, 1e-12));
}

#[test]
fn slices_hide_all_but_the_ends() {
    assert_eq!(sliced(10.0, 6.0, 1), 16.0);
    assert_eq!(sliced(10.0, 6.0, 2), 5.0 + 5.0 + 3.0);
    assert!(near(sliced(10.0, 10.0, 1000), 10.0, 2e-3));
    assert_eq!(data_parallel_bounds(1.0, 2.0, 1.5), (3.0, 4.5));
    // Three buckets: the last exchange is seen.
    assert_eq!(bucketed(&[(1.0, 0.5), (1.0, 0.5), (1.0, 0.5)]), 3.5);
    assert_eq!(bucketed(&[(1.0, 2.0), (1.0, 2.0), (1.0, 2.0)]), 7.0);
}

#[test]
fn a_frozen_prefix_costs_its_forward_pass_or_nothing() {
    let layer = Layer { forward: 1.0, backward: 2.0, parameters: 10.0, activations: 5.0 };
    let layers = [layer; 4];
    assert_eq!(step(&layers, 0, false).seconds, 12.0);
    let frozen = step(&layers, 2, false);
    assert_eq!((frozen.seconds, frozen.active_parameters, frozen.activations), (8.0, 20.0, 10.0));
    assert_eq!(step(&layers, 2, true).seconds, 6.0);
    assert_eq!(step(&layers, 9, true).seconds, 0.0);
}

#[test]
fn state_on_the_host_costs_what_the_bus_shows() {
    let bus = Path { inward: 10e9, outward: 10e9 };
    // 1 B parameters: 0.2 s each way; the backward pass hides the gradients, not the weights.
    assert!(near(host_optimizer_step(0.1, 0.3, 1e9, bus, 1e9), 0.1 + 0.3 + 1.0 + 0.2, 1e-12));
    assert!(near(host_optimizer_step(0.1, 0.1, 1e9, bus, 1e9), 0.1 + 0.2 + 1.0 + 0.2, 1e-12));
    assert!(near(streamed_pass(10, 1e9, 0.2, bus), 0.1 + 9.0 * 0.2 + 0.2, 1e-12));
    assert!(near(streamed_pass(10, 4e9, 0.2, bus), 0.4 + 9.0 * 0.4 + 0.2, 1e-12));
    assert!(swap_hides(1e9, bus, 0.2) && !swap_hides(1e9, bus, 0.19));
}

#[test]
fn smaller_models() {
    assert!(near(pruned_operations(100.0, 0.5), 25.0, 1e-12));
    assert_eq!((tiled_channels(64, 0.6, 8), tiled_channels(64, 0.01, 8)), (40, 8));
    assert_eq!(distillation_step(3.0, 1.0, 2.0), 6.0);
    assert_eq!(decomposed_latency(&[1.0, 1.5, 0.5], 0.25), 1.75);
}

#[test]
fn stacked_recurrence_runs_in_diagonals() {
    assert_eq!((serial_depth(50, 4), wavefront_depth(50, 4), wavefront_depth(0, 4)), (200, 53, 0));
    // 8 h (i + h) of an LSTM, 6 of a GRU, 2 of a plain cell.
    assert_eq!([4, 3, 1].map(|gates| cell_operations(gates, 10, 20)), [8 * 20 * 30, 6 * 20 * 30, 2 * 20 * 30]);
}

#[test]
fn pipedream_stashes_a_version_for_each_batch_on_its_way() {
    assert_eq!([0, 1, 2, 3].map(|stage| stashed_versions(stage, 4)), [4, 3, 2, 1]);
    assert_eq!(DOUBLE_BUFFERED_VERSIONS, 2);
    assert_eq!(steady_rate(&[1.0, 2.0, 1.0], &[1, 1, 1]), 0.5);
    assert_eq!(steady_rate(&[1.0, 2.0, 1.0], &[1, 2, 1]), 1.0);
}
