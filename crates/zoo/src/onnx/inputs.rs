//! Inputs of the graph: which axis is the batch, how long the others are, and what they are fed with.

use cutplane_graph::{Dtype, InputRole, OpKind};

use super::constant::Constant;
use super::extent::Extent;
use super::import::{Entry, Importer, is_float, type_of};
use super::ir::{Body, Node, Value};
use super::proto::{Dim, Graph, ValueInfo};

/// Longest axis of an input.
const MAX_EXTENT: i64 = 1 << 32;

type Problem<'a> = (&'a str, String);

/// Declares the inputs that are no initializers.
pub(super) fn declare<'a>(importer: &mut Importer<'a>, graph: &'a Graph<'a>) -> Result<(), Problem<'a>> {
    for input in graph.inputs.iter().filter(|input| !graph.initializers.iter().any(|tensor| tensor.name == input.name))
    {
        let entry = one(importer, input).map_err(|problem| (input.name, problem))?;
        importer.env.insert(input.name, entry);
    }
    Ok(())
}

fn one(importer: &mut Importer<'_>, input: &ValueInfo<'_>) -> Result<Entry, String> {
    if ["past_key_values", "past_key", "past_value", "cache_"].iter().any(|word| input.name.contains(word)) {
        return Err("is a cache of keys and values: export the model without one (use_cache=False)".to_owned());
    }
    let dims = dims(importer, input)?;
    let float = is_float(input.element);
    if let Some(constant) = assumed(input.name, float, &dims) {
        return Ok(Entry::Constant(constant));
    }
    if input.element == 8 || input.element == 9 {
        return Err(format!("has the ONNX element type {}; inputs are integers or floats", input.element));
    }
    let dtype = if float { Dtype::F32 } else { Dtype::I32 };
    let ty = type_of(&dims, dtype);
    let name = input.name.to_owned();
    let role = role(&name, float, ty.dims.len());
    let id = importer.ir.add(Node { name, body: Body::Input(role), inputs: Vec::new(), params: Vec::new(), ty });
    Ok(Entry::Value(Value { id, dims }))
}

/// Inputs that say what no data of this house has: padding, and positions that do not count up.
fn assumed(name: &str, float: bool, dims: &[Extent]) -> Option<Constant> {
    let [.., length] = dims else { return None };
    let count = length.number()?;
    if float || dims[..dims.len() - 1].iter().any(|extent| *extent != Extent::ONE && *extent != Extent::BATCH) {
        return None;
    }
    let name = name.to_ascii_lowercase();
    if name.ends_with("attention_mask") {
        return Some(Constant::ints(dims.to_vec(), (0..count).map(|_| Extent::ONE)));
    }
    (name.ends_with("position_ids")).then(|| Constant::ints(dims.to_vec(), (0..count).map(Extent::known)))
}

fn role(name: &str, float: bool, rank: usize) -> InputRole {
    let name = name.to_ascii_lowercase();
    match (float, rank) {
        (false, _) if name.contains("decoder") => InputRole::DecoderTokens,
        (false, _) if name.contains("token_type") || name.contains("segment") => InputRole::TokenTypes,
        (false, _) => InputRole::Tokens,
        (true, 3) => InputRole::Image,
        (true, _) => InputRole::Features,
    }
}

fn dims(importer: &mut Importer<'_>, input: &ValueInfo<'_>) -> Result<Vec<Extent>, String> {
    let Some(dims) = &input.dims else { return Err("has no shape".to_owned()) };
    let mut list = Vec::with_capacity(dims.len());
    for (axis, dim) in dims.iter().enumerate() {
        list.push(extent(importer, input.name, axis, dim)?);
    }
    if list.iter().filter(|extent| extent.per_sample).count() > 1 {
        return Err("has the batch on two axes".to_owned());
    }
    Ok(list)
}

/// The length of an axis: as given, as the file fixes it, or the batch on the first axis and the sequence after it.
fn extent(importer: &mut Importer<'_>, input: &str, axis: usize, dim: &Dim<'_>) -> Result<Extent, String> {
    let options = importer.options;
    let named = match dim {
        Dim::Named(name) => name.as_ref(),
        Dim::Fixed(_) => "",
    };
    let place = format!("{input}.{axis}");
    let given = options.dims.get(&place).or_else(|| options.dims.get(named).filter(|_| !named.is_empty()));
    let number = match (given, dim) {
        (Some(given), _) => i64::try_from(*given).unwrap_or(i64::MAX),
        (None, Dim::Fixed(number)) if axis > 0 => *number,
        (None, Dim::Fixed(number)) => {
            if *number < 1 || importer.batch.is_some_and(|batch| batch != *number) {
                return Err(format!(
                    "begins with {number} samples, which do not fit the other inputs: give dimension '{place}' if that axis is not the batch"
                ));
            }
            importer.batch = Some(*number);
            return Ok(Extent::BATCH);
        }
        (None, Dim::Named(_)) if axis == 0 => return Ok(Extent::BATCH),
        (None, Dim::Named(_)) => match options.sequence_length {
            Some(length) => i64::try_from(length).unwrap_or(i64::MAX),
            None => {
                return Err(format!(
                    "has the open dimension '{named}' on axis {axis}: give the sequence length, or dimension '{place}'"
                ));
            }
        },
    };
    if (1..=MAX_EXTENT).contains(&number) {
        return Ok(Extent::known(number));
    }
    Err(format!("has {number} elements on axis {axis}; 1 to {MAX_EXTENT} are possible"))
}

/// The loss on the first output, with the input that it is compared with.
pub(super) fn loss(ir: &mut super::ir::Ir, logits: usize) -> Result<usize, String> {
    let ty = ir.node(logits).ty.clone();
    let Some((classes, rest)) = ty.dims.split_last().filter(|_| ty.batched && ty.dtype == Dtype::F32) else {
        return Err(format!("the output is {ty}, which has no classes: import it without a loss"));
    };
    let role = if rest.is_empty() { InputRole::Classes } else { InputRole::NextTokens };
    let targets = cutplane_graph::TensorType { dims: rest.to_vec(), dtype: Dtype::I32, batched: true };
    let body = Body::Input(role);
    let targets =
        ir.add(Node { name: "targets".to_owned(), body, inputs: Vec::new(), params: Vec::new(), ty: targets });
    "loss".clone_into(&mut ir.name);
    let counted = rest.iter().product();
    ir.op(OpKind::CrossEntropy { classes: *classes, counted }, &[logits, targets])
}
