//! Inputs of micro-batches, made in a thread of their own before they are asked for.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use cutplane_graph::ValueId;

use super::batches::{Batches, Inputs};
use super::error::DataError;

/// Micro-batches that are ready and have not been asked for: this many in the queue, and one more in the thread's hands.
const QUEUED: usize = 1;

/// What a step loads at one place of a rank's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Portion {
    /// Where the micro-batch begins in the global batch.
    pub(crate) first_position: u64,
    /// Its samples.
    pub(crate) count: u64,
    /// The inputs that are wanted of them.
    pub(crate) wanted: Vec<ValueId>,
}

/// A thread that makes the parts of one step after another, in the order in which they will be asked for, and is at most
/// two of them ahead.
#[derive(Debug)]
pub(crate) struct Prefetch {
    /// `None` only while it is dropped.
    ready: Option<Receiver<Result<Inputs, DataError>>>,
    thread: Option<JoinHandle<()>>,
}

impl Prefetch {
    /// Starts with the first of `parts` at step `step`. Nothing is started for a rank that loads nothing.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub(crate) fn start(batches: Arc<Batches>, parts: Vec<Portion>, step: u64) -> std::io::Result<Self> {
        if parts.is_empty() {
            return Ok(Self { ready: None, thread: None });
        }
        let (hand_over, ready) = sync_channel(QUEUED);
        let body = move || make(&batches, &parts, step, &hand_over);
        let thread = std::thread::Builder::new().name("loader".to_owned()).spawn(body)?;
        Ok(Self { ready: Some(ready), thread: Some(thread) })
    }

    /// The next part, as soon as it is ready.
    ///
    /// # Errors
    /// [`DataError`] when it could not be read; [`DataError::LoaderEnded`] afterwards.
    pub(crate) fn next(&self) -> Result<Inputs, DataError> {
        let ready = self.ready.as_ref().ok_or(DataError::LoaderEnded)?;
        ready.recv().unwrap_or(Err(DataError::LoaderEnded))
    }
}

fn make(batches: &Batches, parts: &[Portion], first_step: u64, hand_over: &SyncSender<Result<Inputs, DataError>>) {
    for step in first_step.. {
        for part in parts {
            let inputs = batches.inputs(step, part.first_position, part.count, &part.wanted);
            let failed = inputs.is_err();
            // Nobody takes it any more when the run is over.
            if hand_over.send(inputs).is_err() || failed {
                return;
            }
        }
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        self.ready = None;
        if let Some(thread) = self.thread.take() {
            // Its panic would have been met as an end of the loader.
            let _ = thread.join();
        }
    }
}
