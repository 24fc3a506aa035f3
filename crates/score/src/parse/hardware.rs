//! Devices.

use cutplane_graph::DeviceSpec;

use crate::prediction::Skip;

/// The device model that a hardware text names.
///
/// # Errors
/// [`Skip`] `unknown-hardware`, with the models of the catalogue that look most like it.
pub fn device(hardware: &str) -> Result<&'static DeviceSpec, Skip> {
    cutplane_zoo::device_from_hardware_text(hardware).ok_or_else(|| {
        let like = cutplane_zoo::suggested_devices(hardware, 3);
        let hint = if like.is_empty() { String::new() } else { format!("; like it: {}", like.join(", ")) };
        Skip::new("unknown-hardware", format!("'{hardware}' names no device of the catalogue, or several{hint}"))
    })
}
