//! Why work has no price.

use cutplane_graph::{Device, Dtype};
use thiserror::Error;

/// Work that a cost model cannot price. Every message names the work, the device model, and what to do.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum CostError {
    /// Traffic that the network cannot carry.
    #[error(transparent)]
    Network(#[from] crate::network::NetworkError),
    /// A device whose model was never profiled.
    #[error(
        "device '{device}' is a '{device_model}', which has no device profile: run `cutplane profile` on it, or price \
         with the roofline model"
    )]
    NoProfile {
        /// The device.
        device: String,
        /// Its model.
        device_model: String,
    },
    /// An operator that the profile has no curve for.
    #[error(
        "{work} needs the curve '{curve}', which the profile of '{device_model}' does not have: run `cutplane profile` \
         again, or price with the roofline model"
    )]
    NoCurve {
        /// What was to be priced.
        work: String,
        /// The missing curve.
        curve: String,
        /// The device model.
        device_model: String,
    },
    /// A curve that cannot be read at the point asked for.
    #[error(
        "curve '{curve}' of the profile of '{device_model}' cannot price {work}: {problem}; run `cutplane profile` again"
    )]
    BadCurve {
        /// What was to be priced.
        work: String,
        /// The curve.
        curve: String,
        /// The device model.
        device_model: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A profile without any point of a table.
    #[error("the profile of '{device_model}' has no usable point in '{table}': run `cutplane profile` again")]
    NoPoints {
        /// The table, as the profile file spells it.
        table: &'static str,
        /// The device model.
        device_model: String,
    },
    /// An element type that the device model has no numbers for.
    #[error(
        "device '{device}' ({device_model}) has no numbers for {precision}: plan with one of {known}, or add \
         'peak_tflop_per_s.{precision}' to the cluster file"
    )]
    Precision {
        /// The device.
        device: String,
        /// Its model.
        device_model: String,
        /// The element type asked for.
        precision: Dtype,
        /// The element types that it has numbers for.
        known: String,
    },
    /// Two devices that no path joins.
    #[error("no path joins devices '{from}' and '{to}': add a link between them to the cluster file")]
    NoRoute {
        /// One device.
        from: String,
        /// The other.
        to: String,
    },
}

impl CostError {
    pub(crate) fn no_profile(device: &Device) -> Self {
        Self::NoProfile { device: device.name.clone(), device_model: device.spec.model.clone() }
    }

    pub(crate) fn precision(device: &Device, precision: Dtype, known: &[Dtype]) -> Self {
        Self::Precision {
            device: device.name.clone(),
            device_model: device.spec.model.clone(),
            precision,
            known: known.iter().map(Dtype::to_string).collect::<Vec<_>>().join(", "),
        }
    }

    pub(crate) fn no_route(from: &Device, to: &Device) -> Self {
        Self::NoRoute { from: from.name.clone(), to: to.name.clone() }
    }
}
