//! The executor: every plan trains as the unpartitioned model does; failures end a run; timelines are whole.

mod equality;
mod failures;
mod plans;
mod timelines;
