//! `cutplane gpu-check`: the check list of a card, in one command.

mod correctness;
mod journal;
mod pytorch;
mod rates;
mod steps;
mod summary;
mod supervisor;
mod table;
mod work;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use cutplane_record::Provenance;
use cutplane_runtime::devices::probe;
use serde_json::json;

use crate::output;
use journal::Journal;
use summary::Outcome;
use work::Target;

/// Checks a card and measures it: numbers against a core's, rates and profile, predicted against measured steps,
/// PyTorch.
///
/// Goes on after a failed case and records it. Each result is on disk as soon as it is there. Ends with an error when
/// a case failed.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  cutplane gpu-check --out results                      the whole list on card 0, at most 9 minutes
  cutplane gpu-check --out results --only a,b --card 1  two of its items on another card
  cutplane gpu-check --out /tmp/try --rehearse          the same steps with tiny models on cores: no card needed

Items: a correctness, b device profile and rates, c predicted against measured, d PyTorch.
Results: summary.txt, summary.json, machine.json, correctness.csv, profile.toml, rates.csv, records.csv, pytorch.csv.")]
pub(crate) struct GpuCheck {
    /// Folder for the results; a folder with results of an earlier call is gone on with.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Time for the whole list.
    #[arg(long, default_value_t = 9.0, value_name = "MINUTES")]
    minutes: f64,
    /// Items to do.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "a,b,c,d", value_name = "ITEMS")]
    only: Vec<Item>,
    /// Number of the card.
    #[arg(long, default_value_t = 0)]
    card: usize,
    /// Uses this device profile instead of measuring one.
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Rehearses the list on cores of this machine, with tiny models.
    #[arg(long, conflicts_with = "card")]
    rehearse: bool,
    /// Prints the summary as JSON.
    #[arg(long)]
    json: bool,
    /// Does one item in this process, for so many seconds: how the list runs its items.
    #[arg(long, hide = true, value_name = "SECONDS")]
    worker: Option<f64>,
}

/// A part of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Item {
    /// Losses and gradients.
    A,
    /// Profile and rates.
    B,
    /// Predicted against measured.
    C,
    /// PyTorch.
    D,
}

impl Item {
    fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
            Self::C => "c",
            Self::D => "d",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::A => "losses and gradients against f32 on a core",
            Self::B => "device profile and rates",
            Self::C => "predicted against measured step time and memory",
            Self::D => "the same models in PyTorch",
        }
    }

    /// Share of the time that is left which the item may take, its successors in mind.
    fn share(self) -> f64 {
        match self {
            Self::A => 0.2,
            Self::B => 0.3,
            Self::C => 0.75,
            Self::D => 1.0,
        }
    }
}

impl GpuCheck {
    pub(crate) fn run(&self) -> Result<()> {
        match self.worker {
            Some(seconds) => self.work(Duration::from_secs_f64(seconds.clamp(0.0, 86_400.0))),
            None => self.supervise(),
        }
    }

    fn target(&self) -> Target {
        if self.rehearse { Target::Rehearsal } else { Target::Card(self.card) }
    }

    /// The items of this process, one after another, each in its share of the time.
    fn work(&self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        for item in &self.only {
            let left = end.saturating_duration_since(Instant::now());
            let last = self.only.last() == Some(item);
            let share = if last { left } else { left.mul_f64(item.share()) };
            let mut journal = Journal::open(&self.out, item.name(), Instant::now() + share)?;
            match item {
                Item::A => correctness::run(self.target(), &self.out, &mut journal)?,
                Item::B => rates::run(self.target(), &self.out, self.profile.as_deref(), &mut journal)?,
                Item::C => steps::run(self.target(), &self.out, &mut journal)?,
                Item::D => pytorch::run(self.target(), &self.out, &mut journal)?,
            }
        }
        Ok(())
    }

    fn supervise(&self) -> Result<()> {
        ensure!(self.minutes.is_finite() && self.minutes > 0.0, "--minutes must be above zero and finite");
        let machine = self.machine()?;
        output::prepare_folder(&self.out)?;
        self.describe(&self.out.join("machine.json"))?;
        supervisor::run(self, Duration::from_secs_f64(60.0 * self.minutes.min(1440.0)))?;
        let outcome = |item: &Item| {
            let entries = Journal::open(&self.out, item.name(), Instant::now())?.entries();
            Ok(Outcome { item: item.name(), title: item.title(), entries })
        };
        let outcomes = self.only.iter().map(outcome).collect::<Result<Vec<_>>>()?;
        let (text, value) = summary::write(&self.out, &machine, &outcomes)?;
        if self.json {
            output::print_json(&value)?;
        } else {
            print!("{text}");
            println!("\nsaved    {}", self.out.display());
        }
        let failed: Vec<&str> =
            outcomes.iter().filter(|outcome| !outcome.passed()).map(|outcome| outcome.item).collect();
        ensure!(failed.is_empty(), "failed cases in {}: see summary.txt", failed.join(", "));
        Ok(())
    }

    /// What is checked, for people; an error in one line when it cannot be.
    fn machine(&self) -> Result<String> {
        if self.rehearse {
            return Ok("cores of this machine: a rehearsal".to_owned());
        }
        let probe = probe();
        probe.cards_ready(&[self.card])?;
        let version = probe.driver_version.as_deref().unwrap_or("unknown");
        Ok(format!("{}, driver {version}", probe.cards[self.card].name))
    }

    fn describe(&self, path: &Path) -> Result<()> {
        let (variable, default) = supervisor::TUNING;
        let tuning = std::env::var(variable).unwrap_or_else(|_| default.to_owned());
        let provenance = Provenance::capture();
        let text = json!({ "provenance": provenance, "probe": probe(), "card": self.card, "autotune_level": tuning });
        Ok(cutplane_plan::write_atomically(path, serde_json::to_string_pretty(&text)?.as_bytes())?)
    }
}
