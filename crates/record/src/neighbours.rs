//! What other programs take of the processors while something is measured.

use std::time::Instant;

use sysinfo::{CpuRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, RefreshKind, System};

/// Watches the processors from its making to [`Neighbours::cores`]: a measured time is only as good as the machine was free.
#[derive(Debug)]
pub struct Neighbours {
    system: System,
    own: Option<Pid>,
    own_ms: u64,
    since: Instant,
}

impl Neighbours {
    /// Begins to watch; `None` where the system tells no processor times.
    pub fn watch() -> Option<Self> {
        let kinds = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing().with_usage());
        let mut system = System::new_with_specifics(kinds).ok()?;
        let own = sysinfo::get_current_pid().ok();
        let own_ms = own_time_ms(&mut system, own);
        Some(Self { system, own, own_ms, since: Instant::now() })
    }

    /// Cores that other programs held on average since the watch began: busy time of all cores less that of this process.
    pub fn cores(mut self) -> f64 {
        let seconds = self.since.elapsed().as_secs_f64();
        self.system.refresh_cpu_usage();
        let busy = f64::from(self.system.global_cpu_usage()) / 100.0 * self.system.cpus().len() as f64;
        let own_ms = own_time_ms(&mut self.system, self.own).saturating_sub(self.own_ms);
        let own = if seconds > 0.0 { own_ms as f64 / 1e3 / seconds } else { 0.0 };
        (busy - own).max(0.0)
    }
}

fn own_time_ms(system: &mut System, own: Option<Pid>) -> u64 {
    let Some(own) = own else { return 0 };
    system.refresh_processes_specifics(
        ProcessesToUpdate::Some(&[own]),
        false,
        ProcessRefreshKind::nothing().with_cpu(),
    );
    system.process(own).map_or(0, sysinfo::Process::accumulated_cpu_time)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_busy_neighbour_is_seen_and_own_work_is_not() {
        let Ok(mut other) = Command::new("sh").args(["-c", "while :; do :; done"]).stdout(Stdio::null()).spawn() else {
            println!("skipped: there is no sh");
            return;
        };
        let watch = Neighbours::watch().unwrap();
        std::thread::sleep(Duration::from_millis(600));
        let cores = watch.cores();
        other.kill().unwrap();
        other.wait().unwrap();
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64;
        assert!(cores > 0.05 && cores <= processors + 0.1, "{cores} of {processors}");
    }
}
