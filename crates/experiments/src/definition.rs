//! Definitions: what a paper printed, what we ask for, what must hold. Data, not code.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::claim::{Claim, TwinClaim};
use crate::error::ExperimentError;
use crate::figure::FigureSpec;
use crate::kinds::{Kind, kind};
use crate::value::Parameters;

/// The file of a definition, in the folder of its experiment.
pub const DEFINITION_FILE: &str = "definition.toml";

/// What is reproduced.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paper {
    /// Authors and title.
    pub title: String,
    /// Venue or report, and year.
    pub venue: String,
    /// Where it can be read.
    pub link: String,
    /// The figure or table, `Table 2`.
    pub place: String,
}

/// Files that are not part of the project.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Needs {
    /// Where the user downloads them.
    pub from: String,
    /// Folders that are looked in, from the folder that holds all experiments, in this order.
    pub folders: Vec<PathBuf>,
    /// A file that shows that they are there.
    pub file: PathBuf,
}

/// Values over that of another case.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relative {
    /// The other case: these parameters are changed.
    pub to: Parameters,
    /// The other value over this one, for times: a speed-up.
    #[serde(default)]
    pub inverted: bool,
    /// Also divided by the ratio of this parameter: an efficiency.
    pub per: Option<String>,
}

/// Cases that share a kind and a metric.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Its name, unique in the definition.
    pub name: String,
    /// What answers: see `cutplane experiments kinds`.
    pub kind: String,
    /// Which of the kind's metrics.
    pub metric: String,
    /// Unit of relative values and of kinds whose unit depends on parameters; else the metric's own.
    pub unit: Option<String>,
    /// Parameters that all cases share.
    #[serde(default)]
    pub fixed: Parameters,
    /// Lists of values: all combinations are cases.
    #[serde(default)]
    pub sweep: std::collections::BTreeMap<String, Vec<crate::value::Value>>,
    /// Cases one by one, each combined with the sweep.
    #[serde(default)]
    pub cases: Vec<Parameters>,
    /// Table of published values: its columns but `published`, `citation` and `note` are parameters.
    pub published: Option<PathBuf>,
    /// Whether each row of the table is a case, rather than joined to the cases that match it.
    #[serde(default)]
    pub cases_from_published: bool,
    /// Parameters that tell the cases apart, in the order of their names; by default all that vary.
    pub keys: Option<Vec<String>>,
    /// Values over that of another case.
    pub relative: Option<Relative>,
    /// Cases of the smallest size: these values only.
    #[serde(default)]
    pub smallest: std::collections::BTreeMap<String, Vec<crate::value::Value>>,
}

/// A scaled-down twin that processor ranks execute.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Twin {
    /// Built-in model, `gpt-nano`.
    pub model: String,
    /// Devices, `cpu:2`.
    pub devices: String,
    /// Plans by name, `dp2`.
    pub plans: Vec<String>,
    /// Samples of a step.
    pub batch: u64,
    /// Tokens of a sample.
    pub seq: Option<u64>,
    /// Replaces the number of layers.
    pub layers: Option<u64>,
    /// Measured steps of each plan.
    #[serde(default = "default_steps")]
    pub steps: u64,
    /// What the twin shows.
    pub says: String,
    /// What must hold of the step times, those measured and those predicted.
    #[serde(rename = "claim", default)]
    pub claims: Vec<TwinClaim>,
}

const fn default_steps() -> u64 {
    5
}

/// An experiment.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// One line.
    pub title: String,
    /// What is reproduced.
    pub paper: Paper,
    /// What is asked.
    pub question: String,
    /// What the answer teaches; Markdown.
    pub analysis: String,
    /// Seed of everything random.
    #[serde(default)]
    pub seed: u64,
    /// Files that are not part of the project.
    pub needs: Option<Needs>,
    /// The cases.
    #[serde(rename = "run", default)]
    pub runs: Vec<Run>,
    /// What must hold.
    #[serde(rename = "claim", default)]
    pub claims: Vec<Claim>,
    /// What is drawn.
    #[serde(rename = "figure", default)]
    pub figures: Vec<FigureSpec>,
    /// What is executed.
    pub twin: Option<Twin>,
}

/// A definition with its place.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// Its name: that of its folder.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// The definition.
    pub definition: Definition,
    /// First 12 hexadecimal digits of the SHA-256 of what decides the numbers: runs, seed, the tables that they name. Words
    /// and claims may change without making records old.
    pub digest: String,
}

impl Experiment {
    /// Reads the experiment of a folder, and checks all that can be checked without predicting.
    ///
    /// # Errors
    /// [`ExperimentError`], naming the file and the key.
    pub fn read(folder: &Path) -> Result<Self, ExperimentError> {
        let path = folder.join(DEFINITION_FILE);
        let text = std::fs::read_to_string(&path).map_err(ExperimentError::read(&path))?;
        let definition: Definition = toml::from_str(&text)
            .map_err(|source| ExperimentError::Toml { path: path.clone(), source: Box::new(source) })?;
        let mut hasher = Sha256::new();
        hasher.update(asked(&text));
        for (run, table) in definition.runs.iter().filter_map(|run| Some((run, run.published.as_ref()?))) {
            let absent = |error: std::io::Error| {
                let problem = format!("the table '{}': {error}: add it, or leave the key out", table.display());
                ExperimentError::field(&path, format!("run '{}': published", run.name), problem)
            };
            hasher.update(std::fs::read(folder.join(table)).map_err(absent)?);
        }
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mut digest = format!("{:x}", hasher.finalize());
        digest.truncate(12);
        let experiment = Self { name, folder: folder.to_owned(), definition, digest };
        experiment.check()?;
        Ok(experiment)
    }

    /// The file of the definition.
    pub fn path(&self) -> PathBuf {
        self.folder.join(DEFINITION_FILE)
    }

    /// The run of a name.
    pub fn run(&self, name: &str) -> Option<&Run> {
        self.definition.runs.iter().find(|run| run.name == name)
    }

    fn refuse(&self, field: impl Into<String>, problem: impl Into<String>) -> ExperimentError {
        ExperimentError::field(&self.path(), field, problem)
    }

    fn check(&self) -> Result<(), ExperimentError> {
        let definition = &self.definition;
        if definition.runs.is_empty() && definition.twin.is_none() {
            return Err(self.refuse("run", "there is none: write at least one [[run]] or a [twin]"));
        }
        let mut names = BTreeSet::new();
        for run in &definition.runs {
            if !names.insert(run.name.as_str()) {
                return Err(self.refuse(format!("run '{}'", run.name), "the name stands there twice"));
            }
            self.check_run(run)?;
        }
        for claim in &definition.claims {
            self.run_of(&claim.run, "claim")?;
        }
        for figure in &definition.figures {
            for run in &figure.runs {
                self.run_of(run, &format!("figure '{}'", figure.name))?;
            }
        }
        Ok(())
    }

    fn run_of(&self, name: &str, field: &str) -> Result<&Run, ExperimentError> {
        let known: Vec<&str> = self.definition.runs.iter().map(|run| run.name.as_str()).collect();
        let unknown = || self.refuse(field, format!("run '{name}' is not known; there are {}", known.join(", ")));
        self.run(name).ok_or_else(unknown)
    }

    fn check_run(&self, run: &Run) -> Result<(), ExperimentError> {
        let kind = self.kind(run)?;
        let field = |what: &str| format!("run '{}': {what}", run.name);
        if !kind.metrics().iter().any(|metric| metric.name == run.metric) {
            let known: Vec<&str> = kind.metrics().iter().map(|metric| metric.name).collect();
            let problem =
                format!("'{}' is no metric of kind '{}'; there are {}", run.metric, run.kind, known.join(", "));
            return Err(self.refuse(field("metric"), problem));
        }
        let fixed = run.fixed.keys();
        let named = fixed.chain(run.sweep.keys()).chain(run.cases.iter().flat_map(|case| case.keys()));
        let named = named.chain(run.relative.iter().flat_map(|relative| relative.to.keys()));
        for name in named {
            self.check_parameter(kind, run, name)?;
        }
        let own = run.smallest.keys().find(|name| !run.sweep.contains_key(*name));
        if let Some(name) = own.filter(|_| !run.cases_from_published && run.cases.is_empty()) {
            return Err(self.refuse(field("smallest"), format!("'{name}' is not swept")));
        }
        Ok(())
    }

    /// The kind of a run.
    ///
    /// # Errors
    /// [`ExperimentError::Field`] for an unknown one.
    pub fn kind(&self, run: &Run) -> Result<&'static dyn Kind, ExperimentError> {
        kind(&run.kind).ok_or_else(|| {
            let known: Vec<&str> = crate::kinds::kinds().iter().map(|kind| kind.name()).collect();
            let problem = format!("'{}' is not known; there are {}", run.kind, known.join(", "));
            self.refuse(format!("run '{}': kind", run.name), problem)
        })
    }

    /// Whether a kind knows a parameter.
    ///
    /// # Errors
    /// [`ExperimentError::Field`] when it does not.
    pub(crate) fn check_parameter(&self, kind: &dyn Kind, run: &Run, name: &str) -> Result<(), ExperimentError> {
        if kind.parameters().iter().any(|parameter| parameter.name == name) {
            return Ok(());
        }
        let known: Vec<&str> = kind.parameters().iter().map(|parameter| parameter.name).collect();
        let problem = format!("kind '{}' has no parameter of that name; it has {}", run.kind, known.join(", "));
        Err(self.refuse(format!("run '{}': '{name}'", run.name), problem))
    }
}

/// Runs and seed of a definition, in a form that order and layout of the file do not change.
fn asked(text: &str) -> String {
    let mut table: toml::Table = toml::from_str(text).unwrap_or_default();
    table.retain(|key, _| key == "run" || key == "seed");
    toml::to_string(&table).unwrap_or_default()
}

/// Reads all experiments below a folder, by name.
///
/// # Errors
/// As [`Experiment::read`]; a folder without a definition is none.
pub fn experiments(root: &Path) -> Result<Vec<Experiment>, ExperimentError> {
    names(root)?.into_iter().map(|name| Experiment::read(&root.join(name))).collect()
}

/// Reads the experiment of a name.
///
/// # Errors
/// [`ExperimentError::Unknown`], or as [`Experiment::read`].
pub fn experiment(root: &Path, name: &str) -> Result<Experiment, ExperimentError> {
    let names = names(root)?;
    if names.iter().any(|known| known == name) {
        return Experiment::read(&root.join(name));
    }
    Err(ExperimentError::Unknown { name: name.to_owned(), root: root.to_owned(), known: names.join(", ") })
}

fn names(root: &Path) -> Result<Vec<String>, ExperimentError> {
    let entries = std::fs::read_dir(root).map_err(ExperimentError::read(root))?;
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().join(DEFINITION_FILE).is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(names)
}
