//! Recurrent networks: [`Network`] in its four shapes, stacked and bidirectional, of any cell; [`Gnmt`]; [`Elmo`].
//!
//! A layer runs over all its time steps in one operator, or, with [`Network::time_chunks`], in several that hand their
//! state on: then a pipeline can cut it in time as well as in depth.

mod elmo;
mod gnmt;
mod layer;
mod network;

pub use elmo::Elmo;
pub use gnmt::Gnmt;
pub use network::{Network, Shape};
