//! Golden values of papers, and properties.

use cutplane_plan::Optimizer;

use super::*;
use crate::estimate::{AttentionKernel, PipelineSchedule, Precision, Recompute, Zero, ZeroStage};

const GIB: f64 = 1_073_741_824.0;

fn near(value: f64, golden: f64, share: f64) {
    assert!((value / golden - 1.0).abs() < share, "{value} is not within {share} of {golden}");
}

/// Megatron's baseline: f16, scores in memory.
fn layout(tp: u64, pp: u64, vpp: u64, global_batch: u64) -> Layout {
    Layout {
        tp,
        pp,
        vpp,
        global_batch,
        schedule: if vpp > 1 { PipelineSchedule::Interleaved } else { PipelineSchedule::default() },
        precision: Precision::AmpF16,
        attention: AttentionKernel::Materialised,
        ..Layout::default()
    }
}

#[test]
fn zero_of_seven_and_a_half_billion_on_sixty_four() {
    let bytes = StateBytes::new(Precision::AmpF16, Optimizer::AdamW, &Keeping::PAPER);
    let gigabytes = |stage| format!("{:.1}", model_state(7.5e9, bytes, stage, 64).total() / 1e9);
    assert_eq!(gigabytes(ZeroStage::None), "120.0");
    assert_eq!(gigabytes(ZeroStage::One), "31.4");
    assert_eq!(gigabytes(ZeroStage::Two), "16.6");
    assert_eq!(gigabytes(ZeroStage::Three), "1.9");
}

#[test]
fn t5_of_three_billion_on_eight_as_deepspeed_estimates() {
    // DeepSpeed counts gradients whole until they are reduced, and their 32-bit copies with the optimizer: 4 P + 16 P / N;
    // with the optimizer offloaded, 2 P.
    let bytes = StateBytes { weight: 2.0, gradient: 2.0, optimizer: 16.0, during_step: 0.0 };
    let gib = |state: ModelState| format!("{:.2}", state.total() / GIB);
    assert_eq!(gib(model_state(2_851e6, bytes, ZeroStage::One, 8)), "15.93");
    assert_eq!(gib(model_state(2_851e6, bytes, ZeroStage::Two, 8).with_host_optimizer(ZeroStage::Two)), "5.31");
}

#[test]
fn megatron_keeps_eighteen_bytes_or_six_and_twelve_over_the_ranks() {
    let bytes = StateBytes::new(Precision::Bf16, Optimizer::AdamW, &Keeping::MEGATRON_CORE);
    near(model_state(1.0, bytes, ZeroStage::None, 8).total(), 18.0, 1e-12);
    near(model_state(1.0, bytes, ZeroStage::One, 8).total(), 7.5, 1e-12);
}

#[test]
fn a_layer_follows_the_formulas_of_korthikanti() {
    let shape = TransformerShape::gpt(48, 6_144, 64, 51_200, 2_048);
    let (s, b, h, a) = (2_048.0, 4.0, 6_144.0, 64.0);
    let tokens = Tokens { rows: s * b, keys: s, crossed: [0.0; 2] };
    let kept = |layout: &Layout| {
        let bytes = layer_bytes(&shape, tokens, layout, &Keeping::PAPER);
        if layout.recompute == Recompute::Selective { bytes.kept - bytes.core } else { bytes.kept }
    };
    let base = Layout { micro_batch: 4, ..layout(1, 1, 1, 4) };
    let scores = 5.0 * a * s / h;
    near(kept(&base), s * b * h * (34.0 + scores), 1e-4);
    near(kept(&Layout { tp: 8, ..base.clone() }), s * b * h * (10.0 + 24.0 / 8.0 + scores / 8.0), 1e-4);
    let sharded = Layout { tp: 8, sequence_parallel: true, ..base };
    near(kept(&sharded), s * b * h / 8.0 * (34.0 + scores), 1e-4);
    near(kept(&Layout { recompute: Recompute::Selective, ..sharded.clone() }), s * b * h / 8.0 * 34.0, 1e-4);
    near(layer_bytes(&shape, tokens, &layout(1, 1, 1, 4), &Keeping::PAPER).input, 2.0 * s * b * h, 1e-12);
}

#[test]
fn what_is_not_fused_keeps_more() {
    let shape = TransformerShape::gpt(1, 1_024, 16, 50_257, 512);
    let tokens = Tokens { rows: 1_024.0, keys: 512.0, crossed: [0.0; 2] };
    let kept = |keeping: &Keeping| layer_bytes(&shape, tokens, &layout(1, 1, 1, 2), keeping).kept;
    let more = |plain: &Keeping, other: &Keeping| kept(other) - kept(plain);
    let scores = 16.0 * 1_024.0 * 512.0;
    // The 32-bit softmax takes the place of the 16-bit one that dropout reads; without dropout the product reads that.
    let wide = Keeping { softmax_bytes: 4.0, ..Keeping::PAPER };
    near(more(&Keeping::PAPER, &wide), 2.0 * scores, 1e-12);
    let undropped = Keeping { dropout: false, ..Keeping::PAPER };
    near(more(&undropped, &Keeping { dropout: false, ..wide }), 4.0 * scores, 1e-12);
    let written = Keeping { activation_values: 3.0, ..Keeping::PAPER };
    near(more(&Keeping::PAPER, &written), 2.0 * 2.0 * 1_024.0 * 4_096.0, 1e-12);
}

#[test]
fn first_stages_hold_what_korthikanti_print() {
    // Figure 1, GiB: tensor parallelism alone; with sequence parallelism and selective recomputation.
    let rows = [
        (48, 6_144, 64, layout(8, 1, 1, 4), 4, 59.25, 9.5625),
        (96, 12_288, 96, layout(8, 8, 3, 64), 1, 66.843_75, 12.351_562_5),
        (105, 20_480, 128, layout(8, 35, 3, 280), 1, 114.023_437_5, 23.076_171_875),
        (128, 25_600, 160, layout(8, 64, 1, 512), 1, 131.25, 26.562_5),
    ];
    for (layers, hidden, heads, base, micro_batch, baseline, both) in rows {
        let shape = TransformerShape::gpt(layers, hidden, heads, 51_200, 2_048);
        let base = Layout { micro_batch, ..base };
        let first = |layout: &Layout| {
            of_transformer(&shape, layout, &Keeping::PAPER).expect("fits together").stages[0].activations / GIB
        };
        near(first(&base), baseline, 2e-4);
        let sharded = Layout { sequence_parallel: true, recompute: Recompute::Selective, ..base };
        near(first(&sharded), both, 6e-4);
    }
}

#[test]
fn parameters_of_published_models() {
    let numbers = |shape: &TransformerShape| {
        let layout = Layout { precision: Precision::F32, optimizer: Optimizer::Sgd, ..Layout::default() };
        let keeping = Keeping { master: Master::InPlace, ..Keeping::PAPER };
        of_transformer(shape, &layout, &keeping).expect("fits together").stages[0].parts.weights / 4.0
    };
    near(numbers(&TransformerShape::gpt(12, 768, 12, 50_257, 1_024)), 124_439_808.0, 1e-12);
    near(numbers(&TransformerShape::gpt(48, 1_600, 25, 50_257, 1_024)), 1_557_611_200.0, 1e-12);
    let plain = TransformerShape {
        kv_heads: 8,
        ffn_hidden: 14_336,
        gated: true,
        biases: false,
        norm_bias: false,
        learned_positions: false,
        tied: false,
        ..TransformerShape::gpt(32, 4_096, 32, 128_256, 8_192)
    };
    near(numbers(&plain), 8_030_261_248.0, 1e-12);
    let experts = ExpertShape { experts: 8, top_k: 2, ffn_hidden: 14_336, shared_ffn_hidden: 0, tensor_parallel: None };
    near(numbers(&TransformerShape { vocab: 32_000, experts: Some(experts), ..plain }), 46_702_792_704.0, 1e-12);
}

#[test]
fn every_device_more_and_every_byte_less_helps() {
    let shape = TransformerShape::gpt(32, 4_096, 32, 51_200, 2_048);
    let peak = |layout: &Layout| of_transformer(&shape, layout, &Keeping::MEGATRON_CORE).expect("fits together");
    let total = |layout: &Layout| peak(layout).allocated();
    let base = Layout { dp: 8, micro_batch: 2, global_batch: 64, ..Layout::default() };
    let with = |zero| Layout { zero: Zero::stage(zero), ..base.clone() };
    assert!(total(&with(ZeroStage::One)) < total(&base));
    assert!(total(&with(ZeroStage::Two)) < total(&with(ZeroStage::One)));
    assert!(total(&with(ZeroStage::Three)) < total(&with(ZeroStage::Two)));
    assert!(total(&Layout { tp: 2, ..base.clone() }) < total(&base));
    assert!(total(&Layout { recompute: Recompute::Full, ..base.clone() }) < total(&base));
    let filled = Layout { pp: 4, schedule: PipelineSchedule::FillDrain, ..base.clone() };
    let one = Layout { pp: 4, micro_batch: 1, ..base.clone() };
    assert!(peak(&one).stages[0].activations > peak(&one).stages[3].activations);
    assert!(peak(&filled).last().activations >= peak(&one).last().activations);
    let verdict = peak(&base).verdict(80 << 30);
    assert!(!verdict.fits && verdict.margin < 0.0 && verdict.binding == "optimizer");
}

#[test]
fn impossible_layouts_are_refused_by_name() {
    let shape = TransformerShape::gpt(4, 64, 4, 100, 32);
    let refused =
        |layout: Layout| of_transformer(&shape, &layout, &Keeping::PAPER).expect_err("impossible").to_string();
    assert!(refused(Layout { pp: 8, global_batch: 8, ..Layout::default() }).contains("8 chunks for 4 layers"));
    assert!(refused(Layout { tp: 0, ..Layout::default() }).contains("tp"));
}

#[test]
fn a_walk_over_the_operators_agrees_with_the_count_of_a_transformer() {
    use cutplane_zoo::transformer::Decoder;
    let graph = Decoder { layers: 4, hidden: 512, heads: 8, ffn_hidden: 2_048, vocab: 50_304, ..Decoder::gpt2() };
    let graph = graph.graph(1_024).expect("a graph");
    let shape = TransformerShape::gpt(4, 512, 8, 50_304, 1_024);
    let keeping = Keeping { dropout: false, ..Keeping::MEGATRON_CORE };
    let base = Layout { micro_batch: 4, global_batch: 4, ..Layout::default() };
    for layout in [base.clone(), Layout { recompute: Recompute::Full, ..base.clone() }, Layout { pp: 2, ..base }] {
        let walked = of_model(&graph, &layout, &keeping).expect("fits together");
        let counted = of_transformer(&shape, &layout, &keeping).expect("fits together");
        near(walked.fullest().parts.total(), counted.fullest().parts.total(), 0.05);
        near(walked.stages[0].parts.state(), counted.stages[0].parts.state(), 0.01);
    }
}
