//! Matrix products: waves, splits, skinny shapes, alignment.

use cutplane_sim::kernel::{GpuModel, Kernel, Parameters, Precision};

use crate::{gpu, seconds, spec};

/// No fixed time, no losses: what is left is waves and peaks.
fn ideal() -> Parameters {
    Parameters {
        tensor_efficiency: 1.0,
        resident_half: 1e-12,
        tile_half: 1e-12,
        operand_bandwidth: 1.0,
        cache_bandwidth: 1e6,
        multiprocessor_bandwidth: 1e6,
        matmul_us: 1e-9,
        overlap: 50.0,
        split_us: 1e9,
        ..Parameters::PRIOR
    }
}

#[test]
fn an_ideal_device_takes_whole_waves() {
    let gpu = GpuModel::from_spec(spec("A100-SXM-80GB")).with_parameters(ideal());
    // One tile of 256 x 128 on each of 108 multiprocessors; the inner extent is long enough to hide all traffic.
    let wave = 2.0 * (256.0 * 128.0 * 108.0) * 8192.0 / 312e12;
    let full = seconds(&gpu, Kernel::matmul(256 * 12, 128 * 9, 8192));
    assert!((full / wave - 1.0).abs() < 1e-6, "{full} {wave}");
    let one_more = seconds(&gpu, Kernel::matmul(256 * 12 + 16, 128 * 9, 8192));
    // A further strip is a second tile, perhaps a smaller one, on some multiprocessors.
    assert!(one_more > 1.02 * full && one_more <= 2.0 * full, "{one_more} {full}");
}

#[test]
fn a_product_of_few_rows_streams_its_weights() {
    let gpu = gpu("A100-SXM-80GB");
    let (one, sixteen) = (seconds(&gpu, Kernel::matmul(1, 8192, 8192)), seconds(&gpu, Kernel::matmul(16, 8192, 8192)));
    let streamed = 2.0 * 8192.0 * 8192.0 / gpu.memory_bandwidth();
    assert!(one > streamed && one < 1.5 * streamed, "{one} {streamed}");
    assert!(sixteen / one < 1.1, "{sixteen} {one}");
}

#[test]
fn a_long_inner_extent_is_split_over_the_device() {
    // One tile cannot use 80 multiprocessors; sixteen times the inner extent takes far less than sixteen times as long.
    let gpu = gpu("V100-SXM2-16GB");
    let (short, long) =
        (seconds(&gpu, Kernel::matmul(128, 128, 4096)), seconds(&gpu, Kernel::matmul(128, 128, 65_536)));
    assert!(long < 6.0 * short, "{long} {short}");
}

#[test]
fn rows_that_do_not_start_on_sixteen_bytes_are_slow_on_matrix_units_alone() {
    let ratio = |model: &str, precision| {
        let gpu = gpu(model);
        let time = |n| gpu.seconds(&Kernel::matmul(4096, n, 4096), precision);
        time(4095) / time(4096)
    };
    assert!(ratio("A100-SXM-80GB", Precision::F16) > 1.8);
    assert!(ratio("A100-SXM-80GB", Precision::F32) < 1.05);
    assert!(ratio("P100-SXM2-16GB", Precision::F16) < 1.05);
}

#[test]
fn precisions_a_device_lacks_run_in_the_next_wider_one() {
    let peak = |model: &str, precision| gpu(model).peak(precision) / 1e12;
    assert!((peak("H100-SXM-80GB", Precision::Fp8) - 1979.0).abs() < 1e-6);
    assert!((peak("A100-SXM-80GB", Precision::Fp8) - 312.0).abs() < 1e-6, "fp8 in f16");
    assert!((peak("V100-SXM2-16GB", Precision::Bf16) - 15.7).abs() < 1e-6, "bf16 on Volta is f32");
    assert!((peak("V100-SXM2-16GB", Precision::Tf32) - 15.7).abs() < 1e-6);
    assert!((peak("P40", Precision::F16) - 11.8).abs() < 1e-6);
}

#[test]
fn published_times_lie_in_the_interval() {
    // Vidur's profile of Llama-2-70B on one A100, f16: columns, inner extent, tokens, microseconds.
    let rows = [
        (10_240, 8192, 1, 110.0),
        (10_240, 8192, 4096, 2873.0),
        (8192, 8192, 256, 184.0),
        (57_344, 8192, 128, 720.0),
        (57_344, 8192, 4096, 16_037.0),
        (8192, 28_672, 1024, 2254.0),
    ];
    let gpu = gpu("A100-SXM-80GB");
    for (n, k, m, measured_us) in rows {
        let predicted = gpu.time(&Kernel::matmul(m, n, k), Precision::F16);
        let within = predicted.low * 0.95e6 < measured_us && measured_us < predicted.high * 1.05e6;
        assert!(within, "{m}x{n}x{k}: {predicted:?}, measured {measured_us} us");
    }
}
