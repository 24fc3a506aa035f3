//! The kernel model on published kernel times that it was not fitted to.

use std::path::PathBuf;

use cutplane_score::{Grade, MeasuredRow, Workload, predict, read_rows, was_fitted};

/// Rows of a file beside the workspace; none, with a line that says so, where it is absent.
fn rows(name: &str) -> Vec<MeasuredRow> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/measured").join(name);
    if !path.exists() {
        println!("skipped: ../shared/measured/{name} is not here");
        return Vec::new();
    }
    read_rows(&path).unwrap().rows
}

/// Sorted |predicted - measured| / measured of the kernel rows that were not fitted and whose operation has `start`, and
/// the share of them inside the interval.
fn errors(rows: &[MeasuredRow], start: &str) -> Option<(Vec<f64>, f64)> {
    let mut inside = 0;
    let mut errors = Vec::new();
    let held_out = |row: &&MeasuredRow| {
        let kernel = row.row.workload == Workload::Kernel && row.row.grade == Grade::A;
        kernel && row.row.op.starts_with(start) && !was_fitted(row)
    };
    for row in rows.iter().filter(held_out) {
        let measured = row.measured_value.unwrap();
        let predicted = predict(&row.row).unwrap_or_else(|skip| panic!("{}: {skip}", row.row.place()));
        inside += usize::from((predicted.low.unwrap()..=predicted.high.unwrap()).contains(&measured));
        errors.push((predicted.predicted.unwrap() / measured - 1.0).abs());
    }
    errors.sort_by(f64::total_cmp);
    (!errors.is_empty()).then(|| (errors.clone(), inside as f64 / errors.len() as f64))
}

/// Holds a source's operations to a median and to intervals that hold most measurements.
fn hold(rows: &[MeasuredRow], start: &str, most: f64) {
    let Some((errors, inside)) = errors(rows, start) else { return };
    let median = errors[errors.len() / 2];
    println!("{start}: {} rows, median {:.1} %, inside {:.0} %", errors.len(), 100.0 * median, 100.0 * inside);
    assert!(median <= most, "{start}: median {median}");
    assert!(inside > 0.8, "{start}: {inside} inside");
}

#[test]
fn vidur_operators_are_within_eight_per_cent() {
    hold(&rows("vidur_layer_profiles.csv"), "", 0.08);
}

#[test]
fn deepbench_kernels_are_as_near_as_the_model_claims() {
    let rows = rows("deepbench_gemm_conv_rnn.csv");
    hold(&rows, "gemm", 0.1);
    hold(&rows, "conv", 0.3);
    hold(&rows, "rnn", 0.25);
}

#[test]
fn best_matmul_throughputs_are_within_five_per_cent() {
    hold(&rows("stas00_mamf_allreduce.csv"), "gemm", 0.05);
}

#[test]
fn at_most_a_tenth_of_a_source_was_fitted() {
    for name in ["vidur_layer_profiles.csv", "deepbench_gemm_conv_rnn.csv"] {
        let rows = rows(name);
        let fitted = rows.iter().filter(|row| was_fitted(row)).count();
        assert!(fitted * 10 <= rows.len(), "{name}: {fitted} of {}", rows.len());
    }
}
