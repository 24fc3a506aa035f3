//! What cloud instances cost.

use serde::Serialize;

use super::catalogue::catalogue;

/// The price of an instance, with its date: prices move.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Price {
    /// The instance.
    pub instance: &'static str,
    /// The model of its devices.
    pub device: &'static str,
    /// Dollars for an hour of one device of it, on demand.
    pub dollars_per_device_hour: f64,
    /// Provider and region.
    pub region: &'static str,
    /// When the price was read, `2026-07-20`.
    pub date: &'static str,
    /// Where.
    pub source: &'static str,
}

/// The catalogue's price of a cluster argument such as `p4d.24xlarge:4`, or of a part of a mix; `None` where it has none:
/// machines that are bought, device names, files.
///
/// ```
/// let price = cutplane_zoo::price("p4d.24xlarge:4").expect("in the catalogue");
/// assert_eq!((price.dollars_per_device_hour, price.date), (21.958 / 8.0, "2026-07-20"));
/// assert_eq!(cutplane_zoo::price("dgx-a100:4"), None);
/// ```
pub fn price(argument: &str) -> Option<Price> {
    let name = argument.trim().rsplit_once(':').map_or(argument.trim(), |(name, _)| name);
    let entry = catalogue().instance(name)?;
    Some(Price {
        instance: &entry.name,
        device: &catalogue().device_of_instance(entry).model,
        dollars_per_device_hour: entry.dollars_per_hour / entry.devices as f64,
        region: &entry.region,
        date: &entry.date,
        source: &entry.source,
    })
}
