//! Protocol-buffer messages, field by field, straight from the bytes of the file: nothing is copied, so a weight of a
//! gigabyte costs nothing until somebody reads it, and memory is bounded by the number of messages that are kept.

use prost::DecodeError;
use prost::encoding::{WireType, decode_key, decode_varint};

/// Why bytes are no message.
pub(super) type Malformed = String;

/// The value of a field.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field<'a> {
    Varint(u64),
    Fixed32([u8; 4]),
    /// No message that is read has one.
    Fixed64,
    Bytes(&'a [u8]),
}

/// The fields of one message, in the order of the file.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) const fn of(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or("the file ends inside a field")?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| "the file ends inside a number".to_owned())
    }

    fn field(&mut self) -> Result<(u32, Field<'a>), Malformed> {
        let refuse = |error: DecodeError| error.to_string();
        let (tag, wire_type) = decode_key(&mut self.rest).map_err(refuse)?;
        let field = match wire_type {
            WireType::Varint => Field::Varint(decode_varint(&mut self.rest).map_err(refuse)?),
            WireType::ThirtyTwoBit => Field::Fixed32(self.array()?),
            WireType::SixtyFourBit => self.take(8).map(|_| Field::Fixed64)?,
            WireType::LengthDelimited => {
                let length = decode_varint(&mut self.rest).map_err(refuse)?;
                Field::Bytes(self.take(usize::try_from(length).unwrap_or(usize::MAX))?)
            }
            WireType::StartGroup | WireType::EndGroup => return Err("groups are not part of ONNX".to_owned()),
        };
        Ok((tag, field))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Field<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

impl<'a> Field<'a> {
    pub(super) fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            other => Err(format!("a number where a message or text belongs: {other:?}")),
        }
    }

    pub(super) fn text(self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| "text that is not UTF-8".to_owned())
    }

    pub(super) fn int(self) -> Result<i64, Malformed> {
        match self {
            Self::Varint(value) => Ok(value as i64),
            _ => Err("something else where an integer belongs".to_owned()),
        }
    }

    /// Integers of a repeated field, packed or one by one.
    pub(super) fn ints(self, list: &mut Vec<i64>, limit: usize) -> Result<(), Malformed> {
        match self {
            Self::Varint(value) => list.push(value as i64),
            Self::Bytes(mut bytes) => {
                while !bytes.is_empty() && list.len() <= limit {
                    list.push(decode_varint(&mut bytes).map_err(|error| error.to_string())? as i64);
                }
            }
            _ => return Err("something else where integers belong".to_owned()),
        }
        if list.len() > limit { Err(format!("more than {limit} integers in one list")) } else { Ok(()) }
    }
}
