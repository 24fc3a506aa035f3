//! The catalogue of devices: its facts, and the names that others give them.

use std::collections::BTreeSet;

use cutplane_graph::{AcceleratorFacts, DeviceGraph, DeviceKind, Dtype};
use cutplane_zoo::{cluster, device_from_hardware_text, devices, suggested_devices};

fn named(text: &str) -> Option<&'static str> {
    device_from_hardware_text(text).map(|device| device.model.as_str())
}

#[test]
fn descriptions_of_hardware_name_their_device() {
    for (text, model) in [
        ("A100-80GB", "A100-SXM-80GB"),
        ("A100", "A100-SXM-80GB"),
        ("A100-SXM4-80GB (SuperPOD, mclk 1593 MHz, pclk 1410 MHz)", "A100-SXM-80GB"),
        ("LambdaCloud A100 40GB PCIe", "A100-PCIE-40GB"),
        ("H100 80GB PCIe Gen5", "H100-PCIE-80GB"),
        ("NVIDIA H100 80GB HBM3", "H100-SXM-80GB"),
        ("NVIDIA H100 NVL", "H100-NVL-94GB"),
        ("V100 (Amazon p3, CUDA 9.0.176, CuDNN 7.0.0.3)", "V100-SXM2-16GB"),
        ("LambdaCloud 8xV100 16GB", "V100-SXM2-16GB"),
        ("V100-16GB/32GB", "V100-SXM2-16GB"),
        ("V100-SXM3-32GB (DGX-2)", "V100-SXM3-32GB"),
        ("V100-SXM3-32GB (DGX-2H, 450W)", "V100-SXM3-32GB-H"),
        ("GTX 1080Ti", "GTX-1080-Ti"),
        ("GTX 1080", "GTX-1080"),
        ("2080 Ti (CUDA 10.0.130, CuDNN 7.4.2.24)", "RTX-2080-Ti"),
        ("Maxwell Titan X", "GTX-Titan-X"),
        ("TITAN X Pascal", "Titan-X-Pascal"),
        ("TITAN Xp", "Titan-Xp"),
        ("Titan V", "Titan-V"),
        ("4x RTX 6000 Ada", "RTX-6000-Ada"),
        ("Quadro RTX 6000", "Quadro-RTX-6000"),
        ("4x AWS g4dn.12xlarge (4x T4-16GB each)", "T4"),
        ("K80 (GCE n1-standard-32-k80x8)", "K80"),
        ("GB200 (4 GPUs per node)", "GB200-186GB"),
        ("AMD Instinct MI300X 192 GB", "MI300X-192GB"),
        ("TPU v5e", "TPU-v5e"),
        ("Intel Gaudi 2", "Gaudi-2"),
        ("Xeon Phi 7250", "Xeon-Phi-7250"),
    ] {
        assert_eq!(named(text), Some(model), "{text}");
    }
}

#[test]
fn no_device_two_devices_and_an_undecided_one_are_none() {
    for text in [
        "",
        "not stated in the document",
        "NVIDIA Pascal GPU, 4 per server",
        "AWS p3.8xlarge (4x V100-16GB) and g4dn.12xlarge (4x T4) mix",
        "Cloud TPU (v2/v3, see paper)",
        "A1000",
    ] {
        assert_eq!(named(text), None, "{text}");
    }
    assert!(suggested_devices("Tesla V100x", 3).iter().all(|model| model.starts_with("V100")));
    assert!(suggested_devices("", 3).is_empty());
}

#[test]
fn every_device_is_found_by_its_own_model_name_or_a_name_that_differs_in_memory_alone() {
    for device in devices() {
        let found = device_from_hardware_text(&device.model).unwrap_or_else(|| panic!("{} is not found", device.model));
        assert_eq!(found.peak_tflop_per_s, device.peak_tflop_per_s, "{} is taken for {}", device.model, found.model);
    }
}

#[test]
fn every_device_has_the_facts_that_the_kernel_model_needs_and_says_where_from() {
    let mut seen = BTreeSet::new();
    for device in devices() {
        let facts = device.accelerator.as_ref().unwrap_or_else(|| panic!("{} has no facts", device.model));
        assert!(seen.insert(device.model.as_str()), "{} is there twice", device.model);
        assert_eq!(device.kind, DeviceKind::Gpu);
        assert!(!device.source.is_empty() && !device.peak_tflop_per_s.is_empty(), "{}", device.model);
        // Operations a clock of one multiprocessor or core: from one lane to a large matrix unit.
        let peak = device.peak_tflop_per_s.values().copied().fold(0.0, f64::max) * 1e12;
        let per_clock = peak / (f64::from(facts.multiprocessors) * facts.clock_mhz * 1e6);
        assert!((32.0..1_000_000.0).contains(&per_clock), "{}: {per_clock} operations a clock", device.model);
        // A cache holds microseconds to a millisecond of traffic.
        let held = facts.l2_mib * 1_048_576.0 / (device.memory_bandwidth_gb_per_s * 1e9);
        assert!((1e-6..1e-3).contains(&held), "{}: the cache holds {held} s", device.model);
    }
}

#[test]
fn tensor_peaks_are_the_published_ones() {
    let facts = |model: &str| {
        let device = devices().find(|device| device.model == model).unwrap();
        let facts = device.accelerator.clone().unwrap();
        let half = device.peak_tflop_per_s.get(&Dtype::F16).copied();
        (facts.multiprocessors, half, facts.tf32_tflop_per_s, facts.fp8_tflop_per_s)
    };
    assert_eq!(facts("A100-SXM-80GB"), (108, Some(312.0), Some(156.0), None));
    assert_eq!(facts("H100-SXM-80GB"), (132, Some(989.0), Some(494.5), Some(1979.0)));
    assert_eq!(facts("V100-SXM2-16GB"), (80, Some(125.0), None, None));
    assert_eq!(facts("GTX-1080-Ti"), (28, None, None, None));
}

#[test]
fn facts_that_are_not_above_zero_are_refused() {
    let mut spec = cluster("t4:1").unwrap();
    let device = spec.device_models.values_mut().next().unwrap();
    device.accelerator = device.accelerator.clone().map(|facts| AcceleratorFacts { clock_mhz: 0.0, ..facts });
    let refused = DeviceGraph::build(spec).unwrap_err().to_string();
    assert!(refused.contains("accelerator.clock_mhz"), "{refused}");
}
