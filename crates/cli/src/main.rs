//! `cutplane`: plan, predict, run and compare distributed training, from one binary. One verb a file in [`verbs`].

mod context;
mod output;
mod pricing;
mod progress;
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
    #[cfg(feature = "runtime")]
    Profile(verbs::profile::Profile),
    Plan(verbs::plan::Plan),
    Simulate(verbs::simulate::Simulate),
    #[cfg(feature = "runtime")]
    Run(verbs::run::Run),
    #[cfg(feature = "runtime")]
    Compare(verbs::compare::Compare),
}

fn main() -> ExitCode {
    #[cfg(feature = "runtime")]
    cutplane_runtime::allocator::keep_freed_memory();
    let result = match Cli::parse().verb {
        Verb::Models(verb) => verb.run(),
        #[cfg(feature = "runtime")]
        Verb::Profile(verb) => verb.run(),
        Verb::Plan(verb) => verb.run(),
        Verb::Simulate(verb) => verb.run(),
        #[cfg(feature = "runtime")]
        Verb::Run(verb) => verb.run(),
        #[cfg(feature = "runtime")]
        Verb::Compare(verb) => verb.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
