//! Reading "number unit" text.

use thiserror::Error;

/// Text that is not a number with one of the known units.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("'{text}' is not {what}: write a number and one of {units} (as in '{example}')")]
pub struct ParseUnitError {
    text: String,
    what: &'static str,
    units: String,
    example: String,
}

/// Parses `text` as a finite number, not negative, followed by one of `units`, and returns it in the base unit.
pub(crate) fn parse_with_units(text: &str, what: &'static str, units: &[(&str, f64)]) -> Result<f64, ParseUnitError> {
    let trimmed = text.trim();
    let error = || ParseUnitError {
        text: trimmed.to_owned(),
        what,
        units: units.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "),
        example: format!("25 {}", units[units.len() / 2].0),
    };
    let split = trimmed.find(|c: char| c.is_alphabetic() && c != 'e' && c != 'E').ok_or_else(error)?;
    let (number, unit) = trimmed.split_at(split);
    let number: f64 = number.trim().replace(['_', ','], "").parse().map_err(|_| error())?;
    let scale = units.iter().find(|(name, _)| *name == unit.trim()).ok_or_else(error)?.1;
    if number.is_finite() && number >= 0.0 { Ok(number * scale) } else { Err(error()) }
}

#[cfg(test)]
mod tests {
    use crate::{Bytes, Nanos};

    #[test]
    fn a_wrong_unit_names_the_known_ones() {
        let error = "80 gigs".parse::<Bytes>().expect_err("no such unit").to_string();
        assert!(error.contains("'80 gigs' is not a size") && error.contains("GiB"), "{error}");
        assert!("80".parse::<Bytes>().is_err());
        assert!("-1 s".parse::<Nanos>().is_err());
        assert_eq!("1e3 us".parse::<Nanos>().expect("parses"), Nanos::new(1_000_000));
    }
}
