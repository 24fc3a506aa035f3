//! The software stack of a row.

use cutplane_sim::estimate::{Stack, StackName};

use crate::parse::{self, SoftwareFamily};
use crate::prediction::Origin;
use crate::row::Row;

/// A stack and where its constants come from.
pub(super) struct RowStack {
    pub(super) stack: Stack,
    pub(super) origin: Origin,
}

/// The stack of a row; software without constants of its own takes those of its nearest relative.
pub(super) fn stack(row: &Row) -> RowStack {
    let stack = name(row).stack();
    let origin =
        if stack.source == "assumed" { Origin::Assumed } else { Origin::Calibrated { rows: stack.source.into() } };
    RowStack { stack, origin }
}

fn name(row: &Row) -> StackName {
    match parse::software(&row.framework).family {
        SoftwareFamily::MegatronLm | SoftwareFamily::MegatronDeepSpeed | SoftwareFamily::OneFlow => StackName::Megatron,
        SoftwareFamily::MegatronCore => StackName::MegatronCore,
        SoftwareFamily::PytorchFsdp | SoftwareFamily::InternEvo | SoftwareFamily::DeepSpeed => StackName::PytorchFsdp,
        _ => StackName::PytorchDdp,
    }
}
