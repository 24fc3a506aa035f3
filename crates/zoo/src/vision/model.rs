//! Image models by name.

use cutplane_graph::{
    Dtype, InputRole, ModelError, ModelGraph, ModelGraphBuilder, OpKind, Overrides, ScaleShift, TensorType,
};

use super::net::{Added, Net, Scale};
use super::{alexnet, amoebanet, densenet, googlenet, inception, mobilenet, resnet, squeezenet, unet, vgg, vit};
use crate::error::ZooError;
use crate::limits::{
    MAX_HIDDEN, MAX_IMAGE, MAX_LAYERS, MAX_VOCAB, Replacing, all_in_range, check_scores, field_error, of_model,
};
use crate::recipe::Recipe;

/// From the image to logits; a segmentation model gives logits of every pixel.
pub(super) type Body = fn(&mut Net<'_>, cutplane_graph::ValueId) -> Added;

/// What a name stands for.
#[derive(Debug)]
struct Entry {
    name: &'static str,
    body: Body,
    image: u64,
    channels: u64,
    classes: u64,
    /// Channels of the first layer, or width of the residual stream: what an override of the hidden size replaces.
    hidden: u64,
    /// Side of a patch of a vision transformer.
    patch: u64,
}

/// An image classifier on ImageNet's 1000 classes.
const fn classifier(name: &'static str, body: Body, hidden: u64) -> Entry {
    Entry { name, body, image: 224, channels: 3, classes: 1000, hidden, patch: 0 }
}

const fn transformer(name: &'static str, body: Body, hidden: u64, patch: u64) -> Entry {
    Entry { patch, ..classifier(name, body, hidden) }
}

static ENTRIES: [Entry; 32] = [
    Entry { image: 28, channels: 1, classes: 10, ..classifier("mnist", alexnet::mnist, 32) },
    classifier("alexnet", alexnet::alexnet, 64),
    classifier("vgg11", vgg::vgg11, 64),
    classifier("vgg13", vgg::vgg13, 64),
    classifier("vgg16", vgg::vgg16, 64),
    classifier("vgg19", vgg::vgg19, 64),
    classifier("resnet18", resnet::resnet18, 64),
    classifier("resnet34", resnet::resnet34, 64),
    classifier("resnet50", resnet::resnet50, 64),
    classifier("resnet101", resnet::resnet101, 64),
    classifier("resnet152", resnet::resnet152, 64),
    classifier("resnet200", resnet::resnet200, 64),
    classifier("resnet50_v1", resnet::resnet50_v1, 64),
    classifier("resnet101_v1", resnet::resnet101_v1, 64),
    classifier("resnet152_v1", resnet::resnet152_v1, 64),
    classifier("resnext50", resnet::resnext50, 64),
    classifier("resnext101", resnet::resnext101, 64),
    classifier("resnext101_32x4d", resnet::resnext101_32x4d, 64),
    classifier("googlenet", googlenet::googlenet, 64),
    Entry { image: 299, ..classifier("inception_v3", inception::inception_v3, 32) },
    classifier("mobilenet_v2", mobilenet::mobilenet_v2, 32),
    classifier("densenet121", densenet::densenet121, 64),
    classifier("densenet161", densenet::densenet161, 96),
    classifier("squeezenet1_0", squeezenet::squeezenet1_0, 96),
    classifier("squeezenet1_1", squeezenet::squeezenet1_1, 64),
    transformer("vit_b_16", vit::base_16, 768, 16),
    transformer("vit_b_32", vit::base_32, 768, 32),
    transformer("vit_l_16", vit::large_16, 1024, 16),
    classifier("amoebanetd-18-256", amoebanet::amoebanet_18_256, 256),
    classifier("amoebanetd-18-416", amoebanet::amoebanet_18_416, 416),
    Entry { image: 192, classes: 1, ..classifier("unet-5-64", unet::unet_5_64, 64) },
    Entry { image: 192, classes: 1, ..classifier("unet-6-72", unet::unet_6_72, 72) },
];

/// The image models that have a name.
pub fn names() -> impl Iterator<Item = &'static str> {
    ENTRIES.iter().map(|entry| entry.name)
}

/// An image model with the sizes of its paper, by its torchvision name; `image` is the height and width in pixels, `None`
/// for the published one.
///
/// # Errors
/// [`ZooError::UnknownModel`] for another name.
pub fn by_name(name: &str, image: Option<u64>) -> Result<ImageModel, ZooError> {
    let Some(entry) = ENTRIES.iter().find(|entry| entry.name == name) else {
        let known = names().collect::<Vec<_>>().join(", ");
        return Err(ZooError::UnknownModel { argument: name.to_owned(), known });
    };
    let image = image.unwrap_or(entry.image);
    let (classes, hidden) = (entry.classes, entry.hidden);
    Ok(ImageModel { entry, image, classes, hidden, depth: None })
}

/// An image model of any size; see [`by_name`].
#[derive(Clone, Copy, Debug)]
pub struct ImageModel {
    entry: &'static Entry,
    /// Height and width, pixels.
    pub image: u64,
    /// Classes.
    pub classes: u64,
    /// Channels of the first layer; all others keep their ratio to it.
    pub hidden: u64,
    /// Most repetitions of a block in a stage; `None` for the published ones.
    pub depth: Option<u64>,
}

impl ImageModel {
    /// The graph: `image [channels, side, side]` and `targets []`, the class, to the mean cross-entropy; a segmentation
    /// model is compared with a target image, to the mean squared error.
    ///
    /// # Errors
    /// [`ZooError`] for sizes that are not possible.
    pub fn graph(&self) -> Result<ModelGraph, ZooError> {
        self.check(self.entry.name, 1)?;
        self.build(self.entry.name, 1)
    }

    fn model(&self) -> Result<ModelGraph, ModelError> {
        let mut b = ModelGraphBuilder::new(self.entry.name);
        let pixels = TensorType::batched(&[self.entry.channels, self.image, self.image], Dtype::F32);
        let image = b.input("image", InputRole::Image, pixels)?;
        let segments = self.entry.name.starts_with("unet");
        let targets = if segments {
            let ty = TensorType::batched(&[self.classes, self.image, self.image], Dtype::F32);
            b.input("targets", InputRole::FeatureTargets, ty)?
        } else {
            b.input("targets", InputRole::Classes, TensorType::batched(&[], Dtype::I32))?
        };
        let scale = Scale { width: (self.hidden, self.entry.hidden), depth: self.depth };
        let mut net = Net::new(&mut b, scale, self.classes, targets);
        let logits = (self.entry.body)(&mut net, image)?;
        net.no_layer();
        let auxiliary = std::mem::take(&mut net.auxiliary);
        let kind = if segments {
            OpKind::MeanSquaredError(cutplane_graph::MeanSquaredError {})
        } else {
            OpKind::CrossEntropy { classes: self.classes, counted: 1 }
        };
        let mut loss = b.op("loss", kind, &[logits, targets])?;
        for (index, (other, weight)) in auxiliary.into_iter().enumerate() {
            let scaled = OpKind::ScaleShift(ScaleShift { scale: weight, shift: 0.0 });
            let other = b.op(&format!("loss.auxiliary.{index}"), scaled, &[other])?;
            loss = b.op(&format!("loss.sum.{index}"), OpKind::Add, &[loss, other])?;
        }
        b.loss(loss).build()
    }
}

impl Recipe for ImageModel {
    /// Layers are the most repetitions of a block in a stage, the hidden size the channels of the first layer, the
    /// vocabulary the classes.
    fn override_with(&mut self, origin: &str, overrides: &Overrides) -> Result<(), ZooError> {
        let replacing = Replacing { origin, overrides };
        replacing.only(&["layers", "hidden", "vocab", "image"])?;
        let mut depth = self.depth.unwrap_or(MAX_LAYERS);
        replacing.size("layers", overrides.layers, &mut depth, MAX_LAYERS)?;
        self.depth = overrides.layers.map(|_| depth).or(self.depth);
        replacing.size("hidden", overrides.hidden, &mut self.hidden, MAX_HIDDEN)?;
        replacing.size("vocab", overrides.vocab, &mut self.classes, MAX_VOCAB)?;
        replacing.size("image", overrides.image, &mut self.image, MAX_IMAGE)?;
        Ok(())
    }

    fn check(&self, origin: &str, sequence_length: u64) -> Result<(), ZooError> {
        all_in_range(
            origin,
            &[
                ("image", self.image, MAX_IMAGE),
                ("classes", self.classes, MAX_VOCAB),
                ("hidden", self.hidden, MAX_HIDDEN),
            ],
        )?;
        if sequence_length != 1 {
            let problem = format!("is {sequence_length}, but a sample of this model is one image");
            return Err(field_error(
                origin,
                "sequence_length",
                problem,
                "leave it out; images have a height and width",
            ));
        }
        let patches = self.image.checked_div(self.entry.patch).unwrap_or(0);
        check_scores(origin, patches * patches, 16)
    }

    fn build(&self, origin: &str, _: u64) -> Result<ModelGraph, ZooError> {
        self.model().map_err(of_model(origin))
    }

    fn context(&self) -> u64 {
        1
    }
}
