//! The timeline of a layout as a trace for Chrome's tracing page and Perfetto: a process for every class of ranks, a thread for
//! every stream. Written span by span, so that a large step needs no more memory than a small one.

use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context as _, Result};
use cutplane_sim::engine::step::{Activity, Detail, StepSpan, StepTimeline};
use serde_json::json;

/// Streams of a rank, in the order of their tracks.
const STREAMS: [&str; 4] = ["compute", "send", "receive", "collective"];

/// Writes a trace: whole or not at all.
pub(super) fn write(path: &Path, timeline: &StepTimeline<'_>, pieces: bool) -> Result<()> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let at = || path.display().to_string();
    let file = tempfile::Builder::new().prefix(".cutplane-").tempfile_in(folder).with_context(at)?;
    let mut out = BufWriter::new(file);
    let detail = if pieces { Detail::Pieces } else { Detail::Passes };
    events(&mut out, timeline, detail).with_context(at)?;
    let file = out.into_inner().map_err(std::io::IntoInnerError::into_error).with_context(at)?;
    file.persist(path).with_context(at)?;
    Ok(())
}

fn events(out: &mut impl Write, timeline: &StepTimeline<'_>, detail: Detail) -> std::io::Result<()> {
    write!(out, "{{\"displayTimeUnit\":\"ms\",\"traceEvents\":[")?;
    let program = timeline.program();
    for device in 0..program.devices.len() {
        let ranks = program.ranks_in_step * program.replicas;
        let comma = if device > 0 { "," } else { "" };
        let name = json!({"name": format!("stage {device} ({ranks} ranks)")});
        write!(out, "{comma}\n{}", json!({"ph": "M", "pid": device, "name": "process_name", "args": name}))?;
        for (thread, stream) in STREAMS.iter().enumerate() {
            let name =
                json!({"ph": "M", "pid": device, "tid": thread, "name": "thread_name", "args": {"name": stream}});
            write!(out, ",\n{name}")?;
        }
        let mut failed = None;
        timeline.for_each_span(device, detail, &mut |span| {
            if failed.is_none() {
                failed = event(out, device, span).err();
            }
        });
        failed.map_or(Ok(()), Err)?;
    }
    write!(out, "\n]}}\n")
}

/// Times in us, to the nanosecond.
fn event(out: &mut impl Write, device: usize, span: &StepSpan) -> std::io::Result<()> {
    let name = serde_json::to_value(span.activity).unwrap_or_default();
    let name = name.as_str().unwrap_or("other");
    let (start, length) = (span.start.get(), (span.end - span.start).get());
    write!(
        out,
        ",\n{{\"ph\":\"X\",\"pid\":{device},\"tid\":{},\"name\":\"{name}\",\"ts\":{}.{:03},\"dur\":{}.{:03}",
        stream(span.activity),
        start / 1000,
        start % 1000,
        length / 1000,
        length % 1000
    )?;
    if let (Some(micro_batch), Some(chunk)) = (span.micro_batch, span.chunk) {
        write!(out, ",\"args\":{{\"micro_batch\":{micro_batch},\"chunk\":{chunk}}}")?;
    }
    write!(out, "}}")
}

const fn stream(activity: Activity) -> usize {
    match activity {
        Activity::Send => 1,
        Activity::Receive => 2,
        Activity::Gradients | Activity::TiedGradients | Activity::ParameterGather => 3,
        _ => 0,
    }
}
