//! Image models: convolutional networks and vision transformers, parameters named as in torchvision's checkpoints.
//!
//! Dropout and local response normalisation are left out. Where torchvision pools to a fixed extent, so do these models if
//! the image is large enough; a smaller one, of a small twin, keeps its extent.

mod alexnet;
mod amoebanet;
mod densenet;
mod googlenet;
mod inception;
mod mobilenet;
mod model;
mod net;
mod resnet;
mod squeezenet;
mod unet;
mod vgg;
mod vit;

pub use model::{ImageModel, by_name, names};
