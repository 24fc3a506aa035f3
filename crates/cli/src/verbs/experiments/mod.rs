//! `cutplane experiments`: reproduces the field's tables and figures.

mod telling;
#[cfg(feature = "runtime")]
mod twin;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use cutplane_experiments::{
    Experiment, ExperimentError, Finished, Size, Told, Verdict, check, draw, draw_twin, executed, experiment,
    experiments, kinds, page, record, run,
};
use cutplane_plan::write_atomically;
use cutplane_report::{Align, table};
use serde_json::{Value, json};

use crate::output;
use telling::{as_json, told, twin_as_json, twin_told, values};

/// Reproduces tables and figures of papers: each experiment is data, with the answer that it expects.
///
/// A folder with a definition.toml is an experiment; CONTRIBUTING.md walks through adding one.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cutplane experiments list                        what there is, and what became of it
  cutplane experiments run                         predicts, records, judges, draws all of them
  cutplane experiments run zero-memory --again     one, recorded anew
  cutplane experiments run book-mnist --execute      its scaled-down twin, on this machine's cores
  cutplane experiments check                       every definition at its smallest size, nothing written
  cutplane experiments page                        docs/experiments.md from the records")]
pub(crate) struct Experiments {
    #[command(subcommand)]
    verb: Verb,
    /// Folder of the experiments.
    #[arg(long, global = true, default_value = "paper-experiments", value_name = "FOLDER")]
    folder: PathBuf,
    /// Prints JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Lists the experiments with what their newest records say.
    List,
    /// Shows one experiment: question, claims, values.
    Show {
        /// Its name.
        name: String,
    },
    /// Predicts what is not recorded yet, appends it to the records, judges the claims, draws the figures.
    Run {
        /// Names; all if none.
        names: Vec<String>,
        /// Records anew what is recorded already.
        #[arg(long)]
        again: bool,
        /// Executes the scaled-down twins on processor ranks instead.
        #[cfg(feature = "runtime")]
        #[arg(long)]
        execute: bool,
    },
    /// Predicts the smallest size of every experiment and judges its claims; writes nothing.
    Check {
        /// Names; all if none.
        names: Vec<String>,
    },
    /// Draws the figures of the newest records again.
    Plot {
        /// Names; all if none.
        names: Vec<String>,
    },
    /// Writes the page that tells of all experiments.
    Page {
        /// The file.
        #[arg(long, default_value = "docs/experiments.md", value_name = "FILE")]
        out: PathBuf,
    },
    /// Lists what definitions can ask for: kinds with their parameters and metrics.
    Kinds,
}

impl Experiments {
    pub(crate) fn run(&self) -> Result<()> {
        match &self.verb {
            Verb::List => self.list(),
            Verb::Show { name } => self.show(name),
            #[cfg(feature = "runtime")]
            Verb::Run { names, execute: true, .. } => twin::run(&self.chosen(names)?, !names.is_empty(), self.json),
            Verb::Run { names, again, .. } => self.run_all(names, *again),
            Verb::Check { names } => self.check_all(names),
            Verb::Plot { names } => self.plot(names),
            Verb::Page { out } => self.page(out),
            Verb::Kinds => self.kinds(),
        }
    }

    fn chosen(&self, names: &[String]) -> Result<Vec<Experiment>> {
        let found = if names.is_empty() {
            experiments(&self.folder)
        } else {
            names.iter().map(|name| experiment(&self.folder, name)).collect()
        };
        let found = found?;
        anyhow::ensure!(!found.is_empty(), "{}: no experiment there; choose another --folder", self.folder.display());
        Ok(found)
    }

    fn run_all(&self, names: &[String], again: bool) -> Result<()> {
        let started = Instant::now();
        let progress = crate::progress::spinner("experiments");
        let mut done = Vec::new();
        for experiment in self.chosen(names)? {
            let show = |at: usize, of: usize, record: &record::Record| {
                progress.set_message(format!("{}: {at} of {of}: {}", experiment.name, record.case));
            };
            let finished = match run(&experiment, again, &show) {
                // Files that only the user can download: the others go on.
                Err(error @ ExperimentError::Absent { .. }) if names.is_empty() => {
                    progress.suspend(|| eprintln!("left out  {error}"));
                    continue;
                }
                other => other?,
            };
            let figures = record::latest(&experiment)?.map(|file| draw(&experiment, &file)).transpose()?;
            progress.suspend(|| {
                if !self.json {
                    print!("{}", told(&experiment, &finished, figures.unwrap_or_default().len()));
                }
            });
            done.push((experiment, finished));
        }
        progress.finish_and_clear();
        self.end(&done, started, false)
    }

    fn check_all(&self, names: &[String]) -> Result<()> {
        let started = Instant::now();
        let mut done = Vec::new();
        for experiment in self.chosen(names)? {
            match check(&experiment, Size::Smallest) {
                Err(error @ ExperimentError::Absent { .. }) if names.is_empty() => eprintln!("left out  {error}"),
                other => {
                    let finished = other?;
                    if !self.json {
                        print!("{}", told(&experiment, &finished, 0));
                    }
                    done.push((experiment, finished));
                }
            }
        }
        self.end(&done, started, true)
    }

    /// The last line; claims that fail without an explanation are an error.
    fn end(&self, done: &[(Experiment, Finished)], started: Instant, smallest: bool) -> Result<()> {
        let verdicts: Vec<&Verdict> = done.iter().flat_map(|(_, finished)| &finished.verdicts).collect();
        let count = |wanted: Option<bool>| verdicts.iter().filter(|verdict| verdict.holds == wanted).count();
        let (held, failed, open) = (count(Some(true)), count(Some(false)), count(None));
        if self.json {
            let all: Vec<Value> = done.iter().map(|(experiment, finished)| as_json(experiment, finished)).collect();
            output::print_json(&json!({ "experiments": all, "smallest": smallest }))?;
        } else {
            let cases: usize = done.iter().map(|(_, finished)| finished.records.len()).sum();
            println!(
                "{} experiments, {cases} cases, {} claims: {held} hold, {failed} do not, {open} not judged; {:.1} s",
                done.len(),
                verdicts.len(),
                started.elapsed().as_secs_f64()
            );
        }
        let unexplained: Vec<String> = done
            .iter()
            .flat_map(|(experiment, finished)| {
                let own = finished.verdicts.iter().filter(|verdict| verdict.is_unexplained());
                own.map(|verdict| format!("{}: {} ({})", experiment.name, verdict.says, verdict.detail))
            })
            .collect();
        if unexplained.is_empty() {
            return Ok(());
        }
        bail!(
            "claims that do not hold and that no 'disagreement' explains:\n  {}\nwrite into the claim why we disagree; do \
             not change the claim",
            unexplained.join("\n  ")
        )
    }

    fn told(&self, names: &[String]) -> Result<Vec<Told>> {
        let with_file = |experiment: Experiment| {
            let (file, executed) = (record::latest(&experiment)?, executed(&experiment)?);
            Ok(Told { experiment, file, executed })
        };
        self.chosen(names)?.into_iter().map(with_file).collect()
    }

    fn plot(&self, names: &[String]) -> Result<()> {
        let mut all = Vec::new();
        for Told { experiment, file, executed } in self.told(names)? {
            let mut drawn: Vec<(PathBuf, &Path)> = Vec::new();
            match &file {
                Some(file) => {
                    drawn.extend(draw(&experiment, file)?.into_iter().map(|path| (path, file.path.as_path())));
                }
                None => eprintln!("{}: nothing is recorded of this definition: run it first", experiment.name),
            }
            if let Some(executed) = &executed {
                drawn.push((draw_twin(&experiment, executed)?, &executed.path));
            }
            for (path, from) in drawn {
                if !self.json {
                    println!("{}  from {}", path.display(), from.display());
                }
                all.push(json!({ "experiment": experiment.name, "figure": path, "records": from }));
            }
        }
        if self.json { output::print_json(&all) } else { Ok(()) }
    }

    fn page(&self, out: &Path) -> Result<()> {
        output::prepare_file(out)?;
        let folder = way_to(out, &self.folder);
        let text = page(&self.told(&[])?, &folder, "cutplane experiments page");
        write_atomically(out, text.as_bytes()).with_context(|| format!("{}: cannot write", out.display()))?;
        if self.json {
            return output::print_json(&json!({ "page": out }));
        }
        println!("{}", out.display());
        Ok(())
    }

    fn list(&self) -> Result<()> {
        let mut rows = Vec::new();
        let mut all = Vec::new();
        for Told { experiment, file, executed } in self.told(&[])? {
            let records = file.as_ref().map_or(&[][..], |file| file.records.as_slice());
            let verdicts = cutplane_experiments::judge(&experiment, records);
            let held = verdicts.iter().filter(|verdict| verdict.holds == Some(true)).count();
            let paper = &experiment.definition.paper;
            all.push(json!({
                "name": experiment.name, "title": experiment.definition.title, "venue": paper.venue,
                "place": paper.place, "cases": records.len(), "claims": verdicts.len(), "hold": held,
                "recorded": file.as_ref().map(|file| &file.day),
                "twin": experiment.definition.twin.is_some(), "executed": executed.as_ref().map(|twin| &twin.day),
            }));
            rows.push(vec![
                experiment.name.clone(),
                format!("{}, {}", paper.venue, paper.place),
                records.len().to_string(),
                format!("{held} of {}", verdicts.len()),
                file.map_or("never".to_owned(), |file| file.day),
                match (&experiment.definition.twin, executed) {
                    (None, _) => String::new(),
                    (Some(_), last) => last.map_or("never".to_owned(), |twin| twin.day),
                },
            ]);
        }
        if self.json {
            return output::print_json(&all);
        }
        let columns = [
            ("experiment", Align::Left),
            ("reproduces", Align::Left),
            ("cases", Align::Right),
            ("hold", Align::Right),
            ("recorded", Align::Left),
            ("twin executed", Align::Left),
        ];
        println!("{}", table(&columns, &rows, None));
        Ok(())
    }

    fn show(&self, name: &str) -> Result<()> {
        let experiment = experiment(&self.folder, name)?;
        let file = record::latest(&experiment)?;
        let records = file.map(|file| file.records).unwrap_or_default();
        let verdicts = cutplane_experiments::judge(&experiment, &records);
        let finished = Finished { records, predicted_now: 0, verdicts, path: None };
        let twin = executed(&experiment)?;
        if self.json {
            let mut told = as_json(&experiment, &finished);
            told["twin"] = json!(twin.map(|twin| twin_as_json(&experiment, &twin)));
            return output::print_json(&told);
        }
        let definition = &experiment.definition;
        println!("{}\n{}\n", definition.title, definition.question);
        println!(
            "{}: {}, {} ({})\n",
            definition.paper.title, definition.paper.venue, definition.paper.place, definition.paper.link
        );
        println!("{}\n", definition.analysis.trim());
        print!("{}", values(&finished));
        print!("{}", told(&experiment, &finished, definition.figures.len()));
        if let Some(twin) = twin {
            print!("\n{}", twin_told(&experiment, &twin));
        }
        Ok(())
    }

    fn kinds(&self) -> Result<()> {
        if self.json {
            let one = |kind: &&dyn cutplane_experiments::Kind| {
                let parameters: Vec<Value> =
                    kind.parameters().iter().map(|own| json!({ "name": own.name, "about": own.about })).collect();
                let metrics: Vec<Value> = kind
                    .metrics()
                    .iter()
                    .map(|own| json!({ "name": own.name, "unit": own.unit, "about": own.about }))
                    .collect();
                json!({ "kind": kind.name(), "about": kind.about(), "parameters": parameters, "metrics": metrics })
            };
            return output::print_json(&kinds().iter().map(one).collect::<Vec<_>>());
        }
        for kind in kinds() {
            println!("{}: {}", kind.name(), kind.about());
            for metric in kind.metrics() {
                println!("  metric     {:<22} {} [{}]", metric.name, metric.about, metric.unit);
            }
            for parameter in kind.parameters() {
                println!("  parameter  {:<22} {}", parameter.name, parameter.about);
            }
        }
        Ok(())
    }
}

/// The way from a file to a folder, both below the working directory.
fn way_to(file: &Path, folder: &Path) -> String {
    let depth = file.parent().map_or(0, |parent| parent.components().count());
    let up = if folder.is_absolute() { String::new() } else { "../".repeat(depth) };
    format!("{up}{}", folder.display())
}
