//! Device lists of this machine: which cores and cards, and how many ranks on each.
//!
//! ```text
//! list = item { "," item }          one rank a device, in this order
//! item = "cpu"                      one core
//!      | "cpu:" COUNT               so many cores: a core has no number of its own, ranks are pinned in order
//!      | "cuda"                     every card, one rank each
//!      | "cuda:" CARD               the card of this number, one rank
//!      | "cuda:" CARD "x" RANKS     so many ranks on the card of this number
//! ```
//! A card may be named again: `cuda:0,cuda:0` and `cuda:0x2` are the same list.

use std::fmt;

use thiserror::Error;

/// Most ranks of one item.
const MAX_RANKS: usize = 1024;
const FORMS: &str = "write cpu:COUNT, cuda, cuda:CARD or cuda:CARDxRANKS, separated by commas";

/// A list that does not follow the grammar.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("device list '{list}': {problem}; {FORMS}")]
pub struct ListError {
    list: String,
    problem: String,
}

/// Where a rank runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// On a core of this process, counted from 0.
    Cpu {
        /// Number of the core.
        core: usize,
    },
    /// On a card, counted from 0.
    Cuda {
        /// Number of the card.
        card: usize,
    },
}

impl Place {
    /// The place that a device's name stands for: `cpu:1`, `cuda:0`, or `cuda:0/1` for the second of several ranks on
    /// a card. `None` for devices of other machines.
    pub fn of_device(name: &str) -> Option<Self> {
        let (kind, number) = name.split_once(':')?;
        let (number, sharer) = number.split_once('/').map_or((number, None), |(number, sharer)| (number, Some(sharer)));
        let number = number.parse().ok()?;
        match (kind, sharer.map(str::parse::<usize>)) {
            ("cpu", None) => Some(Self::Cpu { core: number }),
            ("cuda", None | Some(Ok(_))) => Some(Self::Cuda { card: number }),
            _ => None,
        }
    }

    /// The card, if it is one.
    pub fn card(self) -> Option<usize> {
        match self {
            Self::Cpu { .. } => None,
            Self::Cuda { card } => Some(card),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Item {
    Cores(usize),
    AllCards,
    Card { card: usize, ranks: usize },
}

/// A parsed device list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceList {
    text: String,
    items: Vec<Item>,
}

impl DeviceList {
    /// True for text that means devices of this machine, well formed or not: its first item is about `cpu` or `cuda`.
    pub fn is_meant(text: &str) -> bool {
        let first = text.split(',').next().unwrap_or_default();
        matches!(first.split(':').next(), Some("cpu" | "cuda"))
    }

    /// Reads a list.
    ///
    /// # Errors
    /// [`ListError`], naming the item.
    pub fn parse(text: &str) -> Result<Self, ListError> {
        let refuse = |problem| ListError { list: text.to_owned(), problem };
        let items = text.split(',').map(|item| item_of(item.trim()).map_err(refuse)).collect::<Result<_, _>>()?;
        Ok(Self { text: text.to_owned(), items })
    }

    /// Number of cores that are named.
    pub fn cores(&self) -> usize {
        self.items.iter().map(|item| if let Item::Cores(count) = item { *count } else { 0 }).sum()
    }

    /// True when the list names a card, or all of them.
    pub fn has_cards(&self) -> bool {
        self.items.iter().any(|item| !matches!(item, Item::Cores(_)))
    }

    /// Where each rank runs, in the order of the list, on a machine with `cards` cards.
    pub fn places(&self, cards: usize) -> Vec<Place> {
        let mut next_core = 0;
        let mut places = Vec::new();
        for item in &self.items {
            match *item {
                Item::Cores(count) => {
                    places.extend((next_core..next_core + count).map(|core| Place::Cpu { core }));
                    next_core += count;
                }
                Item::AllCards => places.extend((0..cards).map(|card| Place::Cuda { card })),
                Item::Card { card, ranks } => places.extend(std::iter::repeat_n(Place::Cuda { card }, ranks)),
            }
        }
        places
    }
}

impl fmt::Display for DeviceList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn item_of(text: &str) -> Result<Item, String> {
    let (kind, rest) = text.split_once(':').map_or((text, None), |(kind, rest)| (kind, Some(rest)));
    match (kind, rest) {
        ("cpu", None) => Ok(Item::Cores(1)),
        ("cpu", Some(count)) => Ok(Item::Cores(number(text, "count", count, 1)?)),
        ("cuda", None) => Ok(Item::AllCards),
        ("cuda", Some(rest)) => {
            let (card, ranks) = rest.split_once('x').unwrap_or((rest, "1"));
            Ok(Item::Card { card: number(text, "card", card, 0)?, ranks: number(text, "ranks", ranks, 1)? })
        }
        _ => Err(format!("'{text}' is neither cores nor a card of this machine")),
    }
}

fn number(item: &str, what: &str, text: &str, least: usize) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(number) if (least..=MAX_RANKS).contains(&number) => Ok(number),
        Ok(number) => Err(format!("in '{item}' the {what} {number} is not from {least} to {MAX_RANKS}")),
        Err(_) => Err(format!("in '{item}' the {what} '{text}' is not a whole number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &str, cards: usize) -> Vec<Place> {
        DeviceList::parse(text).expect(text).places(cards)
    }

    #[test]
    fn a_core_is_counted_and_a_card_is_numbered() {
        let (core, cuda) = (|core| Place::Cpu { core }, |card| Place::Cuda { card });
        assert_eq!(places("cpu:2", 0), [core(0), core(1)]);
        assert_eq!(places("cuda:2", 4), [cuda(2)]);
        assert_eq!(places("cuda", 2), [cuda(0), cuda(1)]);
        assert_eq!(places("cuda:0x3", 1), [cuda(0); 3]);
        assert_eq!(places("cuda:0,cuda:0", 1), places("cuda:0x2", 1));
        assert_eq!(places("cuda:1,cpu:2,cuda:0x2,cpu", 2), [cuda(1), core(0), core(1), cuda(0), cuda(0), core(2)]);
    }

    #[test]
    fn a_bad_item_is_named_with_the_forms_that_would_do() {
        for (text, word) in [
            ("cuda:", "''"),
            ("cuda:0x0", "ranks 0"),
            ("cuda:-1", "'-1'"),
            ("cpu:0", "count 0"),
            ("cuda:0,abacus", "'abacus'"),
            ("cuda:0,", "''"),
            ("cpu:2x2", "'2x2'"),
        ] {
            let error = DeviceList::parse(text).expect_err(text).to_string();
            assert!(error.contains(word) && error.contains("cuda:CARDxRANKS"), "{text}: {error}");
        }
    }

    #[test]
    fn other_clusters_are_not_meant() {
        assert!(DeviceList::is_meant("cuda:0") && DeviceList::is_meant("cpu:1,cuda:9z"));
        assert!(!DeviceList::is_meant("a100-80gb:2") && !DeviceList::is_meant("cluster.toml"));
    }

    #[test]
    fn the_name_of_a_device_tells_its_place() {
        assert_eq!(Place::of_device("cpu:3"), Some(Place::Cpu { core: 3 }));
        assert_eq!(Place::of_device("cuda:1"), Some(Place::Cuda { card: 1 }));
        assert_eq!(Place::of_device("cuda:1/3"), Some(Place::Cuda { card: 1 }));
        for other in ["dgx-h100-0/gpu1", "cuda:x", "cpu:1/0", "cuda:0/x", "host"] {
            assert_eq!(Place::of_device(other), None, "{other}");
        }
    }
}
