//! Devices.

use cutplane_graph::{Architecture, DeviceSpec};

use crate::prediction::Skip;

/// What machines and instances of clouds hold: the first part of a name that a hardware text contains, and the device as the
/// catalogue reads it. Texts that name a device themselves are read by the catalogue first.
const MACHINES: [(&str, &str); 41] = [
    ("p2.", "K80"),
    ("p3dn.", "V100 SXM2 32GB"),
    ("p3.", "V100 SXM2 16GB"),
    ("p4de.", "A100 SXM 80GB"),
    ("p4d.", "A100 SXM 40GB"),
    ("p5e.", "H200 SXM"),
    ("p5en.", "H200 SXM"),
    ("p5.", "H100 SXM"),
    ("p6-b200", "B200 SXM"),
    ("p6-b300", "B300 SXM"),
    ("g4dn.", "T4"),
    ("g5.", "A10G"),
    ("g6e.", "L40S"),
    ("g6.", "L4"),
    ("nd40rs_v2", "V100 SXM2 32GB"),
    ("ndv2", "V100 SXM2 32GB"),
    ("nd96asr", "A100 SXM 40GB"),
    ("nd96amsr", "A100 SXM 80GB"),
    ("nd96isr", "H100 SXM"),
    ("nc6s_v3", "V100 PCIe 16GB"),
    ("nc12s_v3", "V100 PCIe 16GB"),
    ("nc24s_v3", "V100 PCIe 16GB"),
    ("nc24rs_v3", "V100 PCIe 16GB"),
    ("nc24ads", "A100 PCIe 80GB"),
    ("nc48ads", "A100 PCIe 80GB"),
    ("nc96ads", "A100 PCIe 80GB"),
    ("a2-highgpu", "A100 SXM 40GB"),
    ("a2-megagpu", "A100 SXM 40GB"),
    ("a2-ultragpu", "A100 SXM 80GB"),
    ("a3-ultragpu", "H200 SXM"),
    ("a3-highgpu", "H100 SXM"),
    ("a3-megagpu", "H100 SXM"),
    ("a4-highgpu", "B200 SXM"),
    ("g2-standard", "L4"),
    ("bm.gpu4.8", "A100 SXM 40GB"),
    ("bm.gpu.b4.8", "A100 SXM 40GB"),
    ("dgx-2", "V100 SXM3 32GB"),
    ("dgx2", "V100 SXM3 32GB"),
    ("dgx-1v", "V100 SXM2 16GB"),
    ("dgx-1p", "P100 SXM 16GB"),
    ("selene", "A100 SXM 80GB"),
];

/// The device model that a hardware text names, or that the machine or instance which it names holds.
///
/// # Errors
/// [`Skip`] `unknown-hardware`, with the models of the catalogue that look most like it; `unsupported-hardware` for devices
/// that the catalogue lists and no cost model describes.
pub fn device(hardware: &str) -> Result<&'static DeviceSpec, Skip> {
    let found =
        cutplane_zoo::device_from_hardware_text(hardware).or_else(|| of_machine(hardware)).ok_or_else(|| {
            let like = cutplane_zoo::suggested_devices(hardware, 3);
            let hint = if like.is_empty() { String::new() } else { format!("; like it: {}", like.join(", ")) };
            Skip::new("unknown-hardware", format!("'{hardware}' names no device of the catalogue, or several{hint}"))
        })?;
    let tpu = found.accelerator.as_ref().is_some_and(|facts| facts.architecture == Architecture::Tpu);
    if tpu {
        return Err(Skip::new("unsupported-hardware", format!("'{hardware}': systolic arrays have no kernel model")));
    }
    Ok(found)
}

/// The one device that all parts of a text agree on, each a machine, an instance or a device; of a mix there is none.
fn of_machine(hardware: &str) -> Option<&'static DeviceSpec> {
    let lower = hardware.to_ascii_lowercase();
    let parts = lower.split(" and ").flat_map(|part| part.split(['+', ',', ';', '(', ')', '/']));
    let mut devices = parts.filter_map(|part| {
        let machine = MACHINES.iter().find(|(name, _)| part.contains(name)).map_or(part, |(_, device)| *device);
        cutplane_zoo::device_from_hardware_text(machine)
    });
    let first = devices.next()?;
    devices.all(|other| other.model == first.model).then_some(first)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn every_machine_holds_a_device_of_the_catalogue() {
        for (machine, device) in MACHINES {
            assert!(of_machine(machine).is_some(), "{machine}: {device}");
        }
    }

    #[test]
    fn instances_of_clouds_are_their_devices() {
        let model = |text| device(text).unwrap().model.as_str();
        assert_eq!(model("AWS p4d.24xlarge"), "A100-SXM-40GB");
        assert_eq!(model("p4de.24xlarge"), "A100-SXM-80GB");
        assert_eq!(model("Standard_ND96asr_v4"), "A100-SXM-40GB");
        assert_eq!(model("a3-highgpu-8g"), "H100-SXM-80GB");
        assert_eq!(model("g5.48xlarge (A10G)"), "A10G");
        assert_eq!(
            device("p3.8xlarge (4x V100-16GB) and g4dn.12xlarge (4x T4)").unwrap_err().reason,
            "unknown-hardware"
        );
        assert_eq!(device("TPU v4").unwrap_err().reason, "unsupported-hardware");
        assert_eq!(device("Abacus 3").unwrap_err().reason, "unknown-hardware");
    }
}
