//! Joining timelines to their program, checked before anything is drawn.

use std::collections::HashMap;

use cutplane_plan::{Instruction, InstructionId, Program, Rank, Stream};
use cutplane_record::Timeline;

use crate::error::ReportError;

/// The instructions of a program by id, with their rank.
pub(crate) type Index<'p> = HashMap<InstructionId, (Rank, &'p Instruction)>;

pub(crate) fn index(program: &Program) -> Index<'_> {
    let all = program.ranks.iter().flat_map(|rank| rank.instructions.iter().map(|i| (i.id, (rank.rank, i))));
    all.collect()
}

/// Checks that every span of a timeline is an instruction of the program, on its rank.
pub(crate) fn check(program: &Program, timeline: &Timeline) -> Result<(), ReportError> {
    let index = index(program);
    for span in &timeline.spans {
        if index.get(&span.instruction).is_none_or(|(rank, _)| *rank != span.rank) {
            let reason = format!(
                "the {:?} timeline has instruction {} on {}, which plan '{}' does not have",
                timeline.source, span.instruction, span.rank, program.plan_name
            );
            return Err(ReportError::Mismatch { reason });
        }
    }
    Ok(())
}

/// Whether streams of a rank are busy at the same time, so that it needs a track for each. `timeline` was checked.
pub(crate) fn overlaps(index: &Index<'_>, timeline: &Timeline, rank: Rank) -> bool {
    let mut busy: Vec<_> = timeline
        .rank_spans(rank)
        .map(|span| (span.start + span.waited, span.end, index[&span.instruction].1.action.stream()))
        .collect();
    busy.sort_unstable();
    let mut last: Option<(_, Stream)> = None;
    for (start, end, stream) in busy {
        if last.is_some_and(|(before, other)| other != stream && start < before) {
            return true;
        }
        last = last.filter(|(before, _)| *before > end).or(Some((end, stream)));
    }
    false
}
