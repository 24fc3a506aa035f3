//! Convolutional and recurrent networks: the graph step model on published training rows that it was not fitted to, and
//! how rows of such networks are read.

use std::path::PathBuf;

use cutplane_score::{Grade, MeasuredRow, Profile, Row, fit_graph_steps, predict, read_rows, score_rows, was_fitted};
use cutplane_sim::graph_step::GraphCalibration;

/// Rows of a file beside the workspace; none, with a line that says so, where it is absent.
fn rows(name: &str) -> Vec<MeasuredRow> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/measured").join(name);
    if !path.exists() {
        println!("skipped: ../shared/measured/{name} is not here");
        return Vec::new();
    }
    read_rows(&path).unwrap().rows
}

/// Median of |predicted - measured| / measured over the held-out times and throughputs that `keep` takes.
fn hold(name: &str, most: f64, keep: impl Fn(&Row) -> bool) {
    let rows: Vec<MeasuredRow> =
        rows(name).into_iter().filter(|row| row.row.grade != Grade::C && keep(&row.row) && !was_fitted(row)).collect();
    if rows.is_empty() {
        return;
    }
    let mut errors: Vec<f64> = score_rows(rows, &Profile::default())
        .iter()
        .filter_map(cutplane_score::ScoredRow::relative_error)
        .map(f64::abs)
        .collect();
    errors.sort_by(f64::total_cmp);
    let median = errors[errors.len() / 2];
    println!("{name}: {} rows, median {:.1} %", errors.len(), 100.0 * median);
    assert!(median <= most, "{name}: median {median}");
}

#[test]
fn tensorflow_scaling_is_within_twelve_per_cent() {
    hold("tensorflow_official_2017.csv", 0.12, |_| true);
}

#[test]
fn residual_networks_and_translation_of_the_examples_are_within_ten_per_cent() {
    hold("nvidia_deeplearningexamples.csv", 0.10, |row| row.model.contains("ResNet-50") || row.model == "GNMT");
}

#[test]
fn other_networks_are_as_near_as_the_model_claims() {
    hold("u39kun_cnn_bench.csv", 0.15, |_| true);
    hold("cnn_benchmarks_jcjohnson.csv", 0.15, |_| true);
    hold("lambda_labs_pytorch.csv", 0.15, |row| row.model.contains("ResNet-50"));
    hold("torchgpipe_p40.csv", 0.10, |row| row.metric_name.contains("throughput"));
}

#[test]
fn at_most_a_tenth_of_a_source_was_fitted() {
    for name in ["tensorflow_official_2017", "u39kun_cnn_bench", "cnn_benchmarks_jcjohnson", "torchgpipe_p40"] {
        let rows = rows(&format!("{name}.csv"));
        let fitted = rows.iter().filter(|row| was_fitted(row)).count();
        assert!(fitted * 10 <= rows.len(), "{name}: {fitted} of {}", rows.len());
    }
}

/// A file of one row: columns and cells.
fn row(cells: &[(&str, &str)]) -> Row {
    let header: Vec<&str> = cells.iter().map(|(column, _)| *column).collect();
    let values: Vec<String> = cells.iter().map(|(_, value)| format!("\"{value}\"")).collect();
    let text = format!("{}\n{}\n", header.join(","), values.join(","));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("row.csv");
    std::fs::write(&path, text).unwrap();
    read_rows(&path).unwrap().rows.remove(0).row
}

const RESNET: [(&str, &str); 13] = [
    ("source", "a-test"),
    ("workload", "training"),
    ("model", "ResNet-50 v1.5"),
    ("hardware", "V100-SXM2-16GB (DGX-1)"),
    ("gpus", "1"),
    ("gpus_per_node", "8"),
    ("micro_batch", "128"),
    ("global_batch", "128"),
    ("precision", "FP32"),
    ("framework", "PyTorch"),
    ("metric_name", "training throughput"),
    ("metric_unit", "images/s"),
    ("metric_value", "1"),
];

/// The row above with other cells.
fn with(changes: &[(&'static str, &'static str)]) -> Row {
    let mut cells = RESNET.to_vec();
    for (column, value) in changes {
        match cells.iter_mut().find(|(name, _)| name == column) {
            Some(cell) => cell.1 = value,
            None => cells.push((column, value)),
        }
    }
    row(&cells)
}

fn predicted(changes: &[(&'static str, &'static str)]) -> f64 {
    predict(&with(changes)).unwrap_or_else(|skip| panic!("{skip}")).predicted.unwrap()
}

#[test]
fn throughput_follows_devices_precision_and_batch() {
    let base = predicted(&[]);
    assert!(predicted(&[("precision", "mixed (FP16 AMP)")]) > 1.5 * base);
    assert!(predicted(&[("micro_batch", "2"), ("global_batch", "2")]) < base);
    let eight = predicted(&[("gpus", "8"), ("global_batch", "1024")]);
    assert!(eight < 8.0 * base && eight > 6.0 * base, "{base} {eight}");
    let per_device = predicted(&[("gpus", "8"), ("global_batch", "1024"), ("metric_unit", "images/s/GPU")]);
    assert!((per_device * 8.0 / eight - 1.0).abs() < 1e-9);
}

#[test]
fn horovod_hides_its_exchange_to_512_devices() {
    // Sergeev and Del Balso 2018: 90 % of proportional scaling for ResNet-101, 68 % for VGG-16.
    let efficiency = |model: &'static str| {
        let of = |gpus: &'static str, in_node: &'static str, global: &'static str| {
            predicted(&[
                ("model", model),
                ("hardware", "P100-SXM2-16GB"),
                ("interconnect", "PCIe3; 25 Gb/s RoCE"),
                ("framework", "TensorFlow 1.x, Horovod"),
                ("gpus", gpus),
                ("gpus_per_node", in_node),
                ("micro_batch", "64"),
                ("global_batch", global),
            ])
        };
        of("512", "4", "32768") / of("1", "1", "64") / 512.0
    };
    let (deep, wide) = (efficiency("ResNet-101"), efficiency("VGG-16"));
    assert!((0.81..0.99).contains(&deep) && (0.61..0.75).contains(&wide), "{deep} {wide}");
}

#[test]
fn times_of_passes_add_up() {
    let time = |name: &'static str| {
        predicted(&[("metric_name", name), ("metric_unit", "ms"), ("framework", "Torch7 + cuDNN")])
    };
    let (forward, backward, both) = (time("forward time"), time("backward time"), time("total time"));
    assert!((both / (forward + backward) - 1.0).abs() < 1e-6);
}

#[test]
fn a_batch_that_is_not_stated_is_assumed_and_told() {
    let prediction = predict(&with(&[("micro_batch", ""), ("global_batch", "")])).unwrap();
    assert!(prediction.trace.iter().any(|entry| entry.name == "samples of a device" && entry.value == "128"));
}

#[test]
fn what_cannot_be_represented_is_skipped_by_name() {
    let reason = |changes: &[(&'static str, &'static str)]| predict(&with(changes)).unwrap_err().reason;
    assert_eq!(reason(&[("model", "SE-ResNeXt-101-32x4d")]), "unsupported-network");
    assert_eq!(reason(&[("gpus", "4"), ("tp", "4"), ("global_batch", "")]), "unsupported-layout");
    assert_eq!(reason(&[("gpus", "3"), ("pp", "2"), ("global_batch", "")]), "layout-contradicts-gpus");
    assert_eq!(reason(&[("hardware", "a large one")]), "unknown-hardware");
    assert_eq!(reason(&[("framework", "vLLM 0.4")]), "unsupported-software");
    assert_eq!(reason(&[("precision", "FP8")]), "unsupported-precision");
    assert_eq!(reason(&[("model", "GNMT"), ("framework", "TensorFlow 1")]), "unsupported-recurrent-layers");
}

#[test]
fn a_pipeline_takes_the_stages_that_the_row_states() {
    let piped = |notes: &'static str, recompute: &'static str| {
        predicted(&[
            ("model", "ResNet-101"),
            ("hardware", "Tesla P40 24GB"),
            ("framework", "torchgpipe 0.0.5, PyTorch 1.3"),
            ("interconnect", "PCIe3"),
            ("gpus", "2"),
            ("pp", "2"),
            ("micro_batch", "16"),
            ("global_batch", "512"),
            ("recompute", recompute),
            ("notes", notes),
        ])
    };
    let balanced = piped("", "none");
    assert!(piped("balance [350,20]", "none") < 0.7 * balanced);
    assert!(piped("", "full, always") < 0.85 * balanced);
    // Stages that the graph cannot have are balanced instead.
    assert!((piped("balance [0,370]", "none") / balanced - 1.0).abs() < 1e-9);
}

#[test]
fn a_fit_finds_the_speed_that_made_its_rows() {
    let known = GraphCalibration::known();
    let text = rows("tensorflow_official_2017.csv");
    if text.is_empty() {
        return;
    }
    let fit = fit_graph_steps(&text, known);
    assert!(fit.rows_fitted > 5 && fit.median_error < 0.1, "{}", fit.median_error);
    assert!(fit.rows.iter().any(|row| !row.fitted) && fit.rows.is_sorted_by_key(|row| row.index));
    let none = fit_graph_steps(&[], known);
    assert_eq!((none.rows_fitted, &none.calibration.stack), (0, &known.stack));
}
