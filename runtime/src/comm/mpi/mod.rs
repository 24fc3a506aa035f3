//! Ranks in processes of their own, on one host or several, over MPI.
//!
//! `mpirun -np N` starts the processes; each holds the same number of ranks, every rank a thread. What travels is started,
//! asked after, and never waited for inside MPI, so that every wait ends within its timeout; and collectives are made of
//! messages, because a sum that is taken in rank order has the same bits under any number of processes, which
//! `MPI_Allreduce` does not promise. Blocks of 256 KiB keep what is summed in the cache.
//!
//! One setting of Open MPI that its default gets wrong for many cores of one host is set where the environment does not say
//! otherwise: messages are copied through shared memory, not out of the other process by the kernel.

mod collective;
mod launch;
mod note;
mod rank;
mod raw;
mod tensors;
mod world;

pub use launch::MpiProcesses;
pub use rank::Mpi;
