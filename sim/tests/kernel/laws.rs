//! Laws that every device keeps.

use cutplane_graph::Pass;
use cutplane_sim::kernel::{
    Attention, AttentionAlgorithm, Convolution, GpuModel, Kernel, Precision, Product, Recurrent, RecurrentCell,
    RowBlocks, Standing,
};
use cutplane_sim::prediction::Origin;
use proptest::prelude::*;

use crate::{gpu, seconds, spec};

const PRECISIONS: [Precision; 7] = [
    Precision::F32,
    Precision::Tf32,
    Precision::F16,
    Precision::Bf16,
    Precision::HalfStorage,
    Precision::Fp8,
    Precision::Int8,
];

fn convolution(product: Product, groups: u64) -> Kernel {
    Kernel::Convolution(Convolution {
        batch: 8,
        in_channels: 64,
        out_channels: 64,
        height: 28,
        width: 28,
        filter_height: 3,
        filter_width: 3,
        stride: (1, 1),
        padding: (1, 1),
        dilation: 1,
        groups,
        product,
    })
}

fn recurrent(product: Product) -> Kernel {
    Kernel::Recurrent(Recurrent { cell: RecurrentCell::Lstm, batch: 16, steps: 25, hidden: 512, product })
}

fn attention(algorithm: AttentionAlgorithm, pass: Pass) -> Kernel {
    let (batch, heads, kv_heads, query_len, key_len, head_dim, causal) = (2, 16, 4, 1024, 1024, 64, true);
    Kernel::Attention(Attention { batch, heads, kv_heads, query_len, key_len, head_dim, causal, algorithm, pass })
}

fn one_of_each() -> Vec<Kernel> {
    let rows = Some(RowBlocks { rows: 128, width: 4096, round_trips: 4 });
    let products = [Product::Forward, Product::InputGradient, Product::WeightGradient];
    let algorithms = [
        AttentionAlgorithm::Materialised { softmax_passes: 3 },
        AttentionAlgorithm::Flash1,
        AttentionAlgorithm::Flash2,
    ];
    let mut kernels = vec![
        Kernel::matmul(1, 4096, 4096),
        Kernel::matmul(4096, 4096, 4096),
        Kernel::Matmul { m: 77, n: 64, k: 1000, batch: 12 },
        Kernel::pointwise(1 << 20, 1 << 20),
        Kernel::MemoryBound { bytes_read: 1 << 20, bytes_written: 1 << 20, kernels: 3, rows },
        Kernel::Gather { indices: 1, width: 4096 },
        Kernel::Gather { indices: 4096, width: 4096 },
        convolution(Product::Forward, 64),
    ];
    kernels.extend(products.map(|product| convolution(product, 1)));
    kernels.extend(products.map(recurrent));
    kernels.extend(algorithms.map(|algorithm| attention(algorithm, Pass::Forward)));
    kernels.extend(algorithms.map(|algorithm| attention(algorithm, Pass::Backward)));
    kernels
}

#[test]
fn every_device_takes_a_finite_time_for_every_kernel_in_every_precision() {
    for device in cutplane_zoo::devices() {
        let gpu = GpuModel::from_spec(device);
        for kernel in one_of_each() {
            for precision in PRECISIONS {
                let time = gpu.time(&kernel, precision);
                let ordered = 0.0 < time.low && time.low <= time.seconds && time.seconds <= time.high;
                assert!(ordered && time.high < 60.0, "{} {kernel:?} {precision:?}: {time:?}", device.model);
            }
        }
    }
}

#[test]
fn nothing_beats_the_peak_and_no_large_copy_beats_the_memory() {
    for device in cutplane_zoo::devices() {
        let gpu = GpuModel::from_spec(device);
        for precision in PRECISIONS {
            let time = gpu.seconds(&Kernel::matmul(8192, 8192, 8192), precision);
            assert!(time > 2.0 * 8192f64.powi(3) / gpu.peak(precision), "{} {precision:?}", device.model);
        }
        let copy = gpu.seconds(&Kernel::pointwise(4 << 30, 4 << 30), Precision::F32);
        assert!(copy > (8u64 << 30) as f64 / gpu.memory_bandwidth(), "{}", device.model);
    }
}

#[test]
fn kernels_of_nothing_and_of_absurd_size_do_not_panic() {
    let gpu = gpu("A100-SXM-80GB");
    for kernel in [Kernel::matmul(0, 0, 0), Kernel::pointwise(0, 0), Kernel::Gather { indices: 0, width: 0 }] {
        assert!(seconds(&gpu, kernel).is_finite(), "{kernel:?}");
    }
    assert!(seconds(&gpu, Kernel::matmul(1 << 20, 1 << 20, 1 << 20)) > 1.0);
}

#[test]
fn a_prediction_tells_where_its_numbers_come_from() {
    let kernel = Kernel::matmul(4096, 4096, 4096);
    let origin = |model: &str, name: &str| {
        let explained = gpu(model).explain(&kernel, Precision::Bf16);
        explained.terms.into_iter().find(|term| term.name == name).unwrap().origin
    };
    assert!(
        matches!(origin("A100-SXM-80GB", "peak, TFLOP/s"), Origin::Datasheet { source } if source.contains("stas"))
    );
    let Origin::Calibrated { rows } = origin("A100-SXM-80GB", "tensor_efficiency") else { panic!() };
    assert!(rows.contains("vidur_layer_profiles") && !rows.contains("relative"), "{rows}");
    let Origin::Calibrated { rows } = origin("A30", "tensor_efficiency") else { panic!() };
    assert!(rows.ends_with("on a relative of this device"), "{rows}");
    assert_eq!(origin("B200-SXM-180GB", "tensor_efficiency"), Origin::Assumed);
}

#[test]
fn a_device_that_was_not_measured_extrapolates_with_a_wider_interval() {
    let time = |model: &str, precision| gpu(model).time(&Kernel::matmul(4096, 4096, 4096), precision);
    assert!(!time("A100-SXM-80GB", Precision::Bf16).extrapolates);
    assert!(time("A100-SXM-80GB", Precision::Int8).extrapolates, "never measured in this precision");
    let relative = time("A30", Precision::Bf16);
    assert!(relative.extrapolates && relative.high / relative.seconds >= 1.5);
    assert_eq!(gpu("RTX-3090").standing(), Standing::Relative);
    assert_eq!(gpu("T4").standing(), Standing::Assumed);
}

#[test]
fn a_card_of_unknown_make_is_priced_from_its_peaks() {
    let unknown =
        cutplane_graph::DeviceSpec { model: "X1".to_owned(), accelerator: None, ..spec("V100-SXM2-16GB").clone() };
    let time = GpuModel::from_spec(&unknown).time(&Kernel::matmul(4096, 4096, 4096), Precision::F16);
    let known = gpu("V100-SXM2-16GB").seconds(&Kernel::matmul(4096, 4096, 4096), Precision::F16);
    assert!(time.extrapolates && (time.seconds / known).ln().abs() < 0.3, "{time:?} {known}");
}

proptest! {
    #[test]
    fn more_work_of_a_product_never_takes_much_less_time(
        m in 1u64..3000, n in 1u64..3000, k in 1u64..3000, more in 1u64..4
    ) {
        // Whole waves and splits make small steps down possible: a larger shape may suit the device better.
        let gpu = gpu("H100-SXM-80GB");
        let base = gpu.seconds(&Kernel::matmul(8 * m, 8 * n, 8 * k), Precision::Bf16);
        for (m, n, k) in [(m * (1 + more), n, k), (m, n * (1 + more), k), (m, n, k * (1 + more))] {
            let larger = gpu.seconds(&Kernel::matmul(8 * m, 8 * n, 8 * k), Precision::Bf16);
            prop_assert!(larger > 0.9 * base, "{larger} {base}");
        }
    }

    #[test]
    fn traffic_costs_at_least_its_share_of_the_cache_and_grows(bytes in 1u64..1 << 32) {
        let gpu = gpu("A40-48GB");
        let time = |bytes| gpu.seconds(&Kernel::pointwise(bytes, bytes), Precision::F16);
        prop_assert!(time(bytes + bytes / 4 + 1) >= time(bytes));
    }
}
