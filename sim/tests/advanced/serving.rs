//! Serving, small devices, federated rounds.

use cutplane_graph::{ModelSource, Overrides};
use cutplane_sim::advanced::edge::{joules, peak_live_bytes, requests_of_battery};
use cutplane_sim::advanced::federated::{Client, average, round};
use cutplane_sim::advanced::serving::{
    BatchTime, decode_step, key_value_bytes, mean_wait, mean_wait_constant, pipeline_latency, pipeline_throughput,
    prefill, serverless_latency, servers_for, waiting_probability,
};

use crate::near;

#[test]
fn a_token_of_three_llamas_caches_what_their_shapes_say() {
    assert_eq!(key_value_bytes(32, 32, 128, 2), 524_288);
    assert_eq!(key_value_bytes(32, 8, 128, 2), 131_072);
    assert_eq!(key_value_bytes(80, 8, 128, 2), 327_680);
}

#[test]
fn decoding_streams_weights_and_prefilling_computes() {
    // Llama-2-7B in 16 bits on 2,039 GB/s: 6.6 ms without a cache; 1,024 tokens of cache add 0.54 GB.
    assert!(near(decode_step(2.0 * 6.738e9, 0.0, 2039e9), 6.609e-3, 1e-3));
    let cached = decode_step(2.0 * 6.738e9, 1024.0 * 524_288.0, 2039e9);
    assert!(near(cached, 6.872e-3, 1e-3), "{cached}");
    assert!(near(prefill(7e9, 1000.0, 140e12), 0.1, 1e-12));
}

#[test]
fn batches_trade_latency_for_throughput() {
    let time = BatchTime { fixed: 0.010, each: 0.002 };
    assert!(near(time.seconds(5), 0.020, 1e-12));
    assert!(near(time.throughput(5, 1), 250.0, 1e-12));
    assert!(near(time.throughput(5, 4), 1000.0, 1e-12));
    assert_eq!(time.largest_batch(0.0201), Some(5));
    assert_eq!(time.largest_batch(0.011), None);
    // Four more arrive within 8 ms at 500 a second; under a timeout of 2 ms only one does.
    assert!(near(time.deadline_latency(5, 1.0, 500.0), 0.008 + 0.020, 1e-12));
    assert!(near(time.deadline_latency(5, 0.002, 500.0), 0.002 + 0.014, 1e-12));
}

#[test]
fn queues_by_the_textbook() {
    // M/D/1 at half load waits half a service time; M/M/1 a whole one.
    assert!(near(mean_wait_constant(0.5, 1.0), 0.5, 1e-12));
    assert!(near(mean_wait(1, 0.5, 1.0), 1.0, 1e-12));
    // Erlang C of two servers at an offered load of one: one third.
    assert!(near(waiting_probability(2, 1.0), 1.0 / 3.0, 1e-12));
    assert!(near(mean_wait(2, 1.0, 1.0), 1.0 / 3.0, 1e-12));
    assert_eq!(mean_wait_constant(1.0, 1.0), f64::INFINITY);
    assert_eq!((mean_wait(3, 3.0, 1.0), waiting_probability(3, 3.0)), (f64::INFINITY, 1.0));
    assert_eq!(servers_for(10.0, 0.5, 0.1, 20), Some(7));
    assert_eq!(servers_for(10.0, 0.5, 0.1, 5), None);
    assert!(near(serverless_latency(0.1, 2.0, 0.05), 0.2, 1e-12));
}

#[test]
fn a_pipeline_adds_latency_and_keeps_the_slowest_pace() {
    let stages = [0.010, 0.020, 0.010];
    assert!(near(pipeline_latency(&stages), 0.040, 1e-12));
    assert!(near(pipeline_throughput(&stages), 50.0, 1e-12));
}

fn phone(upload: f64, samples: u64) -> Client {
    Client { download: 10e6, upload, samples, seconds_per_sample: 0.01 }
}

#[test]
fn a_federated_round_waits_for_the_slowest_or_the_deadline() {
    // 10 MB: 1 s down, 5 epochs of 100 samples 5 s, up 10 s or 2 s.
    let clients = [phone(1e6, 100), phone(5e6, 100)];
    assert!(near(clients[0].seconds(10e6, 5), 16.0, 1e-12));
    let all = round(&clients, 10e6, 5, 0.5, None);
    assert_eq!((all.finished, all.samples), (2, 200));
    assert!(near(all.seconds, 16.5, 1e-12));
    let cut = round(&clients, 10e6, 5, 0.5, Some(10.0));
    assert_eq!((cut.finished, cut.samples), (1, 100));
    assert!(near(cut.seconds, 10.5, 1e-12));
    assert!(near(round(&clients[1..], 10e6, 5, 0.5, Some(10.0)).seconds, 8.5, 1e-12));
}

#[test]
fn federated_averaging_weighs_by_samples() {
    assert_eq!(average(&[(100, vec![1.0, 0.0]), (300, vec![5.0, 4.0])]), [4.0, 3.0]);
    assert!(average(&[]).is_empty());
}

#[test]
fn an_arena_holds_the_widest_moment_of_a_network() {
    let name = "mnist".to_owned();
    let source = ModelSource::BuiltIn { name, overrides: Overrides::default(), sequence_length: 1 };
    let graph = cutplane_zoo::build(&source).unwrap();
    let peak = peak_live_bytes(&graph, 1, 4);
    // Input and output of the widest operator: 64 channels of 24 x 24 written from as many or from 32 of 26 x 26.
    assert!((4 * 64 * 24 * 24..=4 * 4 * 64 * 24 * 24).contains(&peak), "{peak}");
    assert_eq!(peak_live_bytes(&graph, 1, 1) * 4, peak);
    let everything: u64 = graph.values().iter().map(|value| value.ty.elements(1) * 4).sum();
    assert!(peak < everything);
    // 12 million multiply-adds at 1 pJ and 5 MB at 100 pJ.
    let request = joules(12e6, 5e6, 1e-12, 100e-12);
    assert!(near(request, 5.12e-4, 1e-9));
    assert!(near(requests_of_battery(1.0, request), 7.03e6, 1e-3));
}
