//! Ranks in processes of their own, started by `mpirun`: what becomes of a run when one of them is killed or stops, when the
//! disk is full, when a file is cut short; and that it goes on under another plan with nothing lost but the steps since the
//! last checkpoint.
#![cfg(feature = "mpi")]

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const PROFILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/cpu-core-x2.toml");
const TOOL: &str = env!("CARGO_BIN_EXE_cutplane");
/// `--timeout` of the runs, and what may pass beyond it on a busy machine before all is over.
const TIMEOUT: u64 = 2;
const PATIENCE: Duration = Duration::from_secs(TIMEOUT + 30);

fn mpirun(folder: &Path, program: &[&str], arguments: &str) -> Command {
    let mut command = Command::new("mpirun");
    command.args(["--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np", "2"]).args(program);
    command.args(arguments.split_whitespace()).current_dir(folder).env("CUTPLANE_CACHE", folder.join("cache"));
    command.env("OMPI_MCA_mpi_yield_when_idle", "1").stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Whether there is an `mpirun`; says so when there is none.
fn can_launch() -> bool {
    let found = Command::new("mpirun").arg("--version").output().is_ok();
    if !found {
        println!("skipped: no mpirun");
    }
    found
}

fn tool(folder: &Path, arguments: &str) -> Output {
    let mut command = Command::new(TOOL);
    command.args(arguments.split_whitespace()).current_dir(folder).env("CUTPLANE_CACHE", folder.join("cache"));
    command.output().expect("the tool starts")
}

/// Two plans of a model: replicas in `dp2/plan.json`, two stages in `pp2/plan.json`.
fn plans(folder: &Path) {
    for (out, name) in [("dp2", "dp2"), ("pp2", "pp2-1f1b-m2")] {
        let one = format!("compare gpt-nano --devices cpu:2 --batch 8 --profile {PROFILE} --plans {name} --out {out}");
        let output = tool(folder, &format!("{one} --steps 1 --warm-up 1 --json"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON, of one process alone")
}

fn losses(value: &Value) -> Vec<f64> {
    value["losses"].as_array().expect("a list").iter().map(|loss| loss.as_f64().expect("a number")).collect()
}

/// The newest checkpoint of a folder.
fn newest(folder: &Path) -> Option<u64> {
    let names = std::fs::read_dir(folder).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter_map(|name| name.strip_prefix("step-")?.strip_suffix(".json")?.parse().ok()).max()
}

/// Processes of this machine whose command line names `word`, with their rank among those that `mpirun` has started.
fn processes(word: &str) -> Vec<(i32, Option<u32>)> {
    let read = |pid: i32, file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let entries = std::fs::read_dir("/proc").expect("a list of processes");
    let all = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let rank = |pid| {
        let environment = text(read(pid, "environ"));
        environment.split('\0').find_map(|entry| entry.strip_prefix("OMPI_COMM_WORLD_RANK=")?.parse().ok())
    };
    all.filter(|pid| text(read(*pid, "cmdline")).contains(word)).map(|pid| (pid, rank(pid))).collect()
}

/// Waits until the launcher has ended, at most for so long.
fn ended(mut child: Child, within: Duration) -> Output {
    let start = Instant::now();
    while child.try_wait().expect("asked").is_none() {
        if start.elapsed() > within {
            let _ = child.kill();
            panic!("hangs: {}", String::from_utf8_lossy(&child.wait_with_output().expect("killed").stderr));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().expect("ended")
}

/// Sends `signal` to a rank in the middle of a run and returns what the run said, and the step of its last checkpoint.
fn struck(folder: &Path, victim: u32, signal: libc::c_int) -> (String, u64) {
    let checkpoints = folder.join(format!("c-{victim}-{signal}"));
    let word = checkpoints.to_str().expect("UTF-8").to_owned();
    let arguments =
        format!("run dp2/plan.json --steps 1000000 --timeout {TIMEOUT} --checkpoint {word} --checkpoint-every 3");
    let child = mpirun(folder, &[TOOL], &arguments).spawn().expect("mpirun");
    let start = Instant::now();
    while newest(&checkpoints).is_none() {
        assert!(start.elapsed() < Duration::from_mins(1), "no checkpoint");
        std::thread::sleep(Duration::from_millis(20));
    }
    let rank = processes(&word).into_iter().find(|(_, rank)| *rank == Some(victim));
    let (pid, _) = rank.unwrap_or_else(|| panic!("no process of rank {victim}"));
    // SAFETY: a signal to a process that this test has started.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    let output = ended(child, PATIENCE);
    assert!(!output.status.success());
    let orphans = || processes(&word);
    let start = Instant::now();
    while !orphans().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(10), "left behind: {:?}", orphans());
        std::thread::sleep(Duration::from_millis(20));
    }
    (String::from_utf8_lossy(&output.stderr).into_owned(), newest(&checkpoints).expect("kept"))
}

#[test]
fn a_process_that_is_killed_or_stopped_ends_the_run_and_is_named() {
    if !can_launch() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path();
    plans(folder);
    for (victim, signal, word) in [
        (1, libc::SIGKILL, "has ended"),
        (1, libc::SIGSTOP, "silent"),
        (0, libc::SIGKILL, "is gone"),
        (0, libc::SIGSTOP, "silent"),
    ] {
        let (said, saved) = struck(folder, victim, signal);
        let line = said.lines().find(|line| line.starts_with("error: ") && line.contains(word));
        let line = line.unwrap_or_else(|| panic!("signal {signal} to rank {victim}: {said}"));
        println!("signal {signal} to rank {victim}: {line}");
        // The lost rank, its process, and who waited for it, at which instruction.
        // Between steps that is none but the barrier from which the next one starts.
        let waiting = [format!("rank {}: instruction i", 1 - victim), format!("rank {0}: rank {0} ", 1 - victim)];
        let for_whom = [format!("needs rank {victim} for"), format!("from rank {victim}")];
        assert!(line.contains(&format!("rank {victim}: ")) && line.contains("process "), "{line}");
        assert!(
            waiting.iter().any(|words| line.contains(words)) && for_whom.iter().any(|words| line.contains(words)),
            "{line}"
        );
        let resumed = format!("run pp2/plan.json --steps {} --resume c-{victim}-{signal} --json", saved + 2);
        let output = if victim == 1 {
            mpirun(folder, &[TOOL], &resumed).output().expect("mpirun")
        } else {
            tool(folder, &resumed)
        };
        let resumed = json(&output);
        assert_eq!((&resumed["first_step"], losses(&resumed).len()), (&Value::from(saved), 2));
    }
}

#[test]
fn steps_of_processes_are_those_of_threads_also_after_a_checkpoint_and_under_another_plan() {
    if !can_launch() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path();
    plans(folder);
    let launch = |arguments: &str| mpirun(folder, &[TOOL], arguments).output().expect("mpirun");
    let whole = losses(&json(&tool(folder, "run dp2/plan.json --steps 6 --json")));
    let saved = launch("run dp2/plan.json --steps 4 --checkpoint c --checkpoint-every 2 --trace t.json --json");
    assert_eq!(losses(&json(&saved)), whole[..4], "to the last bit");
    let trace = std::fs::read_to_string(folder.join("t.json")).expect("written");
    assert!(trace.contains("cpu:0") && trace.contains("cpu:1"));
    assert_eq!(losses(&json(&launch("run dp2/plan.json --steps 6 --resume c --json"))), whole[4..]);
    let other = losses(&json(&launch("run pp2/plan.json --steps 6 --resume c --json")));
    assert!(other.iter().zip(&whole[4..]).all(|(a, b)| (a - b).abs() < 1e-4 * b), "{other:?} {whole:?}");
    let refused = |output: Output, word: &str| {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(word), "{said}");
    };
    refused(launch("run dp2/plan.json --checkpoint d --elastic"), "--elastic goes on within one process");
    // A file that is cut short is refused; the checkpoint before it is whole.
    let shard = std::fs::read_dir(folder.join("c")).expect("a folder").filter_map(Result::ok).find(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.starts_with("step-00000004-rank-1-")
    });
    let file = std::fs::OpenOptions::new().write(true).open(shard.expect("of rank 1").path()).expect("opened");
    file.set_len(1000).expect("cut short");
    refused(launch("run dp2/plan.json --steps 6 --resume c"), "the file has 1000 bytes");
    let older = launch("run dp2/plan.json --steps 6 --resume c/step-00000002.json --json");
    assert_eq!(losses(&json(&older)), whole[2..]);
}

/// A disk with room for one checkpoint and a half: a file system in memory, in a name space of the launcher alone.
#[test]
fn a_full_disk_ends_the_run_and_leaves_the_last_checkpoint_whole() {
    if !can_launch() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path();
    std::fs::create_dir(folder.join("c")).expect("made");
    let mount = "mount -t tmpfs -o size=4m tmpfs c";
    let allowed = Command::new("unshare").args(["-m", "sh", "-c", mount]).current_dir(folder).output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        println!("skipped: this user may not mount a file system in a name space");
        return;
    }
    plans(folder);
    // What was saved is copied out before the name space ends with the shell.
    let launch = "mpirun --allow-run-as-root --oversubscribe --bind-to none -np 2";
    let run = format!(
        "{launch} {TOOL} run dp2/plan.json --steps 50 --checkpoint c --checkpoint-every 1 --keep-checkpoints 9"
    );
    let script = format!("{mount} && ({run}; code=$?; cp -r c kept; exit $code)");
    let output = Command::new("unshare").args(["-m", "sh", "-c", &script]).current_dir(folder).output().expect("sh");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("No space left on device"), "{said}");
    assert!(said.contains("the checkpoints before it are whole"), "{said}");
    let saved = newest(&folder.join("kept")).expect("one was written before the disk was full");
    let resumed = json(&tool(folder, &format!("run dp2/plan.json --steps {} --resume kept --json", saved + 1)));
    assert_eq!(resumed["first_step"], Value::from(saved));
}
