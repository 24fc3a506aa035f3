//! Verbs that several processes of a launcher execute together: `mpirun -np 4 cutplane run plan.json`.

use std::sync::Arc;

use anyhow::Result;
use cutplane_runtime::comm::{Processes, Talk};

/// The processes of which this one is one; `None` when it was not launched with others.
pub(crate) type Launched = Option<Arc<dyn Processes>>;

/// Does `work` together with the other processes of the launcher, if there are any. When it fails in one of them, that one
/// says why and ends all.
///
/// To be called before other threads are started.
pub(crate) fn together(work: impl FnOnce(Launched) -> Result<()>) -> Result<()> {
    let Some(processes) = join()? else { return work(None) };
    let done = work(Some(processes.clone()));
    if let Err(error) = &done {
        if processes.index() > 0 {
            // The leading process tells more, and ends this one, if it still can.
            std::thread::sleep(std::time::Duration::from_secs(1));
        }
        eprintln!("error: {}", crate::told(error));
        processes.abort();
    }
    done
}

/// What the leading process tells all others before they work together.
pub(crate) struct Briefing {
    processes: Arc<dyn Processes>,
    talk: Box<dyn Talk>,
}

impl Briefing {
    /// All processes open it together.
    pub(crate) fn open(processes: &Arc<dyn Processes>) -> Result<Self> {
        Ok(Self { processes: processes.clone(), talk: processes.talk()? })
    }

    /// Tells the others; keep it until they have worked.
    pub(crate) fn tell(&mut self, text: &str) -> Result<()> {
        for process in 1..self.processes.count() {
            self.talk.tell(process, text.as_bytes().to_vec())?;
        }
        Ok(())
    }

    /// Waits for what the leading process tells, for as long as it lives.
    pub(crate) fn hear(&mut self) -> Result<String> {
        loop {
            if let Some((_, bytes)) = self.talk.hear()? {
                return Ok(String::from_utf8(bytes)?);
            }
            anyhow::ensure!(self.processes.is_alive(0), "the leading {} is gone", self.processes.describe(0));
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}

/// Whether a launcher has started this process as one of several.
pub(crate) fn is_one_of_several() -> bool {
    #[cfg(feature = "mpi")]
    return cutplane_runtime::comm::MpiProcesses::is_launched();
    #[cfg(not(feature = "mpi"))]
    false
}

#[cfg(feature = "mpi")]
fn join() -> Result<Launched> {
    use cutplane_runtime::comm::MpiProcesses;
    if !is_one_of_several() {
        return Ok(None);
    }
    Ok(Some(Arc::new(MpiProcesses::start()?)))
}

#[cfg(not(feature = "mpi"))]
fn join() -> Result<Launched> {
    let several = |name: &str| std::env::var(name).is_ok_and(|count| count.parse::<u32>().is_ok_and(|count| count > 1));
    anyhow::ensure!(
        !several("OMPI_COMM_WORLD_SIZE") && !several("PMI_SIZE"),
        "launched as one of several processes, but this build has no MPI: build it with --features mpi where mpicc is, or \
         start one process, whose ranks are threads"
    );
    Ok(None)
}
