//! `cutplane diff`: what two plan files differ in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::{Value, json};

use crate::output;

/// Lists the fields in which two plan files differ, and how their predicted steps compare.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  cutplane diff a.json b.json")]
pub(crate) struct Diff {
    /// The first plan.
    first: PathBuf,
    /// The second plan.
    second: PathBuf,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Fields that differ between any two searches.
const NOISE: [&str; 3] = ["search.search_seconds", "search.counts", "search_seconds"];
/// Where plans keep their predicted step: layouts and plans over unlike devices in seconds, runnable plans in nanoseconds.
const STEPS: [&str; 3] = ["predicted.step_s", "plan.predicted_step_s", "search.objective_ns"];

impl Diff {
    pub(crate) fn run(&self) -> Result<()> {
        let (first, second) = (fields(&self.first)?, fields(&self.second)?);
        let mut names: Vec<&String> = first.keys().chain(second.keys()).collect();
        names.sort_unstable();
        names.dedup();
        let differs = |name: &&&String| first.get(**name) != second.get(**name) && !is_noise(name);
        let differing: Vec<&String> = names.iter().filter(differs).copied().collect();
        let ratio = STEPS.iter().find_map(|name| Some(second.get(*name)?.as_f64()? / first.get(*name)?.as_f64()?));
        if self.json {
            let row = |name: &&String| json!({ "field": name, "first": first.get(*name), "second": second.get(*name) });
            let rows: Vec<Value> = differing.iter().map(row).collect();
            return output::print_json(&json!({ "step_ratio": ratio, "differences": rows }));
        }
        for name in &differing {
            println!("{name}: {} -> {}", shown(first.get(*name)), shown(second.get(*name)));
        }
        match ratio {
            Some(ratio) => println!("predicted step of the second: {:+.2}%", 100.0 * (ratio - 1.0)),
            None => println!("the predicted steps cannot be compared: they are not of one kind"),
        }
        Ok(())
    }
}

fn is_noise(name: &str) -> bool {
    NOISE.iter().any(|noise| name.starts_with(noise))
}

fn shown(value: Option<&Value>) -> String {
    value.map_or("absent".to_owned(), Value::to_string)
}

/// Every scalar of a file by its path.
fn fields(path: &Path) -> Result<BTreeMap<String, Value>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let value: Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    let mut fields = BTreeMap::new();
    flatten(String::new(), value, &mut fields);
    Ok(fields)
}

fn flatten(path: String, value: Value, fields: &mut BTreeMap<String, Value>) {
    let inner = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(map) => map.into_iter().for_each(|(name, value)| flatten(inner(&name), value, fields)),
        Value::Array(list) => {
            list.into_iter().enumerate().for_each(|(at, value)| flatten(inner(&at.to_string()), value, fields));
        }
        scalar => {
            fields.insert(path, scalar);
        }
    }
}
