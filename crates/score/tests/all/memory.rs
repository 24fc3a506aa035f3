//! The footprint model on published memory figures.

use std::path::PathBuf;

use cutplane_score::{Grade, Outcome, Profile, ScoredRow, read_rows, rows_of, score_rows, was_fitted};

/// Rows of a file beside the workspace, predicted; none, with a line that says so, where it is absent.
fn scored(name: &str) -> Vec<ScoredRow> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/measured").join(name);
    if !path.exists() {
        println!("skipped: ../shared/measured/{name} is not here");
        return Vec::new();
    }
    score_rows(read_rows(&path).unwrap().rows, &Profile::default())
}

/// Holds the memory of a file's rows that were not fitted to a median and a 90th percentile of |predicted - measured| /
/// measured, and to a share of wrong calls on whether a step fits, 5% and more from the capacity.
fn hold(name: &str, median: f64, tail: f64, wrong: f64) {
    let rows = scored(name);
    let held_out = |row: &&ScoredRow| !was_fitted(&row.measured) && row.measured.row.grade != Grade::C;
    let pairs = rows.iter().filter(held_out).filter_map(ScoredRow::memory_pair);
    let mut errors: Vec<f64> = pairs.map(|(predicted, measured)| (predicted / measured - 1.0).abs()).collect();
    errors.sort_by(f64::total_cmp);
    if !errors.is_empty() {
        let at = |share: f64| errors[((errors.len() - 1) as f64 * share) as usize];
        println!("{name}: {} rows, median {:.2} %, p90 {:.2} %", errors.len(), 100.0 * at(0.5), 100.0 * at(0.9));
        assert!(at(0.5) <= median, "{name}: median {}", at(0.5));
        assert!(at(0.9) <= tail, "{name}: 90th percentile {}", at(0.9));
    }
    let calls: Vec<&ScoredRow> = rows.iter().filter(|row| row.fits_pair().is_some()).collect();
    let false_call = |row: &&&ScoredRow| {
        let prediction = row.outcome.prediction().unwrap();
        let ratio = prediction.memory_gib.unwrap() / prediction.capacity_gib.unwrap();
        row.fits_pair().is_some_and(|(predicted, measured)| predicted != measured) && (ratio - 1.0).abs() > 0.05
    };
    let found = calls.iter().filter(false_call).count();
    println!("{name}: {} calls on whether a step fits, {found} wrong beyond the margin", calls.len());
    assert!(found as f64 <= wrong * calls.len() as f64, "{name}: {found} wrong of {}", calls.len());
}

#[test]
fn megatron_ci_is_within_two_per_cent_and_never_called_wrong() {
    hold("megatron_ci_golden.csv", 0.02, 0.06, 0.0);
    hold("megatron_ci_golden_tiny.csv", 0.02, 0.07, 0.0);
    hold("amp_t4_3d.csv", 1.0, 1.0, 0.0);
}

#[test]
fn figures_of_other_sources() {
    hold("korthikanti2022_seqsel_a100.csv", 0.005, 0.1, 0.0);
    hold("internevo_7b_a100.csv", 0.08, 0.15, 0.0);
    hold("torchgpipe_p40.csv", 0.01, 0.02, 0.0);
}

#[test]
fn steps_that_were_timed_are_called_to_fit() {
    for name in [
        "vtrain_multi_node_a100.csv",
        "megatron_sc21_a100.csv",
        "megatron_sc21_zero3_comparison.csv",
        "llm_foundry_mpt.csv",
        "nemo_docs_h100_2024.csv",
        "nemo_megatron_bridge.csv",
        "megatron_moe_modelzoo.csv",
        "tensorflow_official_2017.csv",
        "cnn_benchmarks_jcjohnson.csv",
    ] {
        hold(name, 1.0, 1.0, 0.0);
    }
}

#[test]
fn absurd_rows_are_skipped_by_name() {
    let head = "source,model,layers,hidden,heads,vocab,seq_len,micro_batch,global_batch,hardware,gpus,dp,tp,pp,vpp,ep,\
                framework,metric_name,metric_value,metric_unit,memory_gb,notes,workload,grade";
    let huge = "4000000000000000";
    let rows = [
        format!(
            "s,gpt,{huge},{huge},{huge},{huge},{huge},1,1,A100,1,1,1,1,1,1,Megatron-Core,peak memory,1,GB,1,,training,A"
        ),
        format!("s,gpt,4,64,4,100,32,1,8,A100,8,1,1,8,{huge},1,Megatron-Core,peak memory,1,GB,1,,training,A"),
        format!(
            "s,gpt,4,64,4,100,32,1,8,A100,8,8,1,1,1,{huge},Megatron-Core,peak memory,1,GB,1,MoE experts=8 topk={huge},training,A"
        ),
        "s,gpt,0,0,0,0,0,1,8,A100,8,8,1,1,1,1,Megatron-Core,peak memory,1,GB,1,,training,A".to_owned(),
        "s,gpt,4,64,4,100,32,,8,A100,1,1,1,1,1,1,Megatron-Core,peak memory,1,GB,1,release run,training,A".to_owned(),
    ];
    let text = format!("{head}\n{}\n", rows.join("\n"));
    let read = rows_of(&PathBuf::from("absurd.csv"), text.as_bytes()).unwrap();
    for row in score_rows(read.rows, &Profile::default()) {
        match &row.outcome {
            Outcome::Skipped(skip) => println!("line {}: {skip}", row.measured.row.line),
            other => panic!("line {}: {}", row.measured.row.line, other.name()),
        }
    }
}
