//! Ranks in processes of their own, on one host or several, over MPI.
//!
//! `mpirun -np N` starts the processes; each holds the same number of ranks, every rank a thread. What travels is started,
//! asked after, and never waited for inside MPI, so that every wait ends within its timeout; and collectives are made of
//! messages, because a sum that is taken in rank order has the same bits under any number of processes, which
//! `MPI_Allreduce` does not promise. Blocks of 256 KiB keep what is summed in the cache.
//!
//! Two settings of Open MPI that its defaults get wrong for many cores of one host are set where the environment does not
//! say otherwise: messages are copied through shared memory, in fragments large enough that a rank that computes need not
//! help them along.

mod collective;
mod launch;
mod note;
mod rank;
mod raw;
mod tensors;
mod world;

pub use launch::MpiProcesses;
pub use rank::Mpi;
