//! Values that can be computed by hand or that the literature prints.

use cutplane_sim::network::closed_form::{
    NCCL_2_12_RINGS, NCCL_2_12_TREES, chain_broadcast, double_tree_all_reduce, halving_doubling,
    hierarchical_all_reduce, parameter_server, parameter_server_traffic, recursive_doubling, ring_all_reduce,
    ring_half,
};
use cutplane_sim::network::topology::{Channel, split_over_channels};
use cutplane_sim::network::traffic::{
    TensorParallelTraffic, ZeroPlusPlus, contraction_all_reduces, quantised_bytes, tensor_parallel,
    zero_plus_plus_volumes,
};

use crate::near;

#[test]
fn a_ring_of_eight_moves_100_mb_in_1_388_ms() {
    let seconds = ring_all_reduce(8, 100e6, 3e-6, 130e9);
    assert!(near(seconds, 1.388e-3, 5e-4), "{seconds}");
}

#[test]
fn eight_workers_and_one_server_on_10_gbe_take_1_28_s() {
    let card = 10e9 / 8.0;
    assert!(near(parameter_server(8, 1, 100e6, 0.0, card, card), 1.28, 1e-12));
    // Sharded over as many servers as workers, the workers' cards bind.
    assert!(near(parameter_server(8, 8, 100e6, 0.0, card, card), 2.0 * 100e6 / card, 1e-12));
}

#[test]
fn colocated_servers_move_what_a_ring_moves() {
    for nodes in [2, 4, 16] {
        let traffic = parameter_server_traffic(nodes, 1, nodes, true, 1e9);
        let share = (nodes - 1) as f64 / nodes as f64;
        assert!(near(traffic.worker, share * 1e9, 1e-12), "{traffic:?}");
        assert!(near(traffic.server, share * 1e9, 1e-12), "{traffic:?}");
    }
}

#[test]
fn two_workers_take_two_ring_steps_and_four_take_six() {
    let steps = |ranks| ring_all_reduce(ranks, 0.0, 1.0, 1.0);
    assert_eq!((steps(4), steps(2), steps(1)), (6.0, 2.0, 0.0));
}

#[test]
fn textbook_forms_hold_on_eight_ranks() {
    let (alpha, bandwidth, bytes) = (1e-6, 1e9, 1e6);
    assert!(near(ring_half(8, bytes, alpha, bandwidth), 7e-6 + 7.0 / 8.0 * 1e-3, 1e-12));
    assert!(near(chain_broadcast(8, bytes, alpha, bandwidth), 7e-6 + 1e-3, 1e-12));
    assert!(near(double_tree_all_reduce(8, bytes, alpha, bandwidth), 6e-6 + 2e-3, 1e-12));
    assert!(near(recursive_doubling(8, bytes, alpha, bandwidth), 3e-6 + 3e-3, 1e-12));
    assert!(near(halving_doubling(8, bytes, alpha, bandwidth), 6e-6 + 7.0 / 4.0 * 1e-3, 1e-12));
}

#[test]
fn a_hierarchy_sends_an_eighth_between_nodes() {
    let seconds = hierarchical_all_reduce(8, 4, 8e9, 0.0, 300e9, 25e9);
    let (inside, across) = (2.0 * 7.0 / 8.0 * 8e9 / 300e9, 2.0 * 3.0 / 4.0 * 1e9 / 25e9);
    assert!(near(seconds, inside + across, 1e-12));
}

#[test]
fn a_transformer_layer_all_reduces_four_times() {
    let traffic = tensor_parallel(2, 2048, 4096, 2);
    assert_eq!(traffic, TensorParallelTraffic { all_reduces: 4, bytes: 2 * 2 * 2048 * 4096 });
}

#[test]
fn zero_plus_plus_moves_three_quarters_of_one_copy() {
    assert_eq!(zero_plus_plus_volumes(ZeroPlusPlus::default()), [1.0, 1.0, 1.0]);
    let all = ZeroPlusPlus { quantised_weights: true, node_partition: true, quantised_gradients: true };
    assert_eq!(zero_plus_plus_volumes(all), [0.5, 0.0, 0.25]);
    assert_eq!(zero_plus_plus_volumes(all).iter().sum::<f64>(), 0.75);
    // Scales add 32 / block bits a value.
    assert_eq!(quantised_bytes(1e6, 8.0, 256.0) * 8.0, 1e6 * (8.0 + 0.125));
}

/// The book's mesh of 2 x 2: the batch over rows, the hidden dimension over columns.
#[test]
fn a_split_dimension_that_is_summed_needs_an_all_reduce() {
    let layout = [("batch", "rows"), ("hidden", "columns")];
    let product = |inputs: &[&[&str]], output: &[&str]| contraction_all_reduces(inputs, output, &layout).unwrap();
    // x w -> y keeps both; y v -> z sums hidden; the gradient of w sums the batch.
    assert!(product(&[&["batch", "io"], &["io", "hidden"]], &["batch", "hidden"]).is_empty());
    assert_eq!(product(&[&["batch", "hidden"], &["hidden", "io"]], &["batch", "io"]), ["columns"]);
    assert_eq!(product(&[&["batch", "io"], &["batch", "hidden"]], &["io", "hidden"]), ["rows"]);
}

#[test]
fn two_dimensions_of_a_tensor_never_share_a_mesh_axis() {
    let layout = [("batch", "rows"), ("hidden", "rows")];
    let refused = contraction_all_reduces(&[&["batch", "hidden"]], &["batch", "hidden"], &layout).unwrap_err();
    assert!(refused.to_string().contains("'batch' and 'hidden' are both split over mesh axis 'rows'"));
}

#[test]
fn a_hybrid_split_ends_on_both_channels_at_once() {
    let nvlink = Channel { bandwidth: 40e9, latency: 0.0 };
    let pcie = Channel { bandwidth: 10e9, latency: 1e-3 };
    let split = split_over_channels(1e9, &[nvlink, pcie]);
    assert!(near(split.seconds, (1e9 + 10e9 * 1e-3) / 50e9, 1e-12));
    assert!(near(split.bytes.iter().sum(), 1e9, 1e-12));
    assert!(near(split.bytes[0] / nvlink.bandwidth, split.bytes[1] / pcie.bandwidth + pcie.latency, 1e-12));
    // A message that is through before the slow channel is up leaves it out.
    assert_eq!(split_over_channels(1e6, &[pcie, nvlink]).bytes, [0.0, 1e6]);
}

#[test]
fn nccl_2_12_starts_and_hops() {
    let [ll, ll128, simple] = NCCL_2_12_TREES;
    // 4 nodes of 8: base + 2 (7 inside + log2(4) between).
    assert!(near(ll.tree_all_reduce(4, 8, 0.0, 1.0), (4.4 + 2.0 * (7.0 * 0.52 + 2.0 * 5.0)) * 1e-6, 1e-12));
    assert!(near(ll128.tree_all_reduce(4, 8, 0.0, 1.0), (4.4 + 2.0 * (7.0 * 1.25 + 2.0 * 8.5)) * 1e-6, 1e-12));
    // A tree sends the buffer up and down, at 0.92 of the bandwidth.
    let large = simple.tree_all_reduce(4, 8, 1e9, 10e9) - simple.tree_all_reduce(4, 8, 0.0, 10e9);
    assert!(near(large, 2.0 * 0.1 / 0.92, 1e-12));
    let [ring, ..] = NCCL_2_12_RINGS;
    assert!(near(ring.ring_all_reduce(1, 8, 0.0, 1.0), (3.6 + 14.0 * 0.47) * 1e-6, 1e-12));
    assert!(near(ring.ring_all_reduce(4, 8, 0.0, 1.0), (3.6 + 54.0 * 0.47 + 8.0 * 2.7) * 1e-6, 1e-12));
    // Small messages over many nodes take the tree, large ones the ring.
    let wins = |bytes| ll.tree_all_reduce(64, 8, bytes, 10e9) < ring.ring_all_reduce(64, 8, bytes, 10e9);
    assert!(wins(1e3) && !wins(1e9));
}

#[test]
fn zero_moves_two_or_three_copies_of_the_weights() {
    // Stages 0 to 2: reduce-scatter and all-gather, 2 P; stage 3 gathers in the backward pass again, 3 P.
    let unsharded = zero_plus_plus_volumes(ZeroPlusPlus::default());
    assert_eq!(unsharded.iter().sum::<f64>(), 3.0);
    assert!(near(2.0 * ring_half(64, 1e9, 0.0, 1e9), 2.0 * 63.0 / 64.0, 1e-12));
}
