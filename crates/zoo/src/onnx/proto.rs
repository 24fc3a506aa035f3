//! The messages of an ONNX file (onnx.proto of ONNX 1.20) that decide a graph; all others are passed over.

use std::borrow::Cow;

use super::wire::{Field, Fields, Malformed};

/// Most nodes, initialisers, inputs or outputs of a graph.
const MAX_ENTRIES: usize = 1 << 20;
/// Most inputs, outputs and attributes of a node.
const MAX_OF_NODE: usize = 1 << 16;
/// Most axes of a tensor.
pub(super) const MAX_RANK: usize = 16;
/// Most integers of a list that is decoded one by one.
const MAX_INTS: usize = 1 << 22;

/// A model.
#[derive(Debug, Default)]
pub(super) struct Model<'a> {
    pub(super) producer: &'a str,
    /// Version of the default operator set; 0 where none is named.
    pub(super) opset: i64,
    pub(super) graph: Option<Graph<'a>>,
    pub(super) has_functions: bool,
}

/// A graph.
#[derive(Debug, Default)]
pub(super) struct Graph<'a> {
    pub(super) name: &'a str,
    pub(super) nodes: Vec<Node<'a>>,
    pub(super) initializers: Vec<Tensor<'a>>,
    pub(super) inputs: Vec<ValueInfo<'a>>,
    pub(super) outputs: Vec<ValueInfo<'a>>,
}

/// A node.
#[derive(Debug, Default)]
pub(super) struct Node<'a> {
    pub(super) name: &'a str,
    pub(super) op_type: &'a str,
    pub(super) domain: &'a str,
    pub(super) inputs: Vec<&'a str>,
    pub(super) outputs: Vec<&'a str>,
    pub(super) attributes: Vec<(&'a str, Attribute<'a>)>,
    /// The modules that the node stands in, as `torch.onnx` writes them: a list in Python's notation.
    pub(super) scopes: &'a str,
}

/// The value of an attribute.
#[derive(Clone, Debug)]
pub(super) enum Attribute<'a> {
    Float(f32),
    Int(i64),
    Text(&'a [u8]),
    Tensor(Box<Tensor<'a>>),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    /// A sub-graph or something else that no supported operator has.
    Other,
}

/// A tensor.
#[derive(Clone, Debug, Default)]
pub(super) struct Tensor<'a> {
    pub(super) name: &'a str,
    pub(super) dims: Vec<u64>,
    pub(super) element: i64,
    pub(super) data: TensorData<'a>,
}

/// Where the numbers of a tensor are.
#[derive(Clone, Debug, Default)]
pub(super) enum TensorData<'a> {
    #[default]
    None,
    /// Little-endian numbers in the file.
    Raw(&'a [u8]),
    /// Integers that were decoded.
    Ints(Vec<i64>),
    /// In another file.
    External { location: &'a str, offset: u64, length: Option<u64> },
}

/// Name and type of an input or output.
#[derive(Debug, Default)]
pub(super) struct ValueInfo<'a> {
    pub(super) name: &'a str,
    pub(super) element: i64,
    /// `None` where the file gives no shape.
    pub(super) dims: Option<Vec<Dim<'a>>>,
}

/// An extent of an input.
#[derive(Clone, Debug)]
pub(super) enum Dim<'a> {
    Fixed(i64),
    Named(Cow<'a, str>),
}

fn push<T>(list: &mut Vec<T>, item: T, limit: usize, what: &str) -> Result<(), Malformed> {
    if list.len() >= limit {
        return Err(format!("more than {limit} {what}"));
    }
    list.push(item);
    Ok(())
}

impl<'a> Model<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut model = Self::default();
        for field in Fields::of(bytes) {
            match field? {
                (2, field) => model.producer = field.text()?,
                (7, field) => model.graph = Some(Graph::parse(field.bytes()?)?),
                (8, field) => model.opset(field.bytes()?)?,
                (25, _) => model.has_functions = true,
                _ => {}
            }
        }
        Ok(model)
    }

    fn opset(&mut self, bytes: &'a [u8]) -> Result<(), Malformed> {
        let (mut domain, mut version) = ("", 0);
        for field in Fields::of(bytes) {
            match field? {
                (1, field) => domain = field.text()?,
                (2, field) => version = field.int()?,
                _ => {}
            }
        }
        if matches!(domain, "" | "ai.onnx") {
            self.opset = version;
        }
        Ok(())
    }
}

impl<'a> Graph<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut graph = Self::default();
        for field in Fields::of(bytes) {
            match field? {
                (1, field) => push(&mut graph.nodes, Node::parse(field.bytes()?)?, MAX_ENTRIES, "nodes")?,
                (2, field) => graph.name = field.text()?,
                (5, field) => {
                    push(&mut graph.initializers, Tensor::parse(field.bytes()?)?, MAX_ENTRIES, "initializers")?;
                }
                (11, field) => push(&mut graph.inputs, ValueInfo::parse(field.bytes()?)?, MAX_ENTRIES, "inputs")?,
                (12, field) => push(&mut graph.outputs, ValueInfo::parse(field.bytes()?)?, MAX_ENTRIES, "outputs")?,
                (15, _) => return Err("sparse initializers are not supported: export dense weights".to_owned()),
                _ => {}
            }
        }
        Ok(graph)
    }
}

impl<'a> Node<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut node = Self::default();
        for field in Fields::of(bytes) {
            match field? {
                (1, field) => push(&mut node.inputs, field.text()?, MAX_OF_NODE, "inputs of a node")?,
                (2, field) => push(&mut node.outputs, field.text()?, MAX_OF_NODE, "outputs of a node")?,
                (3, field) => node.name = field.text()?,
                (4, field) => node.op_type = field.text()?,
                (5, field) => {
                    push(&mut node.attributes, attribute(field.bytes()?)?, MAX_OF_NODE, "attributes of a node")?;
                }
                (7, field) => node.domain = field.text()?,
                (9, field) => node.property(field.bytes()?)?,
                _ => {}
            }
        }
        Ok(node)
    }

    fn property(&mut self, bytes: &'a [u8]) -> Result<(), Malformed> {
        let (key, value) = entry(bytes)?;
        if key == "pkg.torch.onnx.name_scopes" {
            self.scopes = value;
        }
        Ok(())
    }
}

/// Key and value of a `StringStringEntryProto`.
fn entry(bytes: &[u8]) -> Result<(&str, &str), Malformed> {
    let (mut key, mut value) = ("", "");
    for field in Fields::of(bytes) {
        match field? {
            (1, field) => key = field.text()?,
            (2, field) => value = field.text()?,
            _ => {}
        }
    }
    Ok((key, value))
}

fn attribute(bytes: &[u8]) -> Result<(&str, Attribute<'_>), Malformed> {
    let (mut name, mut value, mut ints, mut floats, mut kind) = ("", None, Vec::new(), Vec::new(), 0);
    for field in Fields::of(bytes) {
        match field? {
            (1, field) => name = field.text()?,
            (2, Field::Fixed32(bits)) => value = Some(Attribute::Float(f32::from_le_bytes(bits))),
            (3, field) => value = Some(Attribute::Int(field.int()?)),
            (4, field) => value = Some(Attribute::Text(field.bytes()?)),
            (5, field) => value = Some(Attribute::Tensor(Box::new(Tensor::parse(field.bytes()?)?))),
            (7, Field::Fixed32(bits)) => push(&mut floats, f32::from_le_bytes(bits), MAX_INTS, "floats of a list")?,
            (7, field) => floats.extend(words(field.bytes()?)?.map(f32::from_le_bytes)),
            (8, field) => field.ints(&mut ints, MAX_INTS)?,
            (20, field) => kind = field.int()?,
            _ => {}
        }
    }
    // A zero may be left out, and an empty list always is: then the type alone tells what is meant.
    let default = match kind {
        1 => Attribute::Float(0.0),
        2 => Attribute::Int(0),
        3 => Attribute::Text(b""),
        6 => Attribute::Floats(floats.clone()),
        7 => Attribute::Ints(ints.clone()),
        _ if !ints.is_empty() => Attribute::Ints(ints),
        _ if !floats.is_empty() => Attribute::Floats(floats),
        _ => Attribute::Other,
    };
    Ok((name, value.unwrap_or(default)))
}

/// The four-byte words of a packed field.
fn words(bytes: &[u8]) -> Result<impl Iterator<Item = [u8; 4]> + '_, Malformed> {
    let (words, rest) = bytes.as_chunks::<4>();
    if rest.is_empty() { Ok(words.iter().copied()) } else { Err("a list of numbers that ends inside one".to_owned()) }
}

impl<'a> Tensor<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (mut tensor, mut dims, mut ints, mut external, mut is_external) =
            (Self::default(), Vec::new(), Vec::new(), None, false);
        for field in Fields::of(bytes) {
            match field? {
                (1, field) => field.ints(&mut dims, MAX_RANK)?,
                (2, field) => tensor.element = field.int()?,
                // Packed floats and doubles lie as raw data does.
                (4 | 9 | 10, Field::Bytes(raw)) => tensor.data = TensorData::Raw(raw),
                (5 | 7 | 11, field) => field.ints(&mut ints, MAX_INTS)?,
                (8, field) => tensor.name = field.text()?,
                (13, field) => external_entry(&mut external, field.bytes()?)?,
                (14, field) => is_external = field.int()? == 1,
                _ => {}
            }
        }
        let size =
            |dim: &i64| u64::try_from(*dim).map_err(|_| format!("tensor '{}' has the extent {dim}", tensor.name));
        tensor.dims = dims.iter().map(size).collect::<Result<_, _>>()?;
        if is_external {
            let (location, offset, length) = external.ok_or("a tensor in another file that is not named")?;
            tensor.data = TensorData::External { location, offset, length };
        } else if !ints.is_empty() {
            tensor.data = TensorData::Ints(ints);
        }
        Ok(tensor)
    }

    /// Number of elements; `None` above 2^50.
    pub(super) fn elements(&self) -> Option<u64> {
        let product = self.dims.iter().try_fold(1u64, |product, dim| product.checked_mul(*dim))?;
        (product < 1 << 50).then_some(product)
    }
}

type External<'a> = Option<(&'a str, u64, Option<u64>)>;

fn external_entry<'a>(external: &mut External<'a>, bytes: &'a [u8]) -> Result<(), Malformed> {
    let (key, value) = entry(bytes)?;
    let number = || value.parse::<u64>().map_err(|_| format!("external data with {key} = '{value}'"));
    let place = external.get_or_insert(("", 0, None));
    match key {
        "location" => place.0 = value,
        "offset" => place.1 = number()?,
        "length" => place.2 = Some(number()?),
        _ => {}
    }
    Ok(())
}

impl<'a> ValueInfo<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut info = Self::default();
        for field in Fields::of(bytes) {
            match field? {
                (1, field) => info.name = field.text()?,
                (2, field) => info.of_type(field.bytes()?)?,
                _ => {}
            }
        }
        Ok(info)
    }

    fn of_type(&mut self, bytes: &'a [u8]) -> Result<(), Malformed> {
        for field in Fields::of(bytes) {
            let (1, field) = field? else { continue };
            for field in Fields::of(field.bytes()?) {
                match field? {
                    (1, field) => self.element = field.int()?,
                    (2, field) => self.dims = Some(dims(field.bytes()?)?),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

fn dims(bytes: &[u8]) -> Result<Vec<Dim<'_>>, Malformed> {
    let mut list = Vec::new();
    for field in Fields::of(bytes) {
        let (1, field) = field? else { continue };
        let mut dim = Dim::Named(Cow::Borrowed(""));
        for field in Fields::of(field.bytes()?) {
            match field? {
                (1, field) => dim = Dim::Fixed(field.int()?),
                (2, field) => dim = Dim::Named(Cow::Borrowed(field.text()?)),
                _ => {}
            }
        }
        push(&mut list, dim, MAX_RANK, "axes of an input")?;
    }
    Ok(list)
}
