//! Dense newtype indices, so that an operator cannot index a table of devices.

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(u32);

        impl $name {
            /// The id of the entry at `index` of its table.
            ///
            /// # Panics
            /// When the index does not fit 32 bits.
            pub fn new(index: usize) -> Self {
                Self(u32::try_from(index).expect("fewer than 2^32 entries"))
            }

            /// The index into its table.
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

id! {
    /// An operator of a [`crate::ModelGraph`]; ids are in topological order.
    OpId, "op"
}
id! {
    /// A tensor that flows between operators of a [`crate::ModelGraph`].
    ValueId, "value"
}
id! {
    /// A trainable parameter of a [`crate::ModelGraph`].
    ParamId, "param"
}
id! {
    /// A compute device of a [`crate::DeviceGraph`].
    DeviceId, "device"
}
id! {
    /// A directed link of a [`crate::DeviceGraph`].
    LinkId, "link"
}
