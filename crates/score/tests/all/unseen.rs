//! Rows of sources that nobody here has seen: other models, devices, clouds, spellings and open cells. Each has a prediction
//! that no device can beat by its datasheet, or is skipped by a name; nothing panics.

use std::path::Path;

use cutplane_score::{Row, RowPrediction, Skip, parse, predict, rows_of};

const HEADER: &str = "source,hardware,metric_name,metric_value,metric_unit,workload,model,seq_len,micro_batch,global_batch,gpus,\
                      gpus_per_node,dp,tp,pp,precision,framework,zero_stage_or_fsdp,recompute,flash_attention,interconnect,\
                      op,message_bytes,input_len,output_len,concurrency";

/// Cells by name over a row of training.
fn row(changes: &[(&str, &str)]) -> Row {
    let usual = [
        ("source", "unseen"),
        ("hardware", "H100"),
        ("metric_name", "MFU"),
        ("metric_value", "1"),
        ("metric_unit", "%"),
        ("workload", "training"),
        ("model", "Llama-2-7B"),
        ("seq_len", "2048"),
        ("micro_batch", "1"),
        ("global_batch", "64"),
        ("gpus", "8"),
        ("gpus_per_node", "8"),
        ("precision", "bf16"),
        ("framework", "PyTorch"),
    ];
    let cell = |name: &str| {
        let of =
            |cells: &[(&str, &str)]| cells.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        format!("\"{}\"", of(changes).or_else(|| of(&usual)).unwrap_or_default())
    };
    let cells: Vec<String> = HEADER.split(',').map(|name| cell(name.trim())).collect();
    let text = format!("{}\n{}\n", HEADER.replace(char::is_whitespace, ""), cells.join(","));
    rows_of(Path::new("unseen.csv"), text.as_bytes()).unwrap().rows.remove(0).row
}

fn asked(changes: &[(&str, &str)]) -> Result<RowPrediction, Skip> {
    predict(&row(changes))
}

/// The prediction, in its own interval and positive.
fn sound(changes: &[(&str, &str)]) -> Option<f64> {
    match asked(changes) {
        Ok(found) => {
            let value = found.predicted.unwrap_or_else(|| panic!("{changes:?}: no figure"));
            let (low, high) = (found.low.unwrap(), found.high.unwrap());
            assert!(
                value > 0.0 && low <= value && value <= high && high.is_finite(),
                "{changes:?}: {low} {value} {high}"
            );
            assert!(!found.trace.is_empty(), "{changes:?}: nothing is said of where it comes from");
            Some(value)
        }
        Err(skip) => {
            assert!(!skip.reason.is_empty() && !skip.detail.is_empty(), "{changes:?}");
            None
        }
    }
}

/// Devices and what else names them; every one has a prediction.
const DEVICES: [&str; 34] = [
    "H200",
    "NVIDIA B200 SXM",
    "L40S",
    "NVIDIA GeForce RTX 4090",
    "RTX 3090",
    "Tesla V100-PCIE-32GB",
    "MI250X",
    "AMD MI300X",
    "A10G",
    "NVIDIA T4",
    "L4",
    "A30",
    "RTX A6000",
    "A100",
    "NVIDIA A100-SXM4-40GB",
    "A100 80GB PCIe",
    "DGX H100",
    "GH200",
    "H800",
    "H20",
    "GB200 NVL72",
    "RTX 5090",
    "GTX 1080 Ti",
    "K80",
    "P100",
    "H100 NVL",
    "p4d.24xlarge",
    "AWS p5.48xlarge",
    "g5.12xlarge",
    "g4dn.xlarge",
    "Standard_ND96asr_v4",
    "a2-ultragpu-8g",
    "a3-highgpu-8g",
    "DGX-2",
];

/// Devices that have no kernel model, or that nobody lists: skipped by name.
const STRANGERS: [&str; 5] = ["TPU v4", "TPU v5e-256", "Ascend 910B", "AWS Trainium", ""];

#[test]
fn training_on_any_device_stays_below_its_peak() {
    for hardware in DEVICES {
        let of = |model: &str| {
            let utilisation = sound(&[("hardware", hardware), ("model", model)]);
            utilisation.unwrap_or_else(|| panic!("{hardware}: {model} is skipped"))
        };
        for model in ["GPT-3 1.3B", "meta-llama/Meta-Llama-3-8B", "bert-large-uncased", "google/t5-v1_1-base"] {
            let share = of(model);
            assert!(share < 95.0, "{hardware}: {model} at {share} % of the peak");
        }
    }
    for hardware in STRANGERS {
        let reason = asked(&[("hardware", hardware)]).unwrap_err().reason;
        assert!(["unknown-hardware", "unsupported-hardware"].contains(&reason), "{hardware}: {reason}");
    }
}

#[test]
fn images_on_any_device_stay_below_its_peak() {
    // Operations of a training step of ResNet-50 on an image: three times 2 x 4.089e9.
    let operations = 3.0 * 2.0 * 4.089e9;
    for hardware in DEVICES {
        let changes = [
            ("hardware", hardware),
            ("model", "ResNet50"),
            ("metric_name", "throughput"),
            ("metric_unit", "images/s"),
            ("gpus", "1"),
            ("micro_batch", "64"),
            ("global_batch", "64"),
            ("precision", "AMP"),
            ("seq_len", ""),
        ];
        let images = sound(&changes).unwrap_or_else(|| panic!("{hardware}: skipped"));
        let device = parse::device(hardware).unwrap();
        let peak = device.peak_tflop_per_s.values().copied().fold(0.0, f64::max) * 1e12;
        // Winograd and Fourier save up to four of five operations where there are no matrix units.
        assert!(images * operations < 4.0 * peak, "{hardware}: {images} images/s");
        assert!(images > 1.0, "{hardware}: {images} images/s");
    }
}

#[test]
fn decoding_on_any_device_streams_its_weights() {
    let weights = 2.0 * 6.6e9;
    for hardware in DEVICES {
        let changes = [
            ("hardware", hardware),
            ("workload", "inference"),
            ("metric_name", "TPOT"),
            ("metric_unit", "ms"),
            ("gpus", "1"),
            ("input_len", "512"),
            ("output_len", "128"),
            ("concurrency", "1"),
            ("precision", "fp16"),
            ("framework", "vLLM"),
        ];
        let milliseconds = sound(&changes).unwrap_or_else(|| panic!("{hardware}: skipped"));
        let bandwidth = parse::device(hardware).unwrap().memory_bandwidth_gb_per_s * 1e9;
        assert!(milliseconds * 1e-3 > weights / bandwidth, "{hardware}: {milliseconds} ms a token");
    }
}

#[test]
fn products_on_any_device_stay_below_its_peak() {
    for (op, model) in
        [("gemm", "M=4096 N=4096 K=4096"), ("matmul", "4096x4096x4096"), ("GEMM", "[4096, 4096] x [4096, 512]")]
    {
        for hardware in DEVICES {
            let changes = [
                ("hardware", hardware),
                ("workload", "kernel"),
                ("op", op),
                ("model", model),
                ("metric_name", "throughput"),
                ("metric_unit", "TFLOP/s"),
                ("precision", "fp16"),
                ("gpus", "1"),
            ];
            let rate = sound(&changes).unwrap_or_else(|| panic!("{hardware}: {op} {model} is skipped"));
            let device = parse::device(hardware).unwrap();
            let peak = device.peak_tflop_per_s.values().copied().fold(0.0, f64::max);
            assert!(rate <= peak, "{hardware}: {rate} of {peak} TFLOP/s");
        }
    }
}

#[test]
fn collectives_of_any_spelling_are_read() {
    let of = |op: &str, metric: &str, unit: &str| {
        sound(&[
            ("workload", "collective"),
            ("op", op),
            ("metric_name", metric),
            ("metric_unit", unit),
            ("gpus", "16"),
            ("message_bytes", "268435456"),
            ("framework", "nccl-tests"),
            ("interconnect", "NVLink; 8x400 Gb/s InfiniBand"),
        ])
    };
    for op in [
        "AllReduce",
        "all-reduce",
        "all_gather",
        "ReduceScatter",
        "alltoall",
        "sendrecv",
        "broadcast",
        "all_reduce (ring)",
    ] {
        // 450 GB/s of NVLink 4 and its in-network sums bound every bus bandwidth.
        assert!(of(op, "busbw", "GB/s").unwrap() < 480.0, "{op}");
    }
    let gigabytes = of("all_reduce", "algorithm bandwidth", "GB/s").unwrap();
    assert!((of("all_reduce", "algbw", "Gb/s").unwrap() / gigabytes - 8.0).abs() < 1e-9);
    assert!(of("all_reduce", "bandwidth", "GB/s").is_none(), "bus or algorithm: nobody knows");
    assert!(of("hypercube", "busbw", "GB/s").is_none());
}

#[test]
fn spellings_mean_what_they_say() {
    let of = |column: &'static str, value: &'static str| sound(&[("gpus", "8"), ("dp", "8"), (column, value)]).unwrap();
    for half in ["bf16", "BF16-mixed", "mixed precision", "AMP", "fp16", "16-mixed", "O2", "float16"] {
        assert!((of("precision", half) / of("precision", "bf16") - 1.0).abs() < 0.15, "{half}");
    }
    for sharded in ["ZeRO-3", "zero_3", "stage3", "FULL_SHARD", "FSDP2", "HYBRID_SHARD"] {
        assert!((of("zero_stage_or_fsdp", sharded) / of("zero_stage_or_fsdp", "FSDP") - 1.0).abs() < 1e-9, "{sharded}");
    }
    for full in ["full", "True", "activation checkpointing", "gradient checkpointing", "AC"] {
        assert!((of("recompute", full) / of("recompute", "full") - 1.0).abs() < 1e-9, "{full}");
    }
    for fused in ["FA2", "flash_attn 2.3", "FlashAttention-2"] {
        assert!((of("flash_attention", fused) / of("flash_attention", "flash2") - 1.0).abs() < 1e-9, "{fused}");
    }
    for network in ["100Gbps Ethernet", "8x400G NDR", "10 Gbps", "1.6 Tb/s", "Slingshot-11", "RoCE v2 4x100Gb"] {
        let changes = [("gpus", "16"), ("dp", "16"), ("interconnect", network)];
        assert!(sound(&changes).is_some(), "{network}");
    }
}

#[test]
fn names_of_other_networks_are_not_taken_for_known_ones() {
    for model in [
        "wide_resnet50_2",
        "ResNet-5000",
        "Mask R-CNN (ResNet-50)",
        "RetinaNet ResNet50",
        "Inception-ResNet-v2",
        "SE-ResNeXt-50",
    ] {
        let changes = [("model", model), ("metric_name", "throughput"), ("metric_unit", "images/s")];
        assert_eq!(asked(&changes).unwrap_err().reason, "unsupported-network", "{model}");
    }
    let strangers =
        [("GPT-2 8.3B", "unknown-model"), ("Llama-2-9B", "unknown-model"), ("DeepSeek-V3", "latent-attention")];
    for (model, reason) in
        strangers.into_iter().chain([("Nemotron-3-Nano", "hybrid-layers"), ("Switch-Base-8", "unknown-model")])
    {
        assert_eq!(asked(&[("model", model)]).unwrap_err().reason, reason, "{model}");
    }
    for (metric, unit) in [("optimizer time", "ms"), ("seconds per 1000 iterations", "s"), ("data loading time", "ms")]
    {
        let refused = asked(&[("metric_name", metric), ("metric_unit", unit)]).unwrap_err();
        assert_eq!(refused.reason, "unsupported-metric", "{metric}");
    }
}

#[test]
fn software_that_nobody_knows_is_a_wider_prior() {
    let width = |framework: &str| {
        let found = asked(&[
            ("workload", "inference"),
            ("metric_name", "throughput"),
            ("metric_unit", "tokens/s"),
            ("gpus", "1"),
            ("input_len", "512"),
            ("output_len", "128"),
            ("concurrency", "8"),
            ("framework", framework),
        ]);
        found.map(|found| found.high.unwrap() / found.low.unwrap())
    };
    assert!(width("an engine of next year").unwrap() > width("vLLM").unwrap());
    assert!(width("").unwrap() > width("vLLM").unwrap());
    assert_eq!(width("FlexGen").unwrap_err().reason, "unknown-engine");
}

#[test]
fn open_cells_are_assumed_or_named() {
    for open in ["micro_batch", "global_batch", "gpus_per_node", "precision", "framework", "recompute"] {
        let found = asked(&[("dp", "8"), (open, "")]).unwrap_or_else(|skip| panic!("{open}: {skip:?}"));
        assert!(found.predicted.is_some(), "{open}");
    }
    for (open, reason) in
        [("model", "unknown-model"), ("seq_len", "missing-sequence-length"), ("hardware", "unknown-hardware")]
    {
        assert_eq!(asked(&[(open, "")]).unwrap_err().reason, reason, "{open}");
    }
    assert_eq!(asked(&[("micro_batch", ""), ("global_batch", ""), ("dp", "8")]).unwrap_err().reason, "missing-batch");
}

#[test]
fn throughputs_of_parts_of_a_request_take_their_own_time() {
    let of = |metric: &str| {
        sound(&[
            ("workload", "inference"),
            ("metric_name", metric),
            ("metric_unit", "tokens/s"),
            ("gpus", "1"),
            ("input_len", "1024"),
            ("output_len", "128"),
            ("concurrency", "8"),
            ("framework", "vLLM"),
        ])
        .unwrap()
    };
    let (bare, total) = (of("throughput"), of("total throughput"));
    assert!((total / bare - (1024.0 + 128.0) / 128.0).abs() < 1e-6);
    assert!(of("prefill throughput") > total && of("decode throughput") > bare);
}

#[test]
fn state_that_cannot_fit_was_not_trained() {
    let of = |metric: &'static str, unit: &'static str, gpus: &'static str| {
        let changes =
            [("model", "Llama-2-70B"), ("framework", "Megatron-Core"), ("gpus", gpus), ("dp", "1"), ("tp", gpus)];
        asked(&[&changes[..], &[("metric_name", metric), ("metric_unit", unit)]].concat()).unwrap()
    };
    let adapters = |found: &RowPrediction| found.trace.iter().any(|entry| entry.value.starts_with("adapters"));
    assert!(adapters(&of("step time", "s", "8")));
    assert!(!adapters(&of("step time", "s", "32")));
}
