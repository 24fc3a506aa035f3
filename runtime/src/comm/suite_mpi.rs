//! The suite over MPI: `mpirun` starts this test binary several times, each time with the one test that checks a world.

use std::process::Command;

use super::*;
#[cfg(feature = "nccl")]
use crate::comm::nccl::{Libraries, Nccl};
use crate::comm::{Mpi, MpiProcesses, Processes};

/// What a test of several processes is started with; without it that test has nothing to do.
const LAUNCHED: &str = "CUTPLANE_TEST_UNDER_MPIRUN";
/// What says that the stand-in for NCCL is on the library path.
#[cfg(feature = "nccl")]
const WITH_CARDS: &str = "CUTPLANE_TEST_NCCL";

/// Starts `test` of this binary in `processes` processes; false, with a line that says so, where there is no `mpirun`.
fn launch(processes: usize, test: &str) -> bool {
    let binary = std::env::current_exe().expect("this binary");
    let count = processes.to_string();
    let mut command = Command::new("mpirun");
    command.args(["--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np", &count]);
    command.arg(binary).args(["--exact", test, "--ignored", "--nocapture", "--test-threads", "1"]);
    command.env(LAUNCHED, "1").env("OMPI_MCA_btl_vader_single_copy_mechanism", "none");
    #[cfg(feature = "nccl")]
    if let Some(folder) = crate::comm::nccl::tests::stand_in() {
        command.env("LD_LIBRARY_PATH", folder).env(WITH_CARDS, "1");
    }
    let Ok(output) = command.output() else {
        println!("skipped: no mpirun");
        return false;
    };
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{processes} processes: {text}");
    assert_eq!(text.matches("test result: ok. 1 passed").count(), processes, "{text}");
    true
}

#[test]
fn two_and_four_processes_pass_the_suite() {
    let all = [2, 4].into_iter().all(|processes| launch(processes, "comm::suite::mpi::a_world_of_processes"));
    println!("{}", if all { "checked" } else { "skipped" });
}

#[test]
#[ignore = "a part of `two_and_four_processes_pass_the_suite`, which starts it under mpirun"]
fn a_world_of_processes() {
    if std::env::var_os(LAUNCHED).is_none() {
        println!("skipped: not started by mpirun");
        return;
    }
    let processes = MpiProcesses::start().expect("MPI");
    let count = processes.count();
    assert_eq!(processes.neighbours(), count);
    assert!((0..count).all(|process| processes.is_alive(process)));
    let world = |ranks: usize, options| Mpi::world(&processes, ranks, options).expect("a world");
    // One rank a process, and two of them in each.
    for size in [count, 2 * count] {
        check(size, |options| world(size, options));
    }
    #[cfg(feature = "nccl")]
    if std::env::var_os(WITH_CARDS).is_some() {
        check(count, |options| on_cards(world(count, options), count, options));
    }
    // The last process has fewer ranks, or none.
    for size in [1, count + 1] {
        messages_in_any_order(world(size, CommOptions::default()));
        collectives_of(world(size, CommOptions::default()), &ranks(0..size as u32), 777);
    }
}

/// The same ranks with a card each, through the stand-in for NCCL that the launching test has put on the library path.
#[cfg(feature = "nccl")]
fn on_cards<C: Communicator>(below: Vec<C>, size: usize, options: CommOptions) -> Vec<Nccl<C>> {
    let cards: Vec<Option<usize>> = (0..size).map(Some).collect();
    let ends = Nccl::over(below, &cards, options, &Libraries::load()).expect("a world");
    assert!(ends.iter().all(|end| end.describe().starts_with(&format!("NCCL 2.27.3 joins {size} ranks"))));
    ends
}

fn check<C: Communicator>(size: usize, world: impl Fn(CommOptions) -> Vec<C>) {
    let calm = CommOptions::default();
    messages_in_any_order(world(calm));
    one_number_is_a_queue(world(calm));
    what_has_come_is_known(world(calm));
    let all = ranks(0..size as u32);
    let some = ranks([1, size as u32 - 1].into_iter().take(if size > 2 { 2 } else { 1 }));
    for len in [0, 1, 15, 256, 257, 5000, 300_001] {
        collectives_of(world(calm), &all, len);
        collectives_of(world(calm), &some, len);
    }
    a_barrier_holds_everybody(world(calm));
    mismatched_sizes_are_refused_everywhere(world(quick()));
    a_missing_peer_is_named_in_time(world(quick()));
    an_abort_ends_every_wait(world(calm));
    a_departed_peer_is_noticed(world(calm));
    wrong_addresses_are_refused(world(quick()));
}
