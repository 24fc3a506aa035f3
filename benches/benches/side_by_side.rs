//! The runtime beside a bare Burn loop, and parallel plans beside the single rank: one step of each in turn, so that all
//! see the same machine. Prints medians and ratios with their spread; a ratio is taken within a round.
//!
//! `cargo bench -p cutplane-benches --profile dev --bench side_by_side [-- ROUNDS]`

use std::time::Instant;

use cutplane_benches::bare::{BareLoop, Sizes};
use cutplane_benches::plans::Setting;
use cutplane_graph::Overrides;
use cutplane_record::Summary;
use cutplane_runtime::allocator;
use cutplane_runtime::backend::run_pinned;

#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::NEW;

const PLANS: [&str; 4] = ["single", "dp2", "pp2-1f1b-m8", "pp2-fill-drain-m8"];
const BATCH: usize = 32;
const SIZES: Sizes = Sizes { layers: 8, hidden: 384, heads: 6, vocab: 256, sequence: 128 };

fn main() {
    allocator::keep_freed_memory();
    let rounds: usize = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(8);
    let setting = Setting::new("gpt-mini", Overrides::default(), "cpu:2", SIZES.sequence as u64, BATCH as u64);
    let mut runs: Vec<_> = PLANS.iter().map(|name| setting.start(name)).collect();
    // The bare loop runs in its own thread, pinned like a rank.
    let (order, orders) = std::sync::mpsc::channel::<()>();
    let (answer, answers) = std::sync::mpsc::channel::<f64>();
    let bare = std::thread::spawn(move || {
        run_pinned(0, move || {
            let mut bare = BareLoop::new(SIZES);
            let tokens: Vec<i32> = (0..(BATCH * SIZES.sequence) as i32).map(|i| (i * 31 + i / 7) % 256).collect();
            while orders.recv().is_ok() {
                let start = Instant::now();
                bare.step(tokens.clone(), tokens.clone(), BATCH);
                answer.send(start.elapsed().as_secs_f64() * 1e9).expect("main listens");
            }
        })
        .expect("the thread starts");
    });
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); PLANS.len() + 1];
    for round in 0..=rounds {
        let mut row = Vec::new();
        order.send(()).expect("the loop listens");
        row.push(answers.recv().expect("the loop answers"));
        for run in &mut runs {
            row.push(run.step().expect("a step").step_time.as_f64());
        }
        // The first round warms up.
        if round > 0 {
            times.iter_mut().zip(row).for_each(|(column, time)| column.push(time));
        }
    }
    drop(order);
    bare.join().expect("the loop ends");
    let single = times[1].clone();
    for (index, name) in std::iter::once("bare Burn loop").chain(PLANS).enumerate() {
        let summary = Summary::of(&times[index]).expect("rounds");
        let ratios: Vec<f64> = single.iter().zip(&times[index]).map(|(single, time)| single / time).collect();
        let ratio = Summary::of(&ratios).expect("rounds");
        println!(
            "{name:<20} {:>8.1} ms (mad {:.1})   single / this: {:.3} ({:.3} .. {:.3})",
            summary.median_ns / 1e6,
            summary.mad_ns / 1e6,
            ratio.median_ns,
            ratio.min_ns,
            ratio.max_ns
        );
    }
}
