//! Names for people from the names of a file.

use super::proto::Node;

/// Last parts of names of numbers that modules hold but do not train.
const BUFFERS: [&str; 12] = [
    "inv_freq",
    "original_inv_freq",
    "position_ids",
    "token_type_ids",
    "masked_bias",
    "running_mean",
    "running_var",
    "num_batches_tracked",
    "cos_cached",
    "sin_cached",
    "mask",
    "embed_scale",
];

/// A node in messages: its name and operator.
pub(super) fn of_node(node: &Node<'_>, index: usize) -> String {
    let name = if node.name.is_empty() { format!("number {index}") } else { shortened(node.name) };
    format!("{name} ({})", shortened(node.op_type))
}

/// A text that is not too long for a message.
pub(super) fn shortened(text: &str) -> String {
    let cut: String = text.chars().take(80).collect();
    if cut.len() < text.len() { format!("{cut}…") } else { cut }
}

/// The module that a node stands in, from the path that `torch.onnx` wrote; `None` where it wrote none.
pub(super) fn module(node: &Node<'_>) -> Option<String> {
    let scoped = scopes(node.scopes);
    if !scoped.is_empty() {
        return Some(scoped);
    }
    let path: Vec<&str> = node.name.split('/').filter(|part| !part.is_empty()).collect();
    match &path[..] {
        [modules @ .., last] if !modules.is_empty() => {
            let own = last.split('_').next() == Some(node.op_type);
            let path = if own { modules } else { &path[..] };
            // A module list repeats its own name: `/h/h.0/h.0/attn`.
            let mut parts: Vec<&str> = Vec::new();
            for part in path {
                if parts.last().is_some_and(|before| {
                    part.strip_prefix(before).is_some_and(|rest| rest.starts_with('.') || rest.is_empty())
                }) {
                    parts.pop();
                }
                parts.push(part);
            }
            Some(parts.join("."))
        }
        _ => None,
    }
}

/// The innermost module of a list such as `['', 'model', 'model.layers.0', 'add_3']`.
fn scopes(list: &str) -> String {
    let parts: Vec<&str> = list.split('\'').skip(1).step_by(2).collect();
    match parts[..] {
        [.., module, _] => module.to_owned(),
        _ => String::new(),
    }
}

/// Whether an exporter made the name of an initializer up, for a number that it computed itself.
pub(super) fn is_made_up(name: &str) -> bool {
    let numbered = |prefix: &str| {
        name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    name.is_empty()
        || name.contains("::")
        || name.starts_with('/')
        || ["", "val_", "_val_", "const_", "Constant_", "onnx_"].iter().any(|prefix| numbered(prefix))
        || !name.contains(|letter: char| letter.is_alphabetic())
}

/// Whether an initializer holds numbers that nothing trains.
pub(super) fn is_buffer(name: &str) -> bool {
    is_made_up(name) || BUFFERS.contains(&name.rsplit('.').next().unwrap_or(name)) || name.ends_with("attn.bias")
}

/// The number of the repeated layer in a path, with the path before it: `h` and 3 of `h.3.attn`.
pub(super) fn layer(path: &str) -> Option<(&str, &str)> {
    let mut at = 0;
    for part in path.split('.') {
        let end = at + part.len();
        if !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()) && at > 0 {
            return Some((&path[..at - 1], &path[at..end]));
        }
        at = end + 1;
    }
    None
}
