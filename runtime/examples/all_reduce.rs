//! All-reduce of 1 KiB to 256 MiB side by side: threads of one process, ranks in processes, and what MPI itself offers,
//! beside the bandwidth of memory. Best of several rounds in which all take turns, so that a disturbance does not fall on one.
//!
//! ```text
//! cargo build -p cutplane-runtime --features mpi --example all_reduce
//! mpirun --bind-to none -np 2 target/debug/examples/all_reduce > all-reduce.csv
//! ```
//!
//! GB/s are bytes of the buffer of a rank by time; that of memory is the bytes of a buffer that one core copies by time.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cutplane_plan::Rank;
use cutplane_runtime::backend::run_pinned;
use cutplane_runtime::comm::{CommError, CommOptions, Communicator, InProcess, MpiProcesses, Processes};
use mpi::collective::SystemOperation;
use mpi::topology::SimpleCommunicator;
use mpi::traits::CommunicatorCollectives;

/// Bytes of a buffer: 1 KiB to 256 MiB.
const SIZES: [usize; 10] =
    [1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20, 256 << 20];

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Repetitions that move about as much for every size.
fn repetitions(bytes: usize) -> usize {
    ((32 << 20) / bytes).clamp(1, 200)
}

fn measure() -> Result<(), CommError> {
    let processes = MpiProcesses::start()?;
    let (leads, count) = (processes.index() == 0, processes.count());
    let ends = processes.world(count, CommOptions::default())?;
    let group: Vec<Rank> = (0..count as u32).map(Rank).collect();
    if leads {
        println!(
            "bytes,ranks,in_process_ns,mpi_ns,mpi_allreduce_ns,copy_ns,in_process_gb_per_s,mpi_gb_per_s,mpi_allreduce_gb_per_s,copy_gb_per_s"
        );
    }
    let with_mpi = |_: &dyn Communicator, data: &mut [f32]| {
        plain(data);
        Ok(())
    };
    for bytes in SIZES {
        let mut best = [f64::INFINITY; 4];
        for _ in 0..7 {
            let times = [
                if leads { in_process(count, bytes) } else { f64::INFINITY },
                together(&ends, &group, |end, data| end.all_reduce(&group, data).map(drop), bytes)?,
                together(&ends, &group, with_mpi, bytes)?,
                if leads { copy(bytes) } else { f64::INFINITY },
            ];
            best.iter_mut().zip(times).for_each(|(best, time)| *best = best.min(time));
        }
        if leads {
            let rates: Vec<String> = best.iter().map(|time| format!("{:.3}", bytes as f64 / time)).collect();
            let times: Vec<String> = best.iter().map(|time| format!("{time:.0}")).collect();
            println!("{bytes},{count},{},{}", times.join(","), rates.join(","));
        }
    }
    Ok(())
}

/// Nanoseconds of one call of `work`, which all ranks begin together.
fn together(
    ends: &[Box<dyn Communicator>],
    group: &[Rank],
    work: impl Fn(&dyn Communicator, &mut [f32]) -> Result<(), CommError>,
    bytes: usize,
) -> Result<f64, CommError> {
    let mut data = vec![1.0; bytes / 4];
    let Some(end) = ends.first() else { return Ok(f64::INFINITY) };
    end.barrier(group)?;
    work(&**end, &mut data)?;
    let start = Instant::now();
    let rounds = repetitions(bytes);
    for _ in 0..rounds {
        work(&**end, &mut data)?;
    }
    Ok(nanos(start.elapsed(), rounds))
}

fn nanos(time: Duration, rounds: usize) -> f64 {
    time.as_nanos() as f64 / rounds as f64
}

/// `MPI_Allreduce` in place of the sum that is taken in rank order.
fn plain(data: &mut [f32]) {
    let mut sum = vec![0.0; data.len()];
    SimpleCommunicator::world().all_reduce_into(data, &mut sum, SystemOperation::sum());
    data.copy_from_slice(&sum);
}

/// The same on threads of this process, a core each.
fn in_process(ranks: usize, bytes: usize) -> f64 {
    let world = InProcess::world(ranks, CommOptions::default());
    let group: Arc<[Rank]> = (0..ranks as u32).map(Rank).collect();
    let start = |end: InProcess| {
        let group = group.clone();
        std::thread::spawn(move || {
            let core = end.rank().index();
            let work = || {
                let end: Box<dyn Communicator> = Box::new(end);
                together(&[end], &group, |end, data| end.all_reduce(&group, data).map(drop), bytes)
            };
            run_pinned(core, work)
        })
    };
    let threads: Vec<_> = world.into_iter().map(start).collect();
    let time = |joined: std::thread::Result<_>| match joined {
        Ok(Ok(Ok(time))) => time,
        _ => f64::INFINITY,
    };
    threads.into_iter().map(|thread| time(thread.join())).fold(0.0, f64::max)
}

/// A copy from memory to memory on one core.
fn copy(bytes: usize) -> f64 {
    let (from, mut to) = (vec![1.0f32; bytes / 4], vec![0.0f32; bytes / 4]);
    let start = Instant::now();
    let rounds = repetitions(bytes);
    for _ in 0..rounds {
        std::hint::black_box(&mut to).copy_from_slice(std::hint::black_box(&from));
    }
    nanos(start.elapsed(), rounds)
}
