//! Values of parameters, as definitions and tables of published figures write them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// One value of a parameter.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// True or false.
    Flag(bool),
    /// A whole number.
    Integer(i64),
    /// Any number.
    Number(f64),
    /// Text.
    Text(String),
    /// Numbers, such as the times of stages.
    List(Vec<f64>),
}

/// Parameters by name.
pub type Parameters = BTreeMap<String, Value>;

impl Value {
    /// The number, where it is one.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Integer(number) => Some(*number as f64),
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// Reads a cell of a table: a whole number, a number, true, false, else text.
    pub fn of_cell(text: &str) -> Self {
        let text = text.trim();
        match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(number), _) => Self::Integer(number),
            (_, Ok(number)) if number.is_finite() => Self::Number(number),
            _ if text == "true" => Self::Flag(true),
            _ if text == "false" => Self::Flag(false),
            _ => Self::Text(text.to_owned()),
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Flag(a), Self::Flag(b)) => a == b,
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::List(a), Self::List(b)) => a == b,
            _ => match (self.number(), other.number()) {
                (Some(a), Some(b)) => (a - b).abs() <= 1e-12 * a.abs().max(b.abs()),
                _ => false,
            },
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
            Self::List(numbers) => {
                let texts: Vec<String> = numbers.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", texts.join(", "))
            }
        }
    }
}

/// Parameters in a line: `gpus 8, model BERT-large`.
pub fn label(parameters: &Parameters) -> String {
    let parts: Vec<String> = parameters.iter().map(|(name, value)| format!("{name} {value}")).collect();
    parts.join(", ")
}

/// Whether every parameter of `wanted` has that value in `parameters`.
pub fn matches(parameters: &Parameters, wanted: &Parameters) -> bool {
    wanted.iter().all(|(name, value)| parameters.get(name) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_become_the_narrowest_type() {
        assert_eq!(Value::of_cell(" 8 "), Value::Number(8.0));
        assert_eq!(Value::of_cell("1.5"), Value::Number(1.5));
        assert_eq!(Value::of_cell("true"), Value::Flag(true));
        assert_eq!(Value::of_cell("full, always"), Value::Text("full, always".to_owned()));
        assert_eq!(Value::of_cell("inf"), Value::Text("inf".to_owned()));
    }

    #[test]
    fn parameters_match_by_the_names_asked_for() {
        let of = |text: &str| toml::from_str::<Parameters>(text).unwrap();
        let all = of("gpus = 8\nmodel = 'BERT'\nforward = [1, 2.5]");
        assert!(matches(&all, &of("gpus = 8.0")) && matches(&all, &Parameters::new()));
        assert!(!matches(&all, &of("gpus = 4")) && !matches(&all, &of("tp = 1")));
        assert_eq!(label(&all), "forward [1, 2.5], gpus 8, model BERT");
    }
}
