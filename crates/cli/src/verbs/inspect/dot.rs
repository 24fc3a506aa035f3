//! A drawing in the language of Graphviz.

use std::fmt::Write as _;

use super::drawing::Drawing;

/// The drawing as a `digraph`, a cluster a group.
pub(super) fn render(drawing: &Drawing) -> String {
    let mut text = format!("digraph \"{}\" {{\n", escaped(&drawing.title));
    text.push_str("  rankdir=TB; node [shape=box, style=rounded, fontname=\"sans-serif\", fontsize=10];\n");
    let grouped = drawing.groups.first().map_or(drawing.nodes.len(), |group| group.nodes.start);
    for node in 0..grouped {
        let _ = writeln!(text, "  {}", node_line(drawing, node));
    }
    for (index, group) in drawing.groups.iter().enumerate() {
        let times = if group.count > 1 { format!(" × {}", group.count) } else { String::new() };
        let _ = writeln!(text, "  subgraph cluster_{index} {{ label=\"{}{times}\";", escaped(&group.name));
        for node in group.nodes.clone() {
            let _ = writeln!(text, "    {}", node_line(drawing, node));
        }
        text.push_str("  }\n");
    }
    for (from, to) in &drawing.edges {
        let _ = writeln!(text, "  n{from} -> n{to};");
    }
    text.push_str("}\n");
    text
}

fn node_line(drawing: &Drawing, node: usize) -> String {
    let facts = &drawing.nodes[node];
    format!("n{node} [label=\"{}\\n{}\"];", escaped(&facts.title), escaped(&facts.detail))
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
