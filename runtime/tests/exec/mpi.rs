//! Ranks in processes of their own train as one rank does: `mpirun` starts this test binary two and four times.

use std::process::Command;
use std::sync::Arc;

use cutplane_graph::OpKind;
use cutplane_plan::{Execution, Optimizer, Recompute, Schedule, Synchronisation};
use cutplane_runtime::comm::{MpiProcesses, Processes};

use crate::executions::synchronised;
use crate::families::{image, sequence};
use crate::generated::{Axis, Case, Family};

/// What the test of several processes is started with; without it that test has nothing to do.
const LAUNCHED: &str = "CUTPLANE_TEST_UNDER_MPIRUN";

#[test]
fn two_and_four_processes_train_as_one_rank_does() {
    let binary = std::env::current_exe().expect("this binary");
    for processes in [2, 4] {
        let mut command = Command::new("mpirun");
        command.args(["--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]);
        command.args(["--mca", "mpi_yield_when_idle", "1", "-np", &processes.to_string()]).arg(&binary);
        command.args(["--exact", "mpi::ranks_of_processes", "--ignored", "--nocapture", "--test-threads", "1"]);
        command.env(LAUNCHED, "1").env("OMPI_MCA_btl_vader_single_copy_mechanism", "none");
        let Ok(output) = command.output() else {
            println!("skipped: no mpirun");
            return;
        };
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{processes} processes: {text}");
        assert_eq!(text.matches("test result: ok. 1 passed").count(), processes, "{text}");
        text.lines().filter(|line| line.starts_with("checked")).for_each(|line| println!("{line}"));
    }
}

#[test]
#[ignore = "a part of `two_and_four_processes_train_as_one_rank_does`, which starts it under mpirun"]
fn ranks_of_processes() {
    if std::env::var_os(LAUNCHED).is_none() {
        println!("skipped: not started by mpirun");
        return;
    }
    let processes: Arc<dyn Processes> = Arc::new(MpiProcesses::start().expect("MPI"));
    let cases = cases(processes.count());
    for (subject, rule) in [
        (sequence("gpt2", 16, Some(4), 8), Optimizer::AdamW),
        (sequence("bert-base", 16, Some(4), 14), Optimizer::AdamW),
        (sequence("lstm-stacked", 12, None, 8), Optimizer::AdamW),
        (sequence("mixtral-8x7b", 16, Some(4), 8), Optimizer::AdamW),
        (image("resnet18", 4, 64), Optimizer::Sgd),
    ] {
        let name = subject.model.name().to_owned();
        let is_mixture = subject.model.ops().iter().any(|op| matches!(op.kind, OpKind::ExpertLinear(_)));
        let mut family = Family::of_processes(subject, rule, processes.clone());
        let off: Vec<f64> = cases.iter().filter_map(|case| family.check(case)).collect();
        let skipped = if is_mixture { 0 } else { cases.iter().filter(|case| is_dealt(case)).count() };
        assert_eq!(off.len() + skipped, cases.len(), "{name} can be cut so often");
        if processes.index() == 0 {
            let (count, worst) = (processes.count(), off.iter().copied().fold(0.0, f64::max));
            println!("\nchecked {} plans of {name} in {count} processes, losses off by {worst:.1e}", off.len());
        }
    }
    let served = crate::served::check_processes(&processes);
    if processes.index() == 0 {
        println!("\nchecked {served} servers that take gradients as they come in {} processes", processes.count());
    }
}

/// Whether experts are dealt to ranks, which only a model with experts allows.
fn is_dealt(case: &Case) -> bool {
    matches!(case.tensor, Axis::Experts(_))
}

/// Plans for as many ranks as processes; for two processes also one with two ranks in each.
fn cases(processes: usize) -> Vec<Case> {
    let case = |rows, replicas, schedule, tensor, execution| {
        let micro_batches = if rows == 1 { 1 } else { 2 };
        Case { rows, replicas, micro_batches, schedule, tensor, execution }
    };
    let plain = |rows, replicas, tensor| case(rows, replicas, Schedule::OneFOneB, tensor, Execution::default());
    let divided = |replicas, how| case(1, replicas, Schedule::FillDrain, Axis::None, synchronised(how));
    let product = plain(2, 2, Axis::None);
    if processes == 2 {
        let again = Execution { recompute: Recompute::Layers, ..Execution::default() };
        return vec![
            plain(1, 2, Axis::None),
            plain(2, 1, Axis::None),
            plain(1, 1, Axis::Tensor),
            plain(1, 1, Axis::Sequence),
            plain(1, 1, Axis::Context),
            plain(1, 1, Axis::Experts(2)),
            plain(2, 1, Axis::Experts(2)),
            divided(2, Synchronisation::Zero2),
            divided(2, Synchronisation::Zero3),
            divided(2, Synchronisation::ParameterServer),
            case(2, 1, Schedule::ZeroBubble, Axis::None, Execution::default()),
            case(2, 1, Schedule::OneFOneB, Axis::None, again),
            product,
        ];
    }
    vec![
        product,
        plain(2, 1, Axis::Tensor),
        plain(1, 2, Axis::Tensor),
        divided(4, Synchronisation::Zero3),
        plain(1, 1, Axis::Experts(4)),
        plain(1, 2, Axis::Experts(2)),
    ]
}
