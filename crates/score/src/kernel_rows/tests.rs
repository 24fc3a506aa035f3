use cutplane_sim::kernel::{Convolution, Product, Recurrent, RecurrentCell, RowBlocks};

use super::*;

fn timed<'a>(op: &'a str, model: &'a str) -> KernelQuestion<'a> {
    KernelQuestion {
        op,
        model,
        precision: "fp32",
        metric: "time",
        unit: "ms",
        occurrence: (0, 1),
        ..Default::default()
    }
}

fn layer(op: &str) -> KernelQuestion<'_> {
    KernelQuestion {
        precision: "fp16",
        hidden: Some(8192),
        heads: Some(64),
        kv_heads: Some(8),
        ffn_hidden: Some(28_672),
        tokens: Some(128),
        tensor_parallel: Some(2),
        notes: "gated MLP=True",
        ..timed(op, "Llama-2-70b-hf")
    }
}

fn kernel(question: &KernelQuestion<'_>) -> Kernel {
    KernelRow::read(question).unwrap().kernels[0]
}

#[test]
fn operators_of_a_layer_are_one_shard_of_it() {
    assert_eq!(kernel(&layer("attn_pre_proj")), Kernel::matmul(128, 5120, 8192));
    assert_eq!(kernel(&layer("attn_post_proj")), Kernel::matmul(128, 8192, 4096));
    assert_eq!(kernel(&layer("mlp_up_proj")), Kernel::matmul(128, 28_672, 8192));
    assert_eq!(kernel(&layer("mlp_down_proj")), Kernel::matmul(128, 8192, 14_336));
    assert_eq!(kernel(&layer("add")), Kernel::pointwise(4 * 128 * 8192, 2 * 128 * 8192));
    assert_eq!(kernel(&layer("emb")), Kernel::Gather { indices: 128, width: 8192 });
    let Kernel::MemoryBound { bytes_read, bytes_written, kernels: 1, rows } = kernel(&layer("mlp_act")) else {
        panic!()
    };
    assert_eq!((bytes_read, bytes_written), (2 * 2 * 128 * 14_336, 2 * 128 * 14_336));
    assert_eq!(rows, Some(RowBlocks { rows: 128, width: 14_336, round_trips: 14 }));
}

#[test]
fn a_layer_without_a_shape_and_an_unknown_operator_are_skipped_by_name() {
    let reason = |question: &KernelQuestion<'_>| KernelRow::read(question).unwrap_err().to_string();
    assert_eq!(reason(&KernelQuestion { heads: None, ..layer("add") }), "missing-shape: column 'heads'");
    assert_eq!(reason(&layer("moe_router")), "unknown-operator: 'moe_router'");
    assert_eq!(reason(&KernelQuestion { precision: "fp4", ..layer("add") }), "unknown-precision: 'fp4'");
    assert_eq!(reason(&KernelQuestion { unit: "furlong", ..layer("add") }), "unknown-unit: 'furlong' of 'time'");
}

#[test]
fn convolutions_are_read_in_all_spellings_of_the_sheets() {
    let p100 = "conv W=341 H=79 C=32 N=4 K=32 R=5 S=10 pad_h=0 pad_w=1 Vertical stride=2 Horizontal stride=1";
    let v100 = "conv W=341 H=79 C=32 N=4 K=32 S (Fitler width)=10 R (Filter height)=5 pad_w=1 pad_h=0 Horizontal \
                Stride=1 Vertical Stride=2 Total Time=5.3";
    let expected = Convolution {
        batch: 4,
        in_channels: 32,
        out_channels: 32,
        height: 79,
        width: 341,
        filter_height: 5,
        filter_width: 10,
        stride: (2, 1),
        padding: (0, 1),
        dilation: 1,
        groups: 1,
        product: Product::InputGradient,
    };
    for text in [p100, v100] {
        assert_eq!(kernel(&timed("conv wrt Inputs (msec)", text)), Kernel::Convolution(expected));
    }
    assert_eq!(expected.output(), (38, 334));
}

#[test]
fn a_product_one_column_off_is_a_throughput_of_the_listed_problem() {
    let row = KernelRow::read(&timed("gemm", "GEMM M=7133 N=2048 K=N TNone")).unwrap();
    assert_eq!(row.kernels, [Kernel::matmul(2048, 7133, 2048)]);
    let flops = 2.0 * 2048.0 * 7133.0 * 2048.0;
    assert_eq!(row.asked, Asked::Throughput { flops, unit: 1e12, best_of_search: false });
    assert!((row.seconds_of(13.0) - flops / 13e12).abs() < 1e-12);
    let padded = KernelQuestion { precision: "fp16 in / fp32 acc", ..timed("gemm", "GEMM M=7133 N=2048 K=N TNone") };
    assert_eq!(kernel(&padded), Kernel::matmul(2048, 7136, 2048));
}

#[test]
fn equal_texts_are_told_apart_by_their_place_or_not_at_all() {
    let text = "GEMM M=16 N=2560 K=N NNone";
    let at = |occurrence| KernelRow::read(&KernelQuestion { occurrence, ..timed("gemm", text) });
    assert_eq!(at((0, 2)).unwrap().kernels, [Kernel::matmul(2560, 16, 2560)]);
    assert_eq!(at((1, 2)).unwrap().kernels, [Kernel::matmul(7680, 16, 2560)]);
    assert_eq!(at((0, 1)).unwrap_err().reason, "ambiguous-shape");
}

#[test]
fn a_product_whose_columns_are_right_is_read_as_it_stands() {
    let row = KernelRow::read(&timed("gemm", "GEMM M=5124 N=700 K=2048 N N")).unwrap();
    assert_eq!(row.kernels, [Kernel::matmul(5124, 700, 2048)]);
    assert_eq!(row.asked, Asked::Time { unit: 1e-3 });
}

#[test]
fn recurrent_columns_one_off_hold_the_next_product() {
    let text = "rnn Machine Translation Source=512 Hidden Units=16 N=25 Timesteps=None Total Time=None";
    let read = |op| {
        let row = KernelRow::read(&timed(op, text)).unwrap();
        let Kernel::Recurrent(layer) = row.kernels[0] else { panic!() };
        (layer, matches!(row.asked, Asked::Time { .. }))
    };
    let layer = |product| Recurrent { cell: RecurrentCell::Lstm, batch: 16, steps: 25, hidden: 512, product };
    assert_eq!(read("rnn Time Forward (msec) "), (layer(Product::InputGradient), true));
    assert_eq!(read("rnn Time Backward wrt inputs (msec)"), (layer(Product::WeightGradient), true));
    assert_eq!(read("rnn Time Backward wrt weights (msec)"), (layer(Product::Forward), false));
}

#[test]
fn the_best_of_a_search_is_a_throughput_and_never_over_the_peak() {
    let question = KernelQuestion {
        hardware: "NVIDIA A100 SXM",
        precision: "bf16",
        metric: "maximum achieved matmul TFLOPS",
        unit: "TFLOP/s",
        ..timed("gemm 1024x10240x5120", "")
    };
    let row = KernelRow::read(&question).unwrap();
    assert!(row.is_best_of_search());
    let a100 = cutplane_zoo::device_from_hardware_text(question.hardware).unwrap();
    let predicted = row.predict(&GpuModel::from_spec(a100));
    assert!(predicted.predicted.unwrap() > 200.0 && predicted.high.unwrap() <= 312.0, "{predicted:?}");
    assert!(predicted.trace.iter().any(|entry| matches!(entry.origin, Origin::Calibrated { .. })));
}
