//! What to expect of a source that nobody fitted anything to: every source that gave rows to a fit is predicted with what is
//! left when its rows are taken away, and compared with its usual score. Prints a Markdown table.
//!
//! `leave_sources_out PRIORS.toml FILE.csv ...`, with the priors of the graph step model.
//!
//! - Kernels: the priors of the device's family.
//! - Stacks of language models: traits that are facts of the code stay; every fitted time and factor takes what is assumed of
//!   the nearest stack that nothing was fitted to (Megatron-LM's of 2021, Megatron-Core's, else PyTorch's).
//! - Networks of unlike operators: all numbers are fitted again without the source.
//! - Inference: the constants of an engine that nobody knows.

use std::path::Path;

use cutplane_score::{
    DeviceFit, Grades, MeasuredRow, Profile, fit_graph_steps, read_rows, score_rows, summarise, was_fitted,
};
use cutplane_sim::estimate::{Stack, known_stacks};
use cutplane_sim::graph_step::GraphCalibration;
use cutplane_sim::kernel::{calibrations, prior_of};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [priors, files @ ..] = arguments.as_slice() else {
        return Err("usage: leave_sources_out PRIORS.toml FILE.csv ...".into());
    };
    let start = GraphCalibration::from_toml(&std::fs::read_to_string(priors)?)?;
    let mut rows = Vec::new();
    for file in files {
        rows.extend(read_rows(Path::new(file))?.rows);
    }
    println!("| source | rows | median | left out | mean | left out |\n|---|---:|---:|---:|---:|---:|");
    let sources = ["vidur_layer_profiles", "deepbench_gemm_conv_rnn"];
    report(&rows, &sources, &|mine| score(mine, &unfitted_kernels()));
    let sources = [
        "vtrain_single_node_a100",
        "vtrain_multi_node_a100",
        "llm_foundry_mpt",
        "internevo_7b_a100",
        "amp_t4_3d",
        "megatron_ci_golden_tiny",
    ];
    report(&rows, &sources, &|mine| score(mine, &unfitted_stacks()));
    report(&rows, &["fastertransformer", "lmdeploy_a100"], &|mine| {
        let unknown = mine.into_iter().map(|mut row| {
            "an engine that nobody knows".clone_into(&mut row.row.framework);
            row
        });
        score(unknown.collect(), &Profile::default())
    });
    let sources = [
        "tensorflow_official_2017",
        "u39kun_cnn_bench",
        "cnn_benchmarks_jcjohnson",
        "lambda_labs_pytorch",
        "torchgpipe_p40",
        "nvidia_deeplearningexamples",
    ];
    for source in sources {
        graph_source(&rows, source, &start);
    }
    Ok(())
}

fn unfitted_kernels() -> Profile {
    let device = calibrations().iter().filter(|known| !known.models.is_empty()).map(|known| {
        let mut calibration = known.as_ref().clone();
        calibration.parameters = prior_of(Some(known.architecture));
        DeviceFit { rows_fitted: 0, left_out_median_error: 0.0, held_out_median_error: None, calibration }
    });
    Profile { device: device.collect(), ..Profile::default() }
}

fn unfitted_stacks() -> Profile {
    let stack = known_stacks().iter().map(|known| Stack {
        name: known.name.clone(),
        family: known.family,
        traits: known.traits.clone(),
        softmax_passes: known.softmax_passes,
        relative_passes: known.relative_passes,
        flash: known.flash,
        nccl_minor: known.nccl_minor,
        gradient_bytes: known.gradient_bytes,
        tensor_overlap: known.tensor_overlap,
        pipelined_overlap: known.pipelined_overlap,
        ..relative(&known.name)
    });
    Profile { stack: stack.collect(), ..Profile::default() }
}

/// The nearest stack whose numbers are assumed.
fn relative(name: &str) -> Stack {
    let assumed = match name {
        "megatron-core-ci" => Stack::named("megatron-core", None),
        "megatron-deepspeed" => Stack::named("megatron-lm-2021", None),
        _ => None,
    };
    assumed.cloned().unwrap_or_default()
}

/// Median and mean error of the pooled grade.
fn score(rows: Vec<MeasuredRow>, profile: &Profile) -> Option<[f64; 2]> {
    let summary = summarise(&score_rows(rows, profile), Grades::A);
    let statistics = &summary.first()?.statistics;
    Some([statistics.median_error?, statistics.mean_error?])
}

fn report(rows: &[MeasuredRow], sources: &[&str], left_out: &dyn Fn(Vec<MeasuredRow>) -> Option<[f64; 2]>) {
    for source in sources {
        let mine: Vec<MeasuredRow> = rows.iter().filter(|row| row.row.source == *source).cloned().collect();
        let count = mine.iter().filter(|row| !was_fitted(row)).count();
        if let (Some(usual), Some(without)) = (score(mine.clone(), &Profile::default()), left_out(mine)) {
            line(source, count, usual, without);
        }
    }
}

/// Fits everything again without the source and predicts its rows that a fit never uses.
fn graph_source(rows: &[MeasuredRow], source: &str, start: &GraphCalibration) {
    let errors = |fit_with: &[MeasuredRow]| {
        let fit = fit_graph_steps(fit_with, start);
        let own = fit.rows.iter().filter(|row| {
            let measured = &fit_with[row.index];
            measured.row.citation.starts_with(LEFT_OUT) || (measured.row.source == source && !was_fitted(measured))
        });
        let mut errors: Vec<f64> = own.map(|row| (row.predicted / row.measured - 1.0).abs()).collect();
        errors.sort_by(f64::total_cmp);
        errors
    };
    let usual = errors(rows);
    // Under another name no row of the source is drawn; those that usually are do not count here either.
    let renamed: Vec<MeasuredRow> = rows
        .iter()
        .filter(|row| row.row.source != source || !was_fitted(row))
        .cloned()
        .map(|mut row| {
            if row.row.source == source {
                row.row.source = format!("{source}, left out");
                row.row.citation = format!("{LEFT_OUT}{}", row.row.citation);
            }
            row
        })
        .collect();
    let without = errors(&renamed);
    if let (Some(usual_figures), Some(left_out)) = (figures(&usual), figures(&without)) {
        line(source, without.len(), usual_figures, left_out);
    }
}

const LEFT_OUT: &str = "left out: ";

fn figures(sorted: &[f64]) -> Option<[f64; 2]> {
    let middle = sorted.get(sorted.len() / 2)?;
    Some([*middle, sorted.iter().sum::<f64>() / sorted.len() as f64])
}

fn line(source: &str, rows: usize, usual: [f64; 2], without: [f64; 2]) {
    let percent = |share: f64| format!("{:.1}%", 100.0 * share);
    let [median, mean] = usual.map(percent);
    let [median_without, mean_without] = without.map(percent);
    println!("| {source} | {rows} | {median} | {median_without} | {mean} | {mean_without} |");
}
