//! Runs the items in a process of their own: a panic on a card leaves its process unusable, and a kernel may hang. All items
//! share one process as long as it lives, because compiling and choosing kernels takes minutes and is lost with it.

use std::fs::OpenOptions;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::GpuCheck;
use super::journal::{Journal, path};

/// Time for which a worker may outlast its deadline to end the case in hand.
const GRACE: Duration = Duration::from_secs(5);
/// A worker that has begun and ended nothing for so long hangs.
const PATIENCE: Duration = Duration::from_mins(3);
/// Workers that a list may use up.
const MOST_WORKERS: usize = 16;
/// How hard the card's kernels are tuned, unless the environment says otherwise: tuning is most of a first step.
pub(super) const TUNING: (&str, &str) = ("CUBECL_AUTOTUNE_LEVEL", "minimal");

/// Does the items in at most `time`, with a new worker after each one that dies.
pub(super) fn run(list: &GpuCheck, time: Duration) -> Result<()> {
    let deadline = Instant::now() + time;
    for _ in 0..MOST_WORKERS {
        let known = begun(list)?;
        let work = deadline.saturating_duration_since(Instant::now()).saturating_sub(GRACE);
        let mut worker = start(list, work)?;
        let finished = watch(list, &mut worker, deadline)?;
        // A worker that ended by itself, or died before its first case, has no use for a successor.
        if finished || begun(list)? == known || Instant::now() >= deadline {
            break;
        }
    }
    Ok(())
}

/// Cases that were begun or passed over.
fn begun(list: &GpuCheck) -> Result<usize> {
    let count = |name: &str| Ok(Journal::open(&list.out, name, Instant::now())?.entries().len());
    list.only.iter().map(|item| count(item.name())).sum()
}

fn start(list: &GpuCheck, time: Duration) -> Result<Child> {
    let log = list.out.join("log.txt");
    let advice = || format!("{}: cannot write", log.display());
    let errors = OpenOptions::new().create(true).append(true).open(&log).with_context(advice)?;
    let mut command = Command::new(std::env::current_exe().context("finding this program")?);
    let items: Vec<&str> = list.only.iter().map(|item| item.name()).collect();
    command.args(["gpu-check", "--only", &items.join(","), "--out"]).arg(&list.out);
    command.args(["--worker", &time.as_secs_f64().to_string()]);
    if list.rehearse {
        command.arg("--rehearse");
    } else {
        command.args(["--card", &list.card.to_string()]);
    }
    if let Some(profile) = &list.profile {
        command.arg("--profile").arg(profile);
    }
    if std::env::var_os(TUNING.0).is_none() {
        command.env(TUNING.0, TUNING.1);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).spawn().context("starting a worker")
}

/// True when the worker ended by itself and well; one that is late or hangs is ended.
fn watch(list: &GpuCheck, worker: &mut Child, deadline: Instant) -> Result<bool> {
    let written = || -> u64 {
        let size = |name: &str| std::fs::metadata(path(&list.out, name)).map_or(0, |file| file.len());
        list.only.iter().map(|item| size(item.name())).sum()
    };
    let mut progress = (written(), Instant::now());
    loop {
        if let Some(status) = worker.try_wait()? {
            return Ok(status.success());
        }
        let now = written();
        if now != progress.0 {
            progress = (now, Instant::now());
        }
        if Instant::now() >= deadline || progress.1.elapsed() >= PATIENCE {
            worker.kill()?;
            worker.wait()?;
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
