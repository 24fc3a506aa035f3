//! Techniques around a training step or a served request, each as a small model in closed form: what a plan's step time
//! means for a job, a service, a fleet of phones. One file a topic; times in seconds, sizes in bytes, rates per second,
//! unless a name says otherwise. Inputs are taken as stated: shares lie in `[0, 1]`, counts are at least one where a division
//! needs it, and are raised to it where they are not.

pub mod asynchronous_pipeline;
pub mod budget;
pub mod checkpoint;
pub mod compression;
pub mod edge;
pub mod elastic;
pub mod federated;
pub mod freezing;
pub mod goodput;
pub mod input;
pub mod multiplex;
pub mod offload;
pub mod overlap;
pub mod recomputation;
pub mod recurrence;
pub mod serving;
pub mod synchrony;
