//! Physical quantities as types: integer time and bytes, floating rates, and text with units both ways.
//!
//! A duration is a whole number of nanoseconds and a size a whole number of bytes, so that two simulations of one plan
//! are equal bit for bit. Only rates and money are floating point. Turning a size and a rate into a duration rounds
//! **up**: no transfer is ever shorter than physics allows.
//!
//! ```
//! use cutplane_units::{Bytes, BytesPerSecond, Nanos};
//! let payload: Bytes = "1 MiB".parse()?;
//! let link: BytesPerSecond = "25 GB/s".parse()?;
//! assert_eq!(payload.transfer_time(link), Nanos::new(41_944)); // 1,048,576 / 25e9 s, rounded up
//! # Ok::<(), cutplane_units::ParseUnitError>(())
//! ```

mod amount;
mod parse;
mod rate;

pub use amount::{Bytes, Flops, Nanos};
pub use parse::ParseUnitError;
pub use rate::{BytesPerSecond, Dollars, FlopsPerSecond};
