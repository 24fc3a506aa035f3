//! Jobs on a cluster: checkpoints, elasticity, migration, sharing, budgets.

use cutplane_sim::advanced::budget::{
    GptSizes, devices_for_deadline, dollars, megatron_operations, megatron_parameters, training_days,
    training_operations,
};
use cutplane_sim::advanced::checkpoint::{checkpoint_bytes, daly_interval, job_mtbf, lost_share, young_interval};
use cutplane_sim::advanced::elastic::{Replan, iteration, migration_seconds};
use cutplane_sim::advanced::multiplex::{
    Demand, best_pairs, packing_pays, packing_slowdown, tick_tock_peak, useful_share,
};

use crate::near;

#[test]
fn narayanan_trains_175_b_in_34_days_and_1_t_in_84() {
    // Section 5.1: 300 B tokens on 1,024 A100 at 140 TFLOP/s; 450 B tokens on 3,072 at 163.
    let days = training_days(training_operations(175e9, 300e9, true), 1024.0, 140e12);
    assert!(near(days, 34.0, 0.01), "{days}");
    let days = training_days(training_operations(1.008e12, 450e9, true), 3072.0, 163e12);
    assert!(near(days, 84.0, 0.01), "{days}");
    assert!(near(training_operations(1e9, 20e9, false), 1.2e20, 1e-12));
}

#[test]
fn megatrons_formulas_give_its_own_table() {
    // Table 1 of Narayanan et al. 2021: 1,008.0 B parameters; 160 layers, width 25,600, 3,072 devices at 163 TFLOP/s: 502
    // PFLOP/s.
    let sizes = GptSizes { layers: 128.0, hidden: 25_600.0, sequence: 2048.0, vocab: 51_200.0 };
    assert!(near(megatron_parameters(sizes), 1008.0e9, 1e-3));
    let operations = megatron_operations(sizes, 3072.0);
    let by_parameters = training_operations(megatron_parameters(sizes), 3072.0 * 2048.0, true);
    assert!(operations > by_parameters && near(operations, by_parameters, 0.02));
    assert!(near(163e12 * 3072.0, 502e15, 0.01));
}

#[test]
fn money_and_deadlines() {
    assert!(near(dollars(8.0, 7200.0, 4.0), 64.0, 1e-12));
    assert_eq!(devices_for_deadline(86_400e12, 1e12, 1.0), 1);
    assert_eq!(devices_for_deadline(86_401e12, 1e12, 1.0), 2);
}

#[test]
fn young_and_daly() {
    // C = 120 s, M = 6 h: sqrt(2 * 120 * 21,600) = 2,277 s.
    let young = young_interval(120.0, 21_600.0);
    assert!(near(young, 2276.8, 1e-4), "{young}");
    let daly = daly_interval(120.0, 21_600.0);
    assert!(near(daly, 2276.8 * (1.0 + 0.0527 / 3.0 + 0.002_778 / 9.0) - 120.0, 1e-3), "{daly}");
    // Neither side of Young's interval loses less.
    let lost = |interval| lost_share(interval, 120.0, 60.0, 21_600.0);
    assert!(lost(young) < lost(0.9 * young) && lost(young) < lost(1.1 * young));
    assert_eq!(daly_interval(100.0, 40.0), 40.0);
    assert_eq!(job_mtbf(3.6e6, 1000), 3600.0);
    assert_eq!(checkpoint_bytes(1e12), 14e12);
}

#[test]
fn half_the_workers_compute_twice_as_long_and_take_a_third_of_the_ring_steps() {
    // Book chapter 11: 4 batches an iteration on 4 workers, then on 2: 6 ring steps become 2.
    assert_eq!(iteration(4, 4, 1.0, 0.0), 1.0);
    assert_eq!(iteration(4, 2, 1.0, 0.0), 2.0);
    assert_eq!((iteration(4, 4, 0.0, 1.0), iteration(4, 2, 0.0, 1.0)), (6.0, 2.0));
}

#[test]
fn a_change_of_plan_must_earn_what_it_costs() {
    let change = Replan { save: 10.0, restart: 30.0, parameters: 1e9, bandwidth: 1.6e9, warm_up: 10.0 };
    assert!(near(change.seconds(), 60.0, 1e-12));
    assert!(change.pays(1000.0, 900.0) && !change.pays(1000.0, 950.0));
    assert!(near(migration_seconds(16e9, 16e9, 8e9, 16e9, 1.0), 5.0, 1e-12));
}

#[test]
fn slices_of_a_minute_hide_the_copies_of_state() {
    // Gandiva: 60 s a slice; 10 GB out and in over 10 GB/s cost 3 %.
    assert!(near(useful_share(60.0, 20e9, 10e9), 60.0 / 62.0, 1e-12));
    // Two language models that need 59.5 % of a device each slow down by 19 % each.
    let job = Demand { compute: 0.595, bandwidth: 0.3, memory: 0.4 };
    let slowdown = packing_slowdown(&[job, job]).unwrap();
    assert!(near(slowdown, 1.19, 1e-9) && packing_pays(slowdown));
    assert_eq!(packing_slowdown(&[job, job, job]), None);
}

#[test]
fn pairs_complement_one_another() {
    let computing = Demand { compute: 0.9, bandwidth: 0.1, memory: 0.4 };
    let moving = Demand { compute: 0.1, bandwidth: 0.9, memory: 0.4 };
    let (sum, mut pairs) = best_pairs(&[computing, computing, moving, moving]);
    pairs.sort_unstable();
    assert_eq!(sum, 2.0);
    assert!(pairs.iter().all(|(one, other)| *one < 2 && other.is_some_and(|other| other >= 2)), "{pairs:?}");
    let large = Demand { memory: 0.7, ..computing };
    assert_eq!(best_pairs(&[large, large]).1.iter().filter(|(_, other)| other.is_none()).count(), 2);
}

#[test]
fn two_waves_half_a_step_apart_share_one_set_of_activations() {
    assert_eq!(tick_tock_peak(2.0, 8.0, false), 20.0);
    assert_eq!(tick_tock_peak(2.0, 8.0, true), 12.0);
}
