//! `cutplane`: plan, predict, run and compare distributed training, from one binary. One verb a file in [`verbs`].

#[cfg(feature = "runtime")]
mod alone;
#[cfg(feature = "runtime")]
mod checkpoints;
mod context;
#[cfg(feature = "runtime")]
mod data;
#[cfg(feature = "runtime")]
mod elastic;
#[cfg(feature = "runtime")]
mod launch;
mod layouts;
mod limits;
#[cfg(feature = "runtime")]
mod local;
mod output;
mod pricing;
mod progress;
#[cfg(feature = "runtime")]
mod records;
#[cfg(feature = "runtime")]
mod session;
mod verbs;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[cfg(feature = "runtime")]
#[global_allocator]
static ALLOCATOR: cutplane_runtime::allocator::Allocator = cutplane_runtime::allocator::NEW;

/// Cuts a neural network into pieces, places them on devices, predicts the step time, and runs the plan.
#[derive(Debug, Parser)]
#[command(name = "cutplane", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Models(verbs::models::Models),
    Inspect(verbs::inspect::Inspect),
    #[cfg(feature = "runtime")]
    Doctor(verbs::doctor::Doctor),
    #[cfg(feature = "runtime")]
    Profile(verbs::profile::Profile),
    Place(verbs::place::Place),
    Plan(Box<verbs::plan::Plan>),
    Shard(Box<verbs::shard::Shard>),
    Explain(verbs::explain::Explain),
    Diff(verbs::diff::Diff),
    Simulate(verbs::simulate::Simulate),
    Score(verbs::score::Score),
    Calibrate(verbs::calibrate::Calibrate),
    Experiments(verbs::experiments::Experiments),
    Sweep(Box<verbs::sweep::Sweep>),
    #[cfg(feature = "runtime")]
    Run(verbs::run::Run),
    #[cfg(feature = "runtime")]
    Compare(verbs::compare::Compare),
    #[cfg(feature = "runtime")]
    GpuCheck(verbs::gpu_check::GpuCheck),
}

fn main() -> ExitCode {
    end_when_nobody_reads();
    #[cfg(feature = "runtime")]
    cutplane_runtime::allocator::keep_freed_memory();
    let result = match Cli::parse().verb {
        Verb::Models(verb) => verb.run(),
        Verb::Inspect(verb) => verb.run(),
        #[cfg(feature = "runtime")]
        Verb::Doctor(verb) => verb.run(),
        #[cfg(feature = "runtime")]
        Verb::Profile(verb) => verb.run(),
        Verb::Place(verb) => verb.run(),
        Verb::Plan(verb) => verb.run(),
        Verb::Shard(verb) => verb.run(),
        Verb::Explain(verb) => verb.run(),
        Verb::Diff(verb) => verb.run(),
        Verb::Simulate(verb) => verb.run(),
        Verb::Score(verb) => verb.run(),
        Verb::Calibrate(verb) => verb.run(),
        Verb::Experiments(verb) => verb.run(),
        Verb::Sweep(verb) => verb.run(),
        #[cfg(feature = "runtime")]
        Verb::Run(verb) => verb.run(),
        #[cfg(feature = "runtime")]
        Verb::Compare(verb) => verb.run(),
        #[cfg(feature = "runtime")]
        Verb::GpuCheck(verb) => verb.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", told(&error));
            ExitCode::FAILURE
        }
    }
}

/// A reader that has had enough (`cutplane ... | head`) ends this program as it ends others, in place of a panic in the next
/// `print`. Not under a launcher: to MPI a lost connection is an error to report, not the end.
#[cfg(unix)]
fn end_when_nobody_reads() {
    let launched =
        ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK"].iter().any(|name| std::env::var_os(name).is_some());
    if !launched {
        // SAFETY: no other thread runs yet, and the default action is a valid one for this signal.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    }
}

#[cfg(not(unix))]
fn end_when_nobody_reads() {}

/// An error with its causes in one line; a cause that the text before it has told is not told again.
fn told(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
