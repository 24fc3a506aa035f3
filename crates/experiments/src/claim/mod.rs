//! What must hold, and whether it does.

mod judge;

use serde::{Deserialize, Serialize};

use crate::record::Record;
use crate::value::{Parameters, Value};

/// A claim of a definition.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The claim in words.
    pub says: String,
    /// The run that it is about.
    pub run: String,
    /// What is checked.
    pub check: Check,
    /// Only cases with these values.
    #[serde(default, rename = "where")]
    pub only: std::collections::BTreeMap<String, OneOrMany>,
    /// Why we disagree, where we do: written once the verdict is known, never in place of it.
    pub disagreement: Option<String>,
}

/// A claim of a twin: about step times, s, whose only parameter is `plan`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TwinClaim {
    /// The claim in words.
    pub says: String,
    /// What is checked.
    pub check: Check,
    /// Why we disagree, where we do.
    pub disagreement: Option<String>,
}

impl TwinClaim {
    /// Judges the claim on step times.
    pub fn judge(&self, times: &[Record]) -> Verdict {
        let (holds, detail) = self.check.judge(&times.iter().collect::<Vec<_>>());
        let disagreement = self.disagreement.clone().filter(|_| holds == Some(false));
        Verdict { says: self.says.clone(), holds, detail, disagreement }
    }
}

/// A value, or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// Any of these.
    Many(Vec<Value>),
    /// One.
    One(Value),
}

impl OneOrMany {
    fn has(&self, value: Option<&Value>) -> bool {
        match self {
            Self::One(one) => value == Some(one),
            Self::Many(many) => many.iter().any(|one| value == Some(one)),
        }
    }
}

/// A statistic of relative errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Statistic {
    /// The middle one.
    Median,
    /// The mean.
    Mean,
    /// The largest.
    Worst,
}

/// What a claim checks.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Check {
    /// `|predicted - published| / published` is at most so much.
    Error {
        /// Of all cases.
        statistic: Statistic,
        /// The bound, a share.
        at_most: f64,
    },
    /// Every predicted value is at most the published one, for searches that minimise.
    AtMostPublished {
        /// Relative tolerance.
        within: f64,
    },
    /// Spearman's correlation of the predicted and the published order is at least so much.
    Order {
        /// The bound, from -1 to 1.
        at_least: f64,
    },
    /// Every predicted value is this.
    Equals {
        /// The value.
        value: f64,
        /// Relative tolerance.
        within: f64,
    },
    /// Every predicted value lies in a range.
    Range {
        /// Lower end.
        at_least: Option<f64>,
        /// Upper end.
        at_most: Option<f64>,
    },
    /// The largest predicted value lies in a range.
    Largest {
        /// Lower end.
        at_least: Option<f64>,
        /// Upper end.
        at_most: Option<f64>,
    },
    /// One case over another lies in a range, for all values of what neither names.
    Ratio {
        /// The one.
        of: Parameters,
        /// The other.
        over: Parameters,
        /// Lower end.
        at_least: Option<f64>,
        /// Upper end.
        at_most: Option<f64>,
    },
    /// Values never fall along a parameter, whatever the others are.
    Rises {
        /// The parameter.
        along: String,
    },
    /// Values never rise along a parameter.
    Falls {
        /// The parameter.
        along: String,
    },
    /// One kind of case becomes at least as large as another between two values of a parameter.
    Crosses {
        /// The one.
        of: Parameters,
        /// The other.
        over: Parameters,
        /// The parameter.
        along: String,
        /// It is first so at or after this value.
        after: f64,
        /// And at the latest here.
        until: f64,
    },
    /// The case with the least value has these parameters, for each value of another.
    Least {
        /// What the best case has.
        is: Parameters,
        /// Separately for each value of these.
        #[serde(default)]
        each: Vec<String>,
    },
    /// The case with the largest value has these parameters.
    Most {
        /// What the best case has.
        is: Parameters,
        /// Separately for each value of these.
        #[serde(default)]
        each: Vec<String>,
    },
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// The claim in words.
    pub says: String,
    /// Whether it holds; `None` when the records do not tell.
    pub holds: Option<bool>,
    /// By how much.
    pub detail: String,
    /// Why we disagree, where the definition says so.
    pub disagreement: Option<String>,
}

impl Verdict {
    /// Whether the claim fails and the definition does not say why.
    pub fn is_unexplained(&self) -> bool {
        self.holds == Some(false) && self.disagreement.is_none()
    }
}

impl Claim {
    /// Judges the claim on what is recorded.
    pub fn judge(&self, records: &[Record]) -> Verdict {
        let own = records.iter().filter(|record| record.run == self.run);
        let own: Vec<&Record> =
            own.filter(|record| self.only.iter().all(|(name, some)| some.has(record.parameters.get(name)))).collect();
        let (holds, detail) = self.check.judge(&own);
        let disagreement = self.disagreement.clone().filter(|_| holds == Some(false));
        Verdict { says: self.says.clone(), holds, detail, disagreement }
    }
}
