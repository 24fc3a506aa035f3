//! Device models in free descriptions of hardware: `A100-SXM4-80GB (DGX A100)`, `LambdaCloud 8xV100 16GB`.

use std::collections::BTreeSet;

use cutplane_graph::DeviceSpec;

use super::catalogue::{DeviceEntry, catalogue};

/// All device models of the catalogue.
pub fn devices() -> impl Iterator<Item = &'static DeviceSpec> {
    catalogue().devices.iter().map(|entry| &entry.spec)
}

/// The device model that a description names: the one with the most words of its name in the text, whatever their order
/// and case. `None` when no device is named, when two unlike ones are, and when nothing tells which of two.
///
/// ```
/// let name = |text| cutplane_zoo::device_from_hardware_text(text).map(|device| device.model.as_str());
/// assert_eq!(name("A100-SXM4-80GB (DGX A100)"), Some("A100-SXM-80GB"));
/// assert_eq!(name("NVIDIA A100 PCIe"), Some("A100-PCIE-80GB"));
/// assert_eq!(name("2x RTX 6000 Ada"), Some("RTX-6000-Ada"));
/// assert_eq!(name("not stated in the document"), None);
/// ```
pub fn device_from_hardware_text(text: &str) -> Option<&'static DeviceSpec> {
    let words = words(text);
    let found: Vec<Match> = catalogue().devices.iter().filter_map(|entry| Match::of(entry, &words)).collect();
    let most = found.iter().map(|found| found.words.len()).max()?;
    let mut best = found.iter().filter(|found| found.words.len() == most);
    let first = best.next()?;
    let unlike = found.iter().any(|other| other.words.is_disjoint(&first.words));
    let undecided = best.any(|other| !computes_alike(other.spec, first.spec));
    (!unlike && !undecided).then_some(first.spec)
}

/// Up to `count` models of the catalogue whose names look most like the text, the likest first.
pub fn suggested_devices(text: &str, count: usize) -> Vec<&'static str> {
    let wanted = pairs(text);
    let mut models: Vec<(usize, &str)> =
        devices().map(|spec| (pairs(&spec.model).intersection(&wanted).count(), spec.model.as_str())).collect();
    models.retain(|(common, _)| *common > 0);
    models.sort_by_key(|(common, _)| std::cmp::Reverse(*common));
    models.into_iter().take(count).map(|(_, model)| model).collect()
}

struct Match {
    spec: &'static DeviceSpec,
    words: BTreeSet<String>,
}

impl Match {
    /// The longest of an entry's names whose words are all in the text.
    fn of(entry: &'static DeviceEntry, text: &BTreeSet<String>) -> Option<Self> {
        let names = entry.names.iter().map(|name| name.split(' ').map(str::to_owned).collect::<BTreeSet<_>>());
        let words = names.filter(|name| name.is_subset(text)).max_by_key(BTreeSet::len)?;
        Some(Self { spec: &entry.spec, words })
    }
}

/// Whether two models differ in memory size alone.
fn computes_alike(one: &DeviceSpec, other: &DeviceSpec) -> bool {
    one.peak_tflop_per_s == other.peak_tflop_per_s
        && one.memory_bandwidth_gb_per_s.to_bits() == other.memory_bandwidth_gb_per_s.to_bits()
}

/// Words of a description in lower case. Counts (`8xV100`), generations of sockets (`SXM4`), suffixes that cling to a
/// number (`1080Ti`) and units that do not (`80 GB`) are brought to one spelling; what was written is kept too.
fn words(text: &str) -> BTreeSet<String> {
    let lower = text.to_ascii_lowercase();
    let written: Vec<&str> = lower.split(|letter: char| !letter.is_ascii_alphanumeric()).collect();
    let mut words: BTreeSet<String> = written.iter().flat_map(|word| spellings(word)).collect();
    let units = written.windows(2).filter(|pair| pair[1] == "gb" && pair[0].parse::<u32>().is_ok());
    words.extend(units.map(|pair| format!("{}gb", pair[0])));
    words
}

fn spellings(word: &str) -> Vec<String> {
    let counted = word.split_once('x').filter(|(count, rest)| !rest.is_empty() && count.parse::<u32>().is_ok());
    let word = counted.map_or(word, |(_, rest)| rest);
    let mut all = vec![word.to_owned()];
    if word.strip_prefix("sxm").is_some_and(|generation| generation.parse::<u8>().is_ok()) {
        all.push("sxm".to_owned());
    }
    if let Some(number) = word.strip_suffix("ti").filter(|number| number.parse::<u32>().is_ok()) {
        all.extend([number.to_owned(), "ti".to_owned()]);
    }
    all
}

/// Neighbouring letters and digits.
fn pairs(text: &str) -> BTreeSet<(char, char)> {
    let letters: Vec<char> = text.to_ascii_lowercase().chars().filter(char::is_ascii_alphanumeric).collect();
    letters.windows(2).map(|pair| (pair[0], pair[1])).collect()
}
