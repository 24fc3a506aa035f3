//! Graphs of given costs on accelerators and processor cores.

use std::time::Duration;

use cutplane_sim::placement::{PlaceOptions, PlacementObjective, place};

use super::{Answer, Ask, Kind, KindMetric, Parameter, metrics, parameters};

/// Kind `placement`.
pub(super) struct Placement;

impl Kind for Placement {
    fn name(&self) -> &'static str {
        "placement"
    }

    fn about(&self) -> &'static str {
        "the best placement of a workload of the device-placement benchmark"
    }

    fn parameters(&self) -> Vec<Parameter> {
        parameters(&[
            ("file", "workload file, below the folders that the definition needs"),
            ("objective", "throughput or latency"),
            ("contiguous", "whether the part of each device must be a convex set"),
            ("time_limit_s", "seconds of search, 20 if absent"),
            ("workload", "name of the workload, for tables and figures"),
        ])
    }

    fn metrics(&self) -> Vec<KindMetric> {
        metrics(&[
            ("objective", "", "largest load of a device, or time of a sample, in the workload's unit"),
            ("gap", "-", "what is left between it and the proven bound, over it"),
        ])
    }

    fn answer(&self, metric: &str, ask: &Ask<'_>) -> Result<Answer, String> {
        let problem = cutplane_zoo::read_placement(&ask.file("file")?).map_err(|error| error.to_string())?;
        let objective = match ask.text("objective")? {
            "throughput" => PlacementObjective::Throughput,
            "latency" => PlacementObjective::Latency,
            other => return Err(format!("'objective' is '{other}': write throughput or latency")),
        };
        let seconds = ask.number_or("time_limit_s", 20.0)?;
        let options = PlaceOptions {
            objective,
            contiguous: ask.flag_or("contiguous", false)?,
            time_limit: Duration::try_from_secs_f64(seconds).map_err(|error| format!("'time_limit_s': {error}"))?,
            seed: ask.seed,
            ..PlaceOptions::default()
        };
        let placed = place(&problem, &options).map_err(|error| error.to_string())?;
        let value = if metric == "gap" { placed.gap() } else { placed.objective };
        Ok(Answer::exact(
            value,
            format!("found by {}, at most {:.2}% from optimal", placed.searcher, 100.0 * placed.gap()),
        ))
    }
}
