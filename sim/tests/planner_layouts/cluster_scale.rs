//! The largest models of the acceptance list.

use cutplane_graph::Overrides;
use cutplane_sim::planner::layouts::{LayoutBudget, label, search, split_label};

use crate::setting::Setting;

fn show(model: &str, sequence: u64, cluster: &str, batch: u64) {
    let started = std::time::Instant::now();
    let setting = Setting::new(model, sequence, Overrides::default(), cluster, batch);
    println!("{model} on {cluster}: built in {:.2} s", started.elapsed().as_secs_f64());
    match search(&setting.problem(), &LayoutBudget::default()) {
        Ok(outcome) => {
            println!(
                "  gap {:.4} {:?} {:.2} s {:?}",
                outcome.gap(),
                outcome.stop,
                outcome.search_seconds,
                outcome.counts
            );
            for best in &outcome.best {
                println!(
                    "  {:.4} s  {}  [{:?}] mem {}",
                    best.seconds(),
                    label(&best.layout),
                    split_label(&best.layout),
                    best.footprint.device()
                );
                println!("       {:?}", best.estimate.breakdown);
            }
        }
        Err(error) => println!("  {error}"),
    }
}

#[test]
fn shows() {
    show("bert-large", 128, "dgx-a100:1", 256);
    show("gpt2-xl", 1024, "dgx-a100:1", 512);
    show("gpt2-xl", 1024, "dgx-a100:8", 512);
    show("gpt3-175b", 2048, "dgx-a100:128", 1536);
    show("llama-3.1-405b", 8192, "dgx-h100:2048", 2048);
}
