//! What ranks tell each other ahead of numbers: a message follows, a collective is called, a rank has left or failed.
//!
//! A note is a list of 64-bit words, all small enough to be sent without the receiver's help.

use cutplane_plan::Rank;

/// Floats that travel inside the call of a collective.
pub(super) const INLINE: usize = 256;

/// How the numbers of a tensor are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    F32,
    I32,
    F16,
    Bf16,
}

const KINDS: [Kind; 4] = [Kind::F32, Kind::I32, Kind::F16, Kind::Bf16];

/// A tensor that follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outline {
    pub(super) kind: Kind,
    pub(super) shape: Vec<usize>,
}

/// Collectives by number.
const NAMES: [&str; 7] = ["all-reduce", "reduce-scatter", "all-gather", "broadcast", "reduce", "all-to-all", "barrier"];

/// What a rank calls, which must be the same on all ranks of the group but for `inline`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub(super) name: &'static str,
    pub(super) len: usize,
    pub(super) root: Option<Rank>,
    pub(super) group: Vec<Rank>,
    /// The rank's numbers, when they are few.
    pub(super) inline: Vec<f32>,
}

impl Call {
    /// Whether two ranks have called the same.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        self.name == other.name && self.len == other.len && self.root == other.root && self.group == other.group
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Note {
    Message { number: u64, tensors: Vec<Outline> },
    Call(Call),
    Gone,
    Failed { reason: String },
}

impl Note {
    /// The words, told by `from`.
    pub(super) fn encode(&self, from: Rank) -> Vec<u64> {
        let mut words = vec![0, u64::from(from.0)];
        match self {
            Self::Message { number, tensors } => {
                words.extend([*number, tensors.len() as u64]);
                for tensor in tensors {
                    words.extend([tensor.kind as u64, tensor.shape.len() as u64]);
                    words.extend(tensor.shape.iter().map(|dim| *dim as u64));
                }
            }
            Self::Call(call) => {
                words[0] = 1;
                let name = NAMES.iter().position(|name| *name == call.name).unwrap_or_default() as u64;
                let root = call.root.map_or(0, |root| u64::from(root.0) + 1);
                words.extend([name, call.len as u64, root, call.group.len() as u64]);
                words.extend(call.group.iter().map(|rank| u64::from(rank.0)));
                words.extend(call.inline.iter().map(|x| u64::from(x.to_bits())));
            }
            Self::Gone => words[0] = 2,
            Self::Failed { reason } => {
                words[0] = 3;
                words.extend(reason.chars().map(u64::from));
            }
        }
        words
    }

    /// Who tells what; `None` for words that are no note.
    pub(super) fn decode(words: &[u64]) -> Option<(Rank, Self)> {
        let mut rest = words.iter().copied();
        let (kind, from) = (rest.next()?, Rank(rest.next()? as u32));
        let note = match kind {
            0 => message(&mut rest)?,
            1 => Self::Call(call(&mut rest)?),
            2 => Self::Gone,
            3 => Self::Failed { reason: rest.filter_map(|word| char::from_u32(word as u32)).collect() },
            _ => return None,
        };
        Some((from, note))
    }
}

fn message(words: &mut impl Iterator<Item = u64>) -> Option<Note> {
    let (number, count) = (words.next()?, words.next()?);
    let mut tensors = Vec::new();
    for _ in 0..count {
        let (kind, dims) = (*KINDS.get(words.next()? as usize)?, words.next()?);
        tensors.push(Outline { kind, shape: words.take(dims as usize).map(|dim| dim as usize).collect() });
    }
    Some(Note::Message { number, tensors })
}

fn call(words: &mut impl Iterator<Item = u64>) -> Option<Call> {
    let name = *NAMES.get(words.next()? as usize)?;
    let (len, root, members) = (words.next()? as usize, words.next()?, words.next()?);
    let root = root.checked_sub(1).map(|root| Rank(root as u32));
    let group = words.take(members as usize).map(|rank| Rank(rank as u32)).collect();
    Some(Call { name, len, root, group, inline: words.map(|bits| f32::from_bits(bits as u32)).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_read_as_they_were_written() {
        let outline = |kind, shape: &[usize]| Outline { kind, shape: shape.to_vec() };
        let tensors = vec![outline(Kind::Bf16, &[2, 3]), outline(Kind::I32, &[]), outline(Kind::F32, &[1 << 40])];
        let group = vec![Rank(0), Rank(2)];
        let call = |name, root| Call { name, len: 3, root, group: group.clone(), inline: vec![1.5, -0.0, 3e-40] };
        let notes = [
            Note::Message { number: 1 << 33, tensors },
            Note::Call(call("all-to-all", None)),
            Note::Call(call("broadcast", Some(Rank(0)))),
            Note::Gone,
            Note::Failed { reason: "zu wenig Speicher: größer".into() },
        ];
        for note in notes {
            assert_eq!(Note::decode(&note.encode(Rank(7))), Some((Rank(7), note)));
        }
        assert_eq!(Note::decode(&[]), None);
        assert_eq!(Note::decode(&[0, 1, 5, 1, 9]), None);
        assert_eq!(Note::decode(&[9, 1]), None);
    }
}
