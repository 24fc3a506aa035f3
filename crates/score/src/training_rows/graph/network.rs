//! The networks that rows name.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use cutplane_graph::{ModelGraph, ModelSource, Overrides};

use super::gnmt;
use crate::parse::{self, SoftwareFamily};
use crate::prediction::Skip;
use crate::row::Row;

/// A network and what its samples hold.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    /// Its operators.
    pub(crate) graph: Arc<ModelGraph>,
    /// Bytes that the recipe's optimizer moves a parameter.
    pub(crate) update_bytes: u64,
    /// Deviation of the work in a replica's batch over its mean.
    pub(crate) deviation: f64,
    /// Tokens that a sample counts, source and target together, of networks over text.
    pub(crate) tokens_per_sample: Option<f64>,
}

/// SGD with momentum: three reads and two writes of 32 bits.
const MOMENTUM_BYTES: u64 = 20;
/// Adam, four reads and three writes, with gradients clipped to a norm: one more read and write.
const ADAM_BYTES: u64 = 36;

/// What names contain, letters and digits alone, and the zoo's model; the first match counts.
const NETWORKS: [(&str, &str); 31] = [
    ("resnext10132x4d", "resnext101_32x4d"),
    ("resnext10132x8d", "resnext101"),
    ("resnext5032x4d", "resnext50"),
    ("resnext50", "resnext50"),
    ("resnet18", "resnet18"),
    ("resnet34", "resnet34"),
    ("resnet50", "resnet50"),
    ("resnet101", "resnet101"),
    ("resnet152", "resnet152"),
    ("resnet200", "resnet200"),
    ("inceptionv1", "googlenet"),
    ("googlenet", "googlenet"),
    ("inceptionv3", "inception_v3"),
    ("vgg11", "vgg11"),
    ("vgg13", "vgg13"),
    ("vgg16", "vgg16"),
    ("vgg19", "vgg19"),
    ("alexnet", "alexnet"),
    ("densenet121", "densenet121"),
    ("densenet161", "densenet161"),
    ("squeezenet11", "squeezenet1_1"),
    ("squeezenet", "squeezenet1_0"),
    ("mobilenetv2", "mobilenet_v2"),
    ("amoebanetd18256", "amoebanetd-18-256"),
    ("amoebanetd18416", "amoebanetd-18-416"),
    ("unet564", "unet-5-64"),
    ("unet672", "unet-6-72"),
    ("vitb16", "vit_b_16"),
    ("vitb32", "vit_b_32"),
    ("vitl16", "vit_l_16"),
    ("mnist", "mnist"),
];

/// Variants that a name of the table above does not stand for.
const VARIANTS: [&str; 17] = [
    "seresne",
    "ssd",
    "rcnn",
    "retinanet",
    "deeplab",
    "fcn",
    "inceptionresnet",
    "wideresnet",
    "wrn",
    "resnet50d",
    "resnest",
    "preresnet",
    "resnetrs",
    "yolo",
    "stablediffusion",
    "clip",
    "moco",
];

/// The network of a row, built once a name.
///
/// # Errors
/// [`Skip`] `unsupported-network` for names that stand for no graph of the zoo.
pub(super) fn network(row: &Row, name: &str) -> Result<Network, Skip> {
    let plain: String = row.model.to_ascii_lowercase().chars().filter(char::is_ascii_alphanumeric).collect();
    let plain = plain.replace("vitbasepatch", "vitb").replace("vitlargepatch", "vitl");
    if plain.contains("gnmt") {
        let family = parse::software(&row.framework).family;
        if matches!(family, SoftwareFamily::TensorFlow1 | SoftwareFamily::TensorFlow2) {
            let detail = "TensorFlow's GNMT runs its recurrent layers step by step in a loop of the graph";
            return Err(Skip::new("unsupported-recurrent-layers", detail));
        }
        let graph = built("gnmt-v2", || gnmt::graph().map_err(|error| impossible(&error)))?;
        return Ok(Network {
            graph,
            update_bytes: ADAM_BYTES,
            deviation: gnmt::LENGTH_DEVIATION,
            tokens_per_sample: Some(gnmt::TOKENS_PER_SAMPLE),
        });
    }
    let variant = VARIANTS.iter().any(|variant| plain.contains(variant));
    let named = |part: &str| plain.contains(part) && !goes_on(&row.model, part);
    let found = NETWORKS.iter().find(|(part, _)| named(part)).filter(|_| !variant);
    let Some((_, zoo)) = found.copied() else {
        return Err(Skip::new("unsupported-network", format!("'{}' ({name}) is no graph of the zoo", row.model)));
    };
    let zoo = as_first_published(row, zoo);
    let graph = built(zoo, || {
        let source = ModelSource::BuiltIn { name: zoo.to_owned(), overrides: Overrides::default(), sequence_length: 1 };
        cutplane_zoo::build(&source).map_err(|error| impossible(&error))
    })?;
    Ok(Network { graph, update_bytes: MOMENTUM_BYTES, deviation: 0.0, tokens_per_sample: None })
}

/// Whether the number at the end of `part` is the beginning of a longer one in the name: ResNet-50 is no ResNet-5000.
fn goes_on(name: &str, part: &str) -> bool {
    let number = &part[part.trim_end_matches(|c: char| c.is_ascii_digit()).len()..];
    let numbers = || name.split(|c: char| !c.is_ascii_digit());
    !number.is_empty() && numbers().all(|one| one != number) && numbers().any(|one| one.starts_with(number))
}

/// TensorFlow's benchmarks stride in the first 1x1 of a bottleneck unless they say v1.5.
fn as_first_published(row: &Row, zoo: &'static str) -> &'static str {
    let benchmarks = row.framework.to_ascii_lowercase().contains("tf_cnn_benchmarks");
    match zoo {
        _ if !benchmarks || row.model.contains("1.5") => zoo,
        "resnet50" => "resnet50_v1",
        "resnet101" => "resnet101_v1",
        "resnet152" => "resnet152_v1",
        other => other,
    }
}

fn impossible(error: &dyn std::fmt::Display) -> Skip {
    Skip::new("impossible-network", error.to_string())
}

/// Graphs by name: many rows name the same few.
static GRAPHS: LazyLock<Mutex<HashMap<String, Arc<ModelGraph>>>> = LazyLock::new(Mutex::default);

fn built(name: &str, build: impl FnOnce() -> Result<ModelGraph, Skip>) -> Result<Arc<ModelGraph>, Skip> {
    let mut known = GRAPHS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(graph) = known.get(name) {
        return Ok(graph.clone());
    }
    let graph = Arc::new(build()?);
    known.insert(name.to_owned(), graph.clone());
    Ok(graph)
}
