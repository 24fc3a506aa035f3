//! `cutplane inspect`: what a model is made of, folded, and a drawing of it.

mod dot;
mod drawing;
mod summary;
mod svg;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use cutplane_graph::fold;
use cutplane_plan::write_atomically;

use crate::context::ModelArgs;
use crate::output;
use drawing::Drawing;
use summary::Summary;

/// Shows a model's layers with repeated blocks folded, its parameters, work and memory; draws its graph.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cutplane inspect llama-3.1-405b --seq 8192      layers, parameters, FLOPs, memory by element type
  cutplane inspect path/to/config.json --ops      and every operator of each block
  cutplane inspect resnet50 --svg resnet.svg      a drawing, repeated blocks once
  cutplane inspect t5-small --dot t5.dot --json   Graphviz, and the same facts as data")]
pub(crate) struct Inspect {
    #[command(flatten)]
    model: ModelArgs,
    /// Lists the operators of every block.
    #[arg(long)]
    ops: bool,
    /// Writes the folded graph for Graphviz.
    #[arg(long, value_name = "FILE")]
    dot: Option<PathBuf>,
    /// Writes the folded graph as a drawing.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub(crate) fn run(&self) -> Result<()> {
        let (_, model) = self.model.load()?;
        let folded = fold(&model);
        let summary = Summary::new(&model, &folded);
        if self.dot.is_some() || self.svg.is_some() {
            let drawing = Drawing::new(&model, &folded);
            save(self.dot.as_deref(), || dot::render(&drawing))?;
            save(self.svg.as_deref(), || svg::render(&drawing))?;
        }
        if self.json {
            return output::print_json(&summary);
        }
        print!("{}", summary.text(self.ops));
        for path in [&self.dot, &self.svg].into_iter().flatten() {
            println!("saved        {}", path.display());
        }
        Ok(())
    }
}

fn save(path: Option<&Path>, render: impl FnOnce() -> String) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    output::prepare_file(path)?;
    write_atomically(path, render().as_bytes()).with_context(|| format!("{}: cannot write", path.display()))
}
