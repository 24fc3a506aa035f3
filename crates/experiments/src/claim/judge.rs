//! Judging checks on records.

use super::{Check, Statistic};
use crate::record::Record;
use crate::value::{Parameters, Value, label};
use cutplane_record::spearman;

/// Whether it holds, and by how much.
pub(super) type Judged = (Option<bool>, String);

impl Check {
    pub(super) fn judge(&self, records: &[&Record]) -> Judged {
        if records.is_empty() {
            return (None, "no case was recorded".to_owned());
        }
        match self {
            Self::Error { statistic, at_most } => error(records, *statistic, *at_most),
            Self::AtMostPublished { within } => at_most_published(records, *within),
            Self::Order { at_least } => order(records, *at_least),
            Self::Equals { value, within } => equals(records, *value, *within),
            Self::Range { at_least, at_most } => range(records, *at_least, *at_most),
            Self::Largest { at_least, at_most } => largest(records, *at_least, *at_most),
            Self::Ratio { of, over, at_least, at_most } => ratio(records, (of, over), *at_least, *at_most),
            Self::Rises { along } => monotone(records, along, 1.0),
            Self::Falls { along } => monotone(records, along, -1.0),
            Self::Crosses { of, over, along, after, until } => crosses(records, (of, over), along, (*after, *until)),
            Self::Least { is, each } => best(records, is, each, -1.0),
            Self::Most { is, each } => best(records, is, each, 1.0),
        }
    }
}

fn error(records: &[&Record], statistic: Statistic, at_most: f64) -> Judged {
    let mut errors: Vec<(f64, &Record)> =
        records.iter().filter_map(|record| Some((record.relative_error()?, *record))).collect();
    errors.sort_by(|a, b| a.0.abs().total_cmp(&b.0.abs()));
    let Some((worst, record)) = errors.last() else { return (None, "nothing published to compare with".to_owned()) };
    let sizes: Vec<f64> = errors.iter().map(|(error, _)| error.abs()).collect();
    let value = match statistic {
        Statistic::Worst => worst.abs(),
        Statistic::Mean => sizes.iter().sum::<f64>() / sizes.len() as f64,
        Statistic::Median => f64::midpoint(sizes[(sizes.len() - 1) / 2], sizes[sizes.len() / 2]),
    };
    let name = format!("{statistic:?}").to_lowercase();
    let detail = format!(
        "{name} error {:.1}% of {} values (bound {:.1}%), worst {:+.1}% at {}",
        100.0 * value,
        sizes.len(),
        100.0 * at_most,
        100.0 * worst,
        record.case
    );
    (Some(value <= at_most), detail)
}

fn at_most_published(records: &[&Record], within: f64) -> Judged {
    let over = records.iter().filter_map(|record| Some((record.relative_error()?, *record)));
    let Some((worst, record)) = over.clone().max_by(|a, b| a.0.total_cmp(&b.0)) else {
        return (None, "nothing published to compare with".to_owned());
    };
    let below = over.filter(|(error, _)| *error < -within).count();
    let detail = format!(
        "{:+.2}% at {} (tolerance {:.1}%); {below} below the published value",
        100.0 * worst,
        record.case,
        100.0 * within
    );
    (Some(worst <= within), detail)
}

fn order(records: &[&Record], at_least: f64) -> Judged {
    let pairs = records.iter().filter_map(|record| Some((record.predicted, record.published?)));
    let (predicted, published): (Vec<f64>, Vec<f64>) = pairs.unzip();
    if predicted.len() < 3 {
        return (None, "fewer than three published values".to_owned());
    }
    let Some(correlation) = spearman(&predicted, &published) else {
        return (None, "all values are equal".to_owned());
    };
    (Some(correlation >= at_least), format!("rank correlation {correlation:.3} of {} values", predicted.len()))
}

fn equals(records: &[&Record], value: f64, within: f64) -> Judged {
    let off = |record: &Record| (record.predicted - value).abs() / value.abs().max(1e-300);
    let off = |record: &Record| if value == 0.0 { record.predicted.abs() } else { off(record) };
    let worst = records.iter().max_by(|a, b| off(a).total_cmp(&off(b)));
    worst.map_or((None, String::new()), |worst| {
        let detail = format!("predicted {} for {}, claimed {value}", worst.predicted_text(), worst.case);
        (Some(off(worst) <= within), detail)
    })
}

fn bounds(at_least: Option<f64>, at_most: Option<f64>) -> String {
    match (at_least, at_most) {
        (Some(low), Some(high)) => format!("{low} to {high}"),
        (Some(low), None) => format!("at least {low}"),
        (None, Some(high)) => format!("at most {high}"),
        (None, None) => "no bound".to_owned(),
    }
}

fn inside(value: f64, at_least: Option<f64>, at_most: Option<f64>) -> bool {
    at_least.is_none_or(|low| value >= low) && at_most.is_none_or(|high| value <= high)
}

fn range(records: &[&Record], at_least: Option<f64>, at_most: Option<f64>) -> Judged {
    let low = records.iter().map(|record| record.predicted).fold(f64::INFINITY, f64::min);
    let high = records.iter().map(|record| record.predicted).fold(f64::NEG_INFINITY, f64::max);
    let holds = inside(low, at_least, at_most) && inside(high, at_least, at_most);
    (Some(holds), format!("predicted {low:.4} to {high:.4}, claimed {}", bounds(at_least, at_most)))
}

fn largest(records: &[&Record], at_least: Option<f64>, at_most: Option<f64>) -> Judged {
    let most = records.iter().max_by(|a, b| a.predicted.total_cmp(&b.predicted));
    most.map_or((None, String::new()), |most| {
        let detail =
            format!("largest {} at {}, claimed {}", most.predicted_text(), most.case, bounds(at_least, at_most));
        (Some(inside(most.predicted, at_least, at_most)), detail)
    })
}

/// Pairs of cases that differ in what is named only.
fn pairs<'a>(records: &[&'a Record], of: &Parameters, over: &Parameters) -> Vec<(&'a Record, &'a Record)> {
    let rest = |record: &Record| -> Parameters {
        let others = record.parameters.iter().filter(|(name, _)| !of.contains_key(*name) && !over.contains_key(*name));
        others.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    let having = |wanted: &Parameters| -> Vec<&'a Record> {
        records.iter().filter(|record| crate::value::matches(&record.parameters, wanted)).copied().collect()
    };
    let (ones, others) = (having(of), having(over));
    ones.into_iter().filter_map(|one| Some((one, *others.iter().find(|other| rest(other) == rest(one))?))).collect()
}

fn ratio(
    records: &[&Record],
    (of, over): (&Parameters, &Parameters),
    at_least: Option<f64>,
    at_most: Option<f64>,
) -> Judged {
    let pairs = pairs(records, of, over);
    let ratios: Vec<f64> = pairs.iter().map(|(one, other)| one.predicted / other.predicted).collect();
    if ratios.is_empty() {
        return (None, format!("no pair of cases with '{}' and '{}'", label(of), label(over)));
    }
    let low = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let high = ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let holds = ratios.iter().all(|ratio| inside(*ratio, at_least, at_most));
    let span = if ratios.len() == 1 { format!("{low:.3}") } else { format!("{low:.3} to {high:.3}") };
    (Some(holds), format!("ratio {span}, claimed {}", bounds(at_least, at_most)))
}

fn number(record: &Record, name: &str) -> Option<f64> {
    record.parameters.get(name).and_then(Value::number)
}

/// Cases that differ in one parameter only, in its order.
fn series<'a>(records: &[&'a Record], along: &str) -> Vec<Vec<&'a Record>> {
    let mut found: Vec<(Parameters, Vec<&'a Record>)> = Vec::new();
    for record in records.iter().filter(|record| number(record, along).is_some()) {
        let mut rest = record.parameters.clone();
        rest.remove(along);
        match found.iter_mut().find(|(key, _)| *key == rest) {
            Some((_, list)) => list.push(record),
            None => found.push((rest, vec![record])),
        }
    }
    let mut lists: Vec<Vec<&Record>> = found.into_iter().map(|(_, list)| list).collect();
    for list in &mut lists {
        list.sort_by(|a, b| number(a, along).unwrap_or(0.0).total_cmp(&number(b, along).unwrap_or(0.0)));
    }
    lists
}

fn monotone(records: &[&Record], along: &str, sign: f64) -> Judged {
    let lists = series(records, along);
    let steps: Vec<(&Record, &Record)> =
        lists.iter().flat_map(|list| list.windows(2).map(|pair| (pair[0], pair[1]))).collect();
    if steps.is_empty() {
        return (None, format!("fewer than two cases along '{along}'"));
    }
    let wrong = |(a, b): &&(&Record, &Record)| sign * (b.predicted - a.predicted) < -1e-9 * a.predicted.abs();
    match steps.iter().find(wrong) {
        Some((a, b)) => (
            Some(false),
            format!("from {} to {} between {} and {}", a.predicted_text(), b.predicted_text(), a.case, b.case),
        ),
        None => (Some(true), format!("{} steps along '{along}', none the other way", steps.len())),
    }
}

fn crosses(
    records: &[&Record],
    (of, over): (&Parameters, &Parameters),
    along: &str,
    (after, until): (f64, f64),
) -> Judged {
    let mut pairs: Vec<(f64, f64)> = pairs(records, of, over)
        .into_iter()
        .filter_map(|(one, other)| Some((number(one, along)?, one.predicted / other.predicted)))
        .collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let Some(last) = pairs.last() else { return (None, "no pairs of cases".to_owned()) };
    match pairs.iter().find(|(_, ratio)| *ratio >= 1.0) {
        Some((at, _)) => {
            (Some((after..=until).contains(at)), format!("first at {along} {at}, claimed {after} to {until}"))
        }
        None => (Some(false), format!("never up to {along} {}: ratio {:.3} there", last.0, last.1)),
    }
}

fn best(records: &[&Record], is: &Parameters, each: &[String], sign: f64) -> Judged {
    let key = |record: &Record| -> Vec<Option<Value>> {
        each.iter().map(|name| record.parameters.get(name).cloned()).collect()
    };
    let mut groups: Vec<(Vec<Option<Value>>, &Record)> = Vec::new();
    for record in records {
        let own = key(record);
        match groups.iter_mut().find(|(known, _)| *known == own) {
            Some((_, best)) if sign * record.predicted > sign * best.predicted => *best = record,
            Some(_) => {}
            None => groups.push((own, record)),
        }
    }
    let wrong = groups.iter().find(|(_, best)| !crate::value::matches(&best.parameters, is));
    match wrong {
        Some((_, best)) => (Some(false), format!("the best is {} ({})", best.case, best.predicted_text())),
        None => (Some(true), format!("so in all {} comparisons", groups.len())),
    }
}
