//! A set of operators, written compactly.

use std::fmt;

use cutplane_graph::OpId;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A sorted set of operators. In files it is text such as `"0-57"` or `"0-3,7,9-12"`, bounds included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct OpSet {
    /// Disjoint, sorted, inclusive ranges.
    ranges: Vec<(u32, u32)>,
}

impl OpSet {
    /// The operators `first..end`.
    pub fn range(first: usize, end: usize) -> Self {
        if first >= end {
            return Self::default();
        }
        Self { ranges: vec![(OpId::new(first).index() as u32, OpId::new(end - 1).index() as u32)] }
    }

    /// Number of operators.
    pub fn len(&self) -> usize {
        self.ranges.iter().map(|(first, last)| (last - first) as usize + 1).sum()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The operators in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = OpId> + '_ {
        self.ranges.iter().flat_map(|(first, last)| (*first..=*last).map(|id| OpId::new(id as usize)))
    }

    /// The greatest operator.
    pub fn last(&self) -> Option<OpId> {
        self.ranges.last().map(|(_, last)| OpId::new(*last as usize))
    }

    /// Whether `op` is in the set.
    pub fn contains(&self, op: OpId) -> bool {
        let id = op.index() as u32;
        self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&id))
    }
}

impl FromIterator<OpId> for OpSet {
    fn from_iter<I: IntoIterator<Item = OpId>>(iter: I) -> Self {
        let mut ids: Vec<u32> = iter.into_iter().map(|op| op.index() as u32).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for id in ids {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == id => *last = id,
                _ => ranges.push((id, id)),
            }
        }
        Self { ranges }
    }
}

impl fmt::Display for OpSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range =
            |(first, last): &(u32, u32)| if first == last { first.to_string() } else { format!("{first}-{last}") };
        f.pad(&self.ranges.iter().map(range).collect::<Vec<_>>().join(","))
    }
}

impl std::str::FromStr for OpSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |digits: &str| {
                digits.trim().parse::<u32>().map_err(|_| format!("'{part}' is not a range of operators"))
            };
            let (first, last) = (number(first)?, number(last)?);
            if first > last || ranges.last().is_some_and(|(_, previous)| *previous >= first) {
                return Err(format!("'{part}': ranges must be ascending and must not overlap"));
            }
            ranges.push((first, last));
        }
        Ok(Self { ranges })
    }
}

impl Serialize for OpSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for OpSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_compact_and_strict() {
        let set: OpSet = [0, 1, 2, 7, 9, 10].into_iter().map(OpId::new).collect();
        assert_eq!(set.to_string(), "0-2,7,9-10");
        assert_eq!("0-2,7,9-10".parse::<OpSet>().expect("parses"), set);
        assert_eq!((set.len(), set.contains(OpId::new(7)), set.contains(OpId::new(8))), (6, true, false));
        assert!("3-1".parse::<OpSet>().is_err() && "0-4,4".parse::<OpSet>().is_err() && "x".parse::<OpSet>().is_err());
        assert_eq!(OpSet::range(0, 3).iter().count(), 3);
        // A hostile range must not be expanded to be counted.
        assert_eq!("0-4000000000".parse::<OpSet>().expect("parses").len(), 4_000_000_001);
    }
}
