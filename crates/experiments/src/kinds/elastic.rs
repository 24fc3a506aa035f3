//! Jobs whose number of workers changes, in training and in serving.

use cutplane_sim::advanced::elastic::{Replan, iteration};
use cutplane_sim::advanced::goodput::{StepModel, statistical_efficiency};
use cutplane_sim::advanced::serving::{mean_wait, servers_for};

use super::{Answer, Ask, Kind, KindMetric, Parameter, metrics, parameters};

/// Kind `elastic`.
pub(super) struct Elastic;

impl Kind for Elastic {
    fn name(&self) -> &'static str {
        "elastic"
    }

    fn about(&self) -> &'static str {
        "a data-parallel job on a changing number of workers: its iterations, what a change costs and when it pays"
    }

    fn parameters(&self) -> Vec<Parameter> {
        parameters(&[
            ("batches", "batches of an iteration, dealt to the workers"),
            ("workers", "workers"),
            ("compute_s", "time of one batch on one worker, s"),
            ("ring_step_s", "time of one of the 2 (p - 1) steps of the ring all-reduce, s"),
            ("iterations", "iterations that are left"),
            ("workers_before", "workers before the change"),
            ("save_s", "time to save the state, s"),
            ("restart_s", "time to start the processes, s"),
            ("params", "trainable numbers, whose state of 16 bytes each is dealt out anew"),
            ("gb_per_s", "bandwidth that it is dealt out with, GB/s"),
            ("warm_up_s", "time of slow first steps, s"),
        ])
    }

    fn metrics(&self) -> Vec<KindMetric> {
        metrics(&[
            ("iteration_s", "s", "time of an iteration"),
            ("compute_s", "s", "computing part of it"),
            ("ring_steps", "-", "steps of the ring all-reduce"),
            ("replan_s", "s", "time without progress at a change"),
            ("saved_s", "s", "time that the change saves over the iterations that are left, its own cost taken off"),
        ])
    }

    fn answer(&self, metric: &str, ask: &Ask<'_>) -> Result<Answer, String> {
        let of = |workers: u64| -> Result<f64, String> {
            let (compute, step) = (ask.number("compute_s")?, ask.number_or("ring_step_s", 0.0)?);
            Ok(iteration(ask.count("batches")?, workers, compute, step))
        };
        let value = match metric {
            "iteration_s" => of(ask.count("workers")?)?,
            "compute_s" => iteration(ask.count("batches")?, ask.count("workers")?, ask.number("compute_s")?, 0.0),
            "ring_steps" => iteration(0, ask.count("workers")?, 0.0, 1.0),
            "replan_s" => replan(ask)?.seconds(),
            _ => {
                let left = ask.count("iterations")? as f64;
                left * (of(ask.count("workers_before")?)? - of(ask.count("workers")?)?) - replan(ask)?.seconds()
            }
        };
        Ok(Answer::exact(value, "elastic training in closed form"))
    }
}

fn replan(ask: &Ask<'_>) -> Result<Replan, String> {
    let bandwidth = ask.number("gb_per_s")? * 1e9;
    if bandwidth <= 0.0 {
        return Err(format!("'gb_per_s' is {}: write a bandwidth above zero", bandwidth / 1e9));
    }
    Ok(Replan {
        save: ask.number_or("save_s", 0.0)?,
        restart: ask.number_or("restart_s", 0.0)?,
        parameters: ask.number("params")?,
        bandwidth,
        warm_up: ask.number_or("warm_up_s", 0.0)?,
    })
}

/// Kind `goodput`.
pub(super) struct Goodput;

impl Kind for Goodput {
    fn name(&self) -> &'static str {
        "goodput"
    }

    fn about(&self) -> &'static str {
        "progress of a data-parallel job whose batch grows with its replicas, as Pollux models it"
    }

    fn parameters(&self) -> Vec<Parameter> {
        parameters(&[
            ("replicas", "replicas"),
            ("samples", "samples of a replica and step"),
            ("initial_batch", "batch that learning began with"),
            ("variance", "variance of the gradient at that batch"),
            ("squared_norm", "its squared norm"),
            ("compute_s", "fixed time of computing, s"),
            ("compute_per_sample_s", "time of a sample, s"),
            ("exchange_s", "time of synchronising two replicas, s"),
            ("exchange_per_replica_s", "more for each further replica, s"),
            ("gamma", "how computing and synchronising hide one another, 1 not at all"),
        ])
    }

    fn metrics(&self) -> Vec<KindMetric> {
        metrics(&[
            ("goodput", "samples/s", "samples a second, each worth one of the initial batch"),
            ("throughput", "samples/s", "samples a second"),
            ("efficiency", "-", "progress of a sample over that of one of the initial batch"),
        ])
    }

    fn answer(&self, metric: &str, ask: &Ask<'_>) -> Result<Answer, String> {
        let (replicas, samples) = (ask.count("replicas")?, ask.count("samples")? as f64);
        let (batch, initial) = (replicas as f64 * samples, ask.count("initial_batch")? as f64);
        let (variance, norm) = (ask.number("variance")?, ask.number("squared_norm")?);
        let model = StepModel {
            compute: ask.number_or("compute_s", 0.0)?,
            compute_per_sample: ask.number("compute_per_sample_s")?,
            exchange: ask.number_or("exchange_s", 0.0)?,
            exchange_per_replica: ask.number_or("exchange_per_replica_s", 0.0)?,
            gamma: ask.number_or("gamma", 1.0)?,
        };
        let value = match metric {
            "goodput" => model.goodput(replicas, samples, initial, variance, norm),
            "throughput" => batch / model.seconds(replicas, samples),
            _ => statistical_efficiency(variance, norm, batch / initial),
        };
        Ok(Answer::exact(value, "Pollux's model"))
    }
}

/// Kind `serving`.
pub(super) struct Serving;

impl Kind for Serving {
    fn name(&self) -> &'static str {
        "serving"
    }

    fn about(&self) -> &'static str {
        "replicas that serve requests arriving at random, a queue in front of them (M/M/c)"
    }

    fn parameters(&self) -> Vec<Parameter> {
        parameters(&[
            ("rate", "requests a second"),
            ("service_s", "time of a request on a replica, s"),
            ("replicas", "replicas"),
            ("limit_s", "longest mean wait that is allowed, s"),
        ])
    }

    fn metrics(&self) -> Vec<KindMetric> {
        metrics(&[
            ("wait_s", "s", "mean time before a request is served"),
            ("replicas", "-", "fewest replicas that keep the limit"),
        ])
    }

    fn answer(&self, metric: &str, ask: &Ask<'_>) -> Result<Answer, String> {
        let (rate, service) = (ask.number("rate")?, ask.number("service_s")?);
        if rate <= 0.0 || service <= 0.0 {
            return Err("'rate', 'service_s': write numbers above zero".to_owned());
        }
        let value = if metric == "wait_s" {
            mean_wait(ask.count("replicas")?, rate, service)
        } else {
            let limit = ask.number("limit_s")?;
            let found = servers_for(rate, service, limit, 100_000);
            found.ok_or_else(|| format!("'limit_s' is {limit}: 100000 replicas do not keep it"))? as f64
        };
        Ok(Answer::exact(value, "queue of M/M/c"))
    }
}
