//! Image models, by their torchvision names.

use super::{Blueprint, BuiltInModel, Family};
use crate::vision;

/// Parameters as torchvision 0.19 prints them, and for what is not there as its authors do: the MNIST network of the book,
/// the networks of torchgpipe to the digits printed.
fn published(name: &str) -> (&'static str, u64) {
    match name {
        "mnist" => ("2 convolutions, 3 linear layers, 28 x 28 pixels", 1_201_382),
        "alexnet" => ("AlexNet", 61_100_840),
        "vgg11" => ("VGG of 11 layers", 132_863_336),
        "vgg13" => ("VGG of 13 layers", 133_047_848),
        "vgg16" => ("VGG of 16 layers", 138_357_544),
        "vgg19" => ("VGG of 19 layers", 143_667_240),
        "resnet18" => ("ResNet of 18 layers", 11_689_512),
        "resnet34" => ("ResNet of 34 layers", 21_797_672),
        "resnet50" => ("ResNet of 50 layers", 25_557_032),
        "resnet101" => ("ResNet of 101 layers", 44_549_160),
        "resnet152" => ("ResNet of 152 layers", 60_192_808),
        "resnet200" => ("ResNet of 200 layers", 0),
        "resnet50_v1" => ("ResNet of 50 layers, stride in the first 1x1", 25_557_032),
        "resnet101_v1" => ("ResNet of 101 layers, stride in the first 1x1", 44_549_160),
        "resnet152_v1" => ("ResNet of 152 layers, stride in the first 1x1", 60_192_808),
        "resnext50" => ("ResNeXt of 50 layers, 32 x 4d", 25_028_904),
        "resnext101" => ("ResNeXt of 101 layers, 32 x 8d", 88_791_336),
        "resnext101_32x4d" => ("ResNeXt of 101 layers, 32 x 4d", 44_177_704),
        "googlenet" => ("GoogLeNet without auxiliary classifiers", 6_624_904),
        "inception_v3" => ("Inception-v3 with its auxiliary classifier", 27_161_264),
        "mobilenet_v2" => ("MobileNetV2", 3_504_872),
        "densenet121" => ("DenseNet of 121 layers", 7_978_856),
        "densenet161" => ("DenseNet of 161 layers", 28_681_000),
        "squeezenet1_0" => ("SqueezeNet 1.0", 1_248_424),
        "squeezenet1_1" => ("SqueezeNet 1.1", 1_235_496),
        "vit_b_16" => ("vision transformer, base, patches of 16", 86_567_656),
        "vit_b_32" => ("vision transformer, base, patches of 32", 88_224_232),
        "vit_l_16" => ("vision transformer, large, patches of 16", 304_326_632),
        "amoebanetd-18-256" => ("AmoebaNet-D of 18 cells, 256 filters", 0),
        "amoebanetd-18-416" => ("AmoebaNet-D of 18 cells, 416 filters", 0),
        "unet-5-64" => ("U-Net of 5 convolutions a cell, 64 channels", 0),
        _ => ("U-Net of 6 convolutions a cell, 72 channels", 0),
    }
}

pub(super) fn models() -> Vec<BuiltInModel> {
    let entry = |name: &'static str| {
        let model = vision::by_name(name, None).ok()?;
        let (description, parameters) = published(name);
        let family = if name.starts_with("vit") { Family::Vision } else { Family::Convolutional };
        Some(BuiltInModel::new(name, description, (family, Blueprint::Image(model)), 1, parameters))
    };
    vision::names().filter_map(entry).collect()
}
