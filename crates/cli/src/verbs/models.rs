//! `cutplane models`: what can be planned and run.

use anyhow::Result;
use clap::Args;
use cutplane_graph::{ModelGraph, Overrides, Pass};
use cutplane_zoo::{build, built_in_models, source_from_argument};
use serde_json::json;

use crate::output;

/// Lists the built-in models, or shows one (built-in or a Hugging Face config.json).
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cutplane models                       list the built-in models
  cutplane models gpt2                  parameters, layers, operators and cost of one
  cutplane models path/to/config.json   the same for a Hugging Face model")]
pub(crate) struct Models {
    /// A built-in name, a config.json, or the folder that holds one.
    model: Option<String>,
    /// Tokens a sample.
    #[arg(long, value_name = "TOKENS")]
    seq: Option<u64>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

impl Models {
    pub(crate) fn run(&self) -> Result<()> {
        match &self.model {
            None => self.list(),
            Some(model) => self.show(model),
        }
    }

    fn list(&self) -> Result<()> {
        let mut rows = Vec::new();
        for entry in built_in_models() {
            let graph = build(&source_from_argument(entry.name, None, Overrides::default())?)?;
            rows.push((entry, graph));
        }
        if self.json {
            let rows: Vec<_> = rows.iter().map(|(entry, graph)| facts(graph, entry.description)).collect();
            return output::print_json(&rows);
        }
        println!("{:<20} {:>16} {:>7} {:>9}  description", "model", "parameters", "layers", "operators");
        for (entry, graph) in rows {
            let parameters = grouped(graph.parameter_count());
            let (layers, ops) = (graph.layer_count(), graph.ops().len());
            println!("{:<20} {parameters:>16} {layers:>7} {ops:>9}  {}", entry.name, entry.description);
        }
        Ok(())
    }

    fn show(&self, model: &str) -> Result<()> {
        let graph = build(&source_from_argument(model, self.seq, Overrides::default())?)?;
        if self.json {
            return output::print_json(&facts(&graph, ""));
        }
        println!("model       {}", graph.name());
        println!("parameters  {}", grouped(graph.parameter_count()));
        println!("layers      {}, {} operators", graph.layer_count(), graph.ops().len());
        println!("forward     {} a sample", flops(&graph, Pass::Forward));
        println!("backward    {} a sample", flops(&graph, Pass::Backward));
        let head: Vec<_> = graph.ops().iter().filter(|op| op.layer.is_none_or(|layer| layer == 0)).collect();
        println!("operators   (repeated layers are like the first)");
        for op in head {
            println!("  {:<52} {:<20} {}", op.name, op.kind.label(), graph.value(op.output).ty);
        }
        Ok(())
    }
}

fn flops(graph: &ModelGraph, pass: Pass) -> cutplane_units::Flops {
    graph.op_ids().map(|op| graph.facts(op, pass, 1).flops).sum()
}

fn facts(graph: &ModelGraph, description: &str) -> serde_json::Value {
    json!({
        "model": graph.name(),
        "description": description,
        "parameters": graph.parameter_count(),
        "layers": graph.layer_count(),
        "operators": graph.ops().len(),
        "forward_flops_per_sample": flops(graph, Pass::Forward),
        "backward_flops_per_sample": flops(graph, Pass::Backward),
        "digest": graph.digest(),
    })
}

/// `124439808` as `124,439,808`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|chunk| std::str::from_utf8(chunk).unwrap_or_default()).collect();
    groups.join(",")
}
