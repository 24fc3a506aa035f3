//! Traces for Chrome's tracing page and Perfetto: prediction and measurement in one file, on matching tracks.

use std::path::Path;

use cutplane_graph::{DeviceGraph, DeviceId};
use cutplane_plan::{Action, Instruction, Program, Rank, RankProgram, Stream};
use cutplane_record::{Source, Span, Timeline};
use cutplane_units::{Bytes, Nanos};
use serde_json::{Value, json};

use crate::chart::{Activity, write};
use crate::error::ReportError;
use crate::lookup::{Index, check, index, overlaps};

/// Thread ids set aside for each rank: one a stream.
const STREAMS: u32 = 4;
/// Streams in the order of their tracks.
const ORDER: [Stream; STREAMS as usize] = [Stream::Compute, Stream::Send, Stream::Recv, Stream::Collective];

/// Writes [`trace_json`] to a file, whole or not at all.
///
/// # Errors
/// [`ReportError`].
pub fn write_trace(
    path: &Path,
    program: &Program,
    devices: &DeviceGraph,
    timelines: &[&Timeline],
) -> Result<(), ReportError> {
    let trace = trace_json(program, devices, timelines)?;
    write(path, trace.to_string().as_bytes())
}

/// The trace-event file of one program's timelines, at most one predicted and one measured: process 1 holds the prediction, process 2 the measurement; a thread a
/// rank, in the same order in both (a thread for each busy stream where streams overlap). Each instruction is one
/// complete event whose arguments hold its id, micro-batch, bytes and waiting time; the waiting is a nested event; an
/// arrow leads from each send to its receive. Times are us.
///
/// # Errors
/// [`ReportError::Mismatch`] when a timeline is not of the program.
pub fn trace_json(program: &Program, devices: &DeviceGraph, timelines: &[&Timeline]) -> Result<Value, ReportError> {
    for timeline in timelines {
        check(program, timeline)?;
    }
    let index = index(program);
    let split = |rank: &RankProgram| timelines.iter().any(|timeline| overlaps(&index, timeline, rank.rank));
    let split: Vec<bool> = program.ranks.iter().map(split).collect();
    let tracks = Tracks { program, devices, index, split };
    let events: Vec<Value> = timelines.iter().flat_map(|timeline| tracks.events(timeline)).collect();
    Ok(json!({
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": { "plan": program.plan_name, "plan_digest": program.plan_digest },
    }))
}

struct Tracks<'p> {
    program: &'p Program,
    devices: &'p DeviceGraph,
    index: Index<'p>,
    /// Whether a rank has a track a stream.
    split: Vec<bool>,
}

impl Tracks<'_> {
    fn events(&self, timeline: &Timeline) -> Vec<Value> {
        let process = Process::of(timeline.source);
        let mut events = vec![
            json!({"ph": "M", "pid": process.pid, "name": "process_name", "args": {"name": process.name}}),
            json!({"ph": "M", "pid": process.pid, "name": "process_sort_index", "args": {"sort_index": process.pid}}),
        ];
        for rank in &self.program.ranks {
            self.name_threads(rank, process.pid, &mut events);
        }
        for span in &timeline.spans {
            self.span(span, process, &mut events);
        }
        events
    }

    fn name_threads(&self, rank: &RankProgram, pid: u32, events: &mut Vec<Value>) {
        let name = self.thread_name(rank);
        let streams = if self.split[rank.rank.index()] { &ORDER[..] } else { &ORDER[..1] };
        for stream in streams {
            let tid = self.thread(rank.rank, *stream);
            let name = if *stream == Stream::Compute { name.clone() } else { format!("{name} {}", label(*stream)) };
            events.push(json!({"ph": "M", "pid": pid, "tid": tid, "name": "thread_name", "args": {"name": name}}));
            let order = json!({"sort_index": tid});
            events.push(json!({"ph": "M", "pid": pid, "tid": tid, "name": "thread_sort_index", "args": order}));
        }
    }

    fn thread_name(&self, rank: &RankProgram) -> String {
        let replica = if self.program.replicas > 1 { format!(" replica {}", rank.replica) } else { String::new() };
        format!("{} {} stage {}{replica}", rank.rank, self.device_name(rank.device), rank.stage)
    }

    fn device_name(&self, id: DeviceId) -> &str {
        self.devices.devices().get(id.index()).map_or("unknown device", |device| device.name.as_str())
    }

    fn thread(&self, rank: Rank, stream: Stream) -> u32 {
        let track = ORDER.iter().position(|other| *other == stream).filter(|_| self.split[rank.index()]).unwrap_or(0);
        rank.0 * STREAMS + track as u32 + 1
    }

    fn span(&self, span: &Span, process: Process, events: &mut Vec<Value>) {
        let instruction = self.index[&span.instruction].1;
        let track = Track { pid: process.pid, tid: self.thread(span.rank, instruction.action.stream()) };
        events.push(track.slice(
            &self.event_name(instruction.action),
            Activity::of(instruction.action).label(),
            (span.start, span.duration()),
            &self.arguments(span, instruction),
        ));
        if !span.waited.is_zero() {
            events.push(track.slice("waiting", "bubble", (span.start, span.waited), &json!({})));
        }
        events.extend(flow(span, instruction.action, process, track));
    }

    fn event_name(&self, action: Action) -> String {
        let label = action.label();
        self.program.micro_batch_of(action).map_or(label.to_owned(), |number| format!("{label} {number}"))
    }

    fn arguments(&self, span: &Span, instruction: &Instruction) -> Value {
        json!({
            "instruction": instruction.id.0,
            "micro_batch": self.program.micro_batch_of(instruction.action),
            "bytes": self.bytes(instruction.action),
            "waited_us": micros(span.waited),
        })
    }

    fn bytes(&self, action: Action) -> Option<Bytes> {
        match action {
            Action::Send { message } | Action::Recv { message } => Some(self.program.message(message).bytes),
            Action::Push { group, .. } | Action::Pull { group, .. } => Some(self.program.group(group).bytes),
            other => other.collective().map(|group| self.program.group(group).bytes),
        }
    }
}

/// A process of the trace.
#[derive(Clone, Copy)]
struct Process {
    pid: u32,
    name: &'static str,
}

impl Process {
    fn of(source: Source) -> Self {
        match source {
            Source::Predicted => Self { pid: 1, name: "predicted" },
            Source::Measured => Self { pid: 2, name: "measured" },
        }
    }
}

/// A row of the trace.
#[derive(Clone, Copy)]
struct Track {
    pid: u32,
    tid: u32,
}

impl Track {
    fn slice(self, name: &str, category: &str, (start, duration): (Nanos, Nanos), args: &Value) -> Value {
        json!({
            "ph": "X", "name": name, "cat": category, "pid": self.pid, "tid": self.tid,
            "ts": micros(start), "dur": micros(duration), "args": args,
        })
    }
}

/// The end of an arrow: at the start of a send, and where its receive has stopped waiting.
fn flow(span: &Span, action: Action, process: Process, track: Track) -> Option<Value> {
    let (message, phase, time) = match action {
        Action::Send { message } => (message, "s", span.start),
        Action::Recv { message } => (message, "f", (span.start + span.waited).min(span.end)),
        _ => return None,
    };
    let id = format!("{}-{}", process.name, message.0);
    let mut event = json!({
        "ph": phase, "id": id, "name": "message", "cat": "message", "pid": track.pid, "tid": track.tid,
        "ts": micros(time),
    });
    if phase == "f" {
        event["bp"] = json!("e");
    }
    Some(event)
}

const fn label(stream: Stream) -> &'static str {
    match stream {
        Stream::Compute => "compute",
        Stream::Send => "send",
        Stream::Recv => "receive",
        Stream::Collective => "collective",
    }
}

fn micros(time: Nanos) -> f64 {
    time.as_f64() / 1e3
}
