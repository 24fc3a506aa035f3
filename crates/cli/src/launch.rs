//! Verbs that several processes of a launcher execute together: `mpirun -np 4 cutplane run plan.json`.

use std::sync::Arc;

use anyhow::Result;
use cutplane_runtime::comm::Processes;

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

#[cfg(feature = "mpi")]
fn join() -> Result<Launched> {
    use cutplane_runtime::comm::MpiProcesses;
    if !MpiProcesses::is_launched() {
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
