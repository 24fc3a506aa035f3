//! What all figures share: canvas, axes, legends, house style, and the two files.

pub(crate) mod axis;
pub(crate) mod bars;
pub(crate) mod canvas;
mod font;
pub(crate) mod labels;
pub(crate) mod legend;
mod save;
pub(crate) mod style;
mod surface;

pub use canvas::{Canvas, Rendering};
pub(crate) use save::write;
pub use save::{Saved, Size, save, svg};
pub use style::Activity;
