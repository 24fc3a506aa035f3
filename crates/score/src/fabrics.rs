//! The interconnects of machines that rows name: `data/fabrics.toml`, or the catalogue's usual machine of a device.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use cutplane_graph::DeviceGraph;
use cutplane_sim::network::{Fabric, Interconnect, Level, NetworkError};
use serde::Deserialize;

/// Ranks of the outermost level of a fabric that is made for a row: no measurement is larger.
const MOST_RANKS: usize = 1 << 20;
/// Devices of the catalogue's cluster that tells the usual machine: a multiple of every machine's size.
const SAMPLE: usize = 64;

/// One level of a machine's interconnect, as the file writes it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct LevelEntry {
    interconnect: Interconnect,
    ranks: usize,
    gb_per_s: f64,
    #[serde(default = "one")]
    ports: usize,
    achieved_gb_per_s: Option<f64>,
}

fn one() -> usize {
    1
}

impl LevelEntry {
    fn level(&self) -> Level {
        let level = Level::new(self.interconnect, self.ranks, self.gb_per_s * 1e9).ports(self.ports);
        Level { achieved: self.achieved_gb_per_s.map(|achieved| achieved * 1e9), ..level }
    }
}

/// A machine whose interconnect is known by the name that rows give its hardware.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// How the hardware names of its rows start.
    hardware: String,
    /// Shortest isolated call, us.
    #[serde(default)]
    pub floor_us: f64,
    /// Whether bandwidths and floor were fitted to the drawn rows.
    #[serde(default)]
    pub fitted: bool,
    /// Ranks of a node in rows that do not say; the innermost node's otherwise.
    ranks_per_node: Option<usize>,
    /// Where the numbers come from.
    pub source: String,
    levels: Vec<LevelEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    drawn: BTreeMap<String, Vec<usize>>,
    machine: Vec<Machine>,
}

static FILE: LazyLock<File> =
    LazyLock::new(|| toml::from_str(include_str!("../data/fabrics.toml")).expect("a test reads data/fabrics.toml"));

/// Rows of a source, counted from 0 in the order of its file, that calibrations drew.
pub fn drawn_rows(source: &str) -> &'static [usize] {
    FILE.drawn.get(source).map_or(&[], Vec::as_slice)
}

/// Sources that calibrations of interconnects drew rows of, and how many.
pub(crate) fn drawn_sources() -> impl Iterator<Item = (&'static str, usize)> {
    FILE.drawn.iter().map(|(source, rows)| (source.as_str(), rows.len()))
}

/// All machines of the file.
pub fn machines() -> &'static [Machine] {
    &FILE.machine
}

/// The machine whose name a hardware name starts with; the longest wins.
pub fn machine_of(hardware: &str) -> Option<&'static Machine> {
    machines()
        .iter()
        .filter(|machine| hardware.starts_with(&machine.hardware))
        .max_by_key(|machine| machine.hardware.len())
}

impl Machine {
    /// Its interconnect.
    ///
    /// # Errors
    /// [`NetworkError`] for impossible levels; a test builds every one of the file.
    pub fn fabric(&self) -> Result<Fabric, NetworkError> {
        Fabric::new(self.hardware.clone(), self.levels.iter().map(LevelEntry::level).collect())
    }

    /// Ranks of a node in rows that do not say.
    pub fn usual_ranks_per_node(&self) -> Option<usize> {
        self.ranks_per_node
    }
}

/// The interconnect of the machine that a device usually comes in, from the catalogue, and the catalogue's name of it: the
/// first that it knows of the whole hardware name, two of its words, or one.
pub fn catalogue_fabric(hardware: &str) -> Option<(Fabric, String)> {
    names_in(hardware).into_iter().find_map(|name| {
        let usual = cutplane_zoo::cluster(&format!("{name}:{SAMPLE}")).ok()?;
        let sample = Fabric::of_devices(&DeviceGraph::build(usual).ok()?).ok()?;
        let mut levels = sample.levels().to_vec();
        if let Some(outermost) = levels.last_mut() {
            outermost.ranks = MOST_RANKS;
        }
        Some((Fabric::new(name.clone(), levels).ok()?, name))
    })
}

/// Names that the catalogue may know, the most exact first.
fn names_in(hardware: &str) -> Vec<String> {
    let lower = hardware.to_ascii_lowercase();
    let words: Vec<&str> = lower
        .split(|letter: char| !letter.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty() && *word != "cpu")
        .collect();
    let pairs = words
        .iter()
        .enumerate()
        .flat_map(|(at, first)| words[at + 1..].iter().map(move |second| format!("{first}-{second}")));
    [words.join("-")].into_iter().chain(pairs).chain(words.iter().map(|word| (*word).to_owned())).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn every_machine_of_the_file_builds_and_names_its_source() {
        assert!(!machines().is_empty());
        for machine in machines() {
            assert!(machine.fabric().unwrap().ranks() >= 32, "{}", machine.hardware);
            assert!(!machine.source.is_empty(), "{}", machine.hardware);
            assert_eq!(machine_of(&machine.hardware), Some(machine));
        }
    }

    #[test]
    fn at_most_a_tenth_of_a_source_was_drawn() {
        let drawn = drawn_rows("vidur_collectives");
        assert!(drawn.len() * 10 <= 884 && drawn.is_sorted());
        assert!(drawn_rows("another").is_empty());
    }

    #[test]
    fn the_catalogue_knows_hardware_by_its_words() {
        let name = |hardware| catalogue_fabric(hardware).map(|(_, name)| name);
        assert_eq!(name("NVIDIA V100-SXM2-32GB").as_deref(), Some("v100-32gb"));
        assert_eq!(name("H100 80GB HBM3").as_deref(), Some("h100-80gb"));
        assert_eq!(name("Quantum 9"), None);
    }
}
