//! Ranks in several processes: who they are, and what they need beside the communicator of the ranks.

use std::fmt::Debug;

use super::{CommError, CommOptions, Communicator};

/// The processes that execute one program together, each some of its ranks. They are started by a launcher, all with the
/// same arguments, and make the same calls in the same order; process 0 leads.
pub trait Processes: Debug + Send + Sync {
    /// Which of them this one is.
    fn index(&self) -> usize;

    /// How many they are.
    fn count(&self) -> usize;

    /// Processes that run on the host of this one, itself included.
    fn neighbours(&self) -> usize;

    /// The host of each process, numbered from 0 in the order in which the processes name them.
    fn hosts(&self) -> Vec<usize>;

    /// A process in words: its number and its host.
    fn describe(&self, process: usize) -> String;

    /// False when the process is known to have ended. One on another host is not known to have ended; it only falls silent.
    fn is_alive(&self, process: usize) -> bool;

    /// Ranks of a process in a world of `ranks`: they are dealt in order, so the last processes may have fewer, or none.
    fn share(&self, ranks: usize) -> usize {
        ranks.div_ceil(self.count()).max(1)
    }

    /// A new world of `ranks` ranks. Returned are this process's ends.
    ///
    /// # Errors
    /// [`CommError::Transport`].
    fn world(&self, ranks: usize, options: CommOptions) -> Result<Vec<Box<dyn Communicator>>, CommError>;

    /// A new channel for what the processes tell each other.
    ///
    /// # Errors
    /// [`CommError::Transport`].
    fn talk(&self) -> Result<Box<dyn Talk>, CommError>;

    /// Ends all processes at once, this one included, without waiting for any of them.
    fn abort(&self);
}

/// What processes tell each other: short messages, in order between any two of them.
pub trait Talk: Debug + Send {
    /// Starts to tell a process something; never waits.
    ///
    /// # Errors
    /// [`CommError::Transport`].
    fn tell(&mut self, process: usize, words: Vec<u8>) -> Result<(), CommError>;

    /// The next thing that a process has told, if there is any, with its number. To be asked often: asking is also what
    /// moves the messages of the ranks while they compute.
    ///
    /// # Errors
    /// [`CommError::Transport`].
    fn hear(&mut self) -> Result<Option<(usize, Vec<u8>)>, CommError>;

    /// Whether messages of this process's ranks are on their way and should not wait long for the next [`Talk::hear`].
    fn is_busy(&self) -> bool;
}
