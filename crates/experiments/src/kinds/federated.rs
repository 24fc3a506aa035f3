//! Rounds of federated averaging.

use cutplane_sim::advanced::federated::{Client, Round, round};

use super::{Answer, Ask, Kind, KindMetric, Parameter, metrics, parameters};

/// Kind `federated`.
pub(super) struct Federated;

impl Kind for Federated {
    fn name(&self) -> &'static str {
        "federated"
    }

    fn about(&self) -> &'static str {
        "a round of federated averaging over clients that keep their data"
    }

    fn parameters(&self) -> Vec<Parameter> {
        parameters(&[
            ("clients", "clients that are chosen for the round"),
            ("model_mb", "bytes of the model, MB"),
            ("epochs", "passes of a client over its samples"),
            ("samples", "samples of each client; a list or one number"),
            ("ms_per_sample", "time that each client trains one sample, ms; a list or one number"),
            ("download_mb_per_s", "towards each client, MB/s; a list or one number"),
            ("upload_mb_per_s", "from each client, MB/s; a list or one number"),
            ("aggregation_s", "time that the server takes for the mean, s"),
            ("deadline_s", "clients that have not answered by then are dropped, s; none if absent"),
        ])
    }

    fn metrics(&self) -> Vec<KindMetric> {
        metrics(&[
            ("seconds", "s", "time of the round"),
            ("finished", "clients", "clients that answered in time"),
            ("samples_per_s", "samples/s", "samples that count, all passes, over the time"),
        ])
    }

    fn answer(&self, metric: &str, ask: &Ask<'_>) -> Result<Answer, String> {
        let (found, epochs) = answer(ask)?;
        let value = match metric {
            "seconds" => found.seconds,
            "finished" => found.finished as f64,
            _ => (found.samples * epochs) as f64 / found.seconds,
        };
        Ok(Answer::exact(value, "federated averaging in closed form"))
    }
}

fn answer(ask: &Ask<'_>) -> Result<(Round, u64), String> {
    let count = ask.count("clients")? as usize;
    if count > 1_000_000 {
        return Err(format!("'clients' is {count}: write at most 1000000"));
    }
    let epochs = ask.count_or("epochs", 1)?;
    let each = |name: &str| -> Result<Vec<f64>, String> {
        ask.get(name).ok_or_else(|| format!("'{name}' is missing: add it"))?;
        let all = ask.each(name, count, 0.0)?;
        match all.iter().find(|value| !value.is_finite() || **value <= 0.0) {
            Some(wrong) => Err(format!("'{name}' is {wrong}: write numbers above zero")),
            None => Ok(all),
        }
    };
    let (samples, times) = (each("samples")?, each("ms_per_sample")?);
    let (down, up) = (each("download_mb_per_s")?, each("upload_mb_per_s")?);
    let client = |at: usize| Client {
        download: down[at] * 1e6,
        upload: up[at] * 1e6,
        samples: samples[at].round() as u64,
        seconds_per_sample: times[at] * 1e-3,
    };
    let clients: Vec<Client> = (0..count).map(client).collect();
    let deadline = ask.get("deadline_s").map(|_| ask.number("deadline_s")).transpose()?;
    let bytes = ask.number("model_mb")? * 1e6;
    Ok((round(&clients, bytes, epochs, ask.number_or("aggregation_s", 0.0)?, deadline), epochs))
}
