//! A step as two Gantt charts, predicted above measured, on one time axis.

use cutplane_plan::{Program, RankProgram, Stream};
use cutplane_record::{Breakdown, Span, Timeline};
use cutplane_units::Nanos;

use super::breakdown::mean_breakdown;
use crate::chart::axis::{Frame, Scale, Tick};
use crate::chart::canvas::{Area, Canvas, Ink};
use crate::chart::legend::{Swatch, bubble_swatch, header, row};
use crate::chart::style::{BUBBLE, GRID, HATCH, HEADER, INK, LABEL, MARGIN, MUTED, PAPER, SMALL, TICK};
use crate::chart::{Activity, Size};
use crate::error::ReportError;
use crate::lookup::{Index, check, index, overlaps};

/// Space left of the axis for rank names.
const LEFT: f64 = 112.0;
/// Space right of the axis.
const RIGHT: f64 = 34.0;
/// Space above the first panel.
const TOP: f64 = HEADER + 34.0;
/// Height of a panel's heading.
const HEADING: f64 = 30.0;
/// Space below the second panel for the axis.
const AXIS: f64 = 58.0;

/// Size of [`gantt`] for a program, in points: rows get thinner the more ranks there are.
pub fn gantt_size(program: &Program) -> Size {
    let rows = program.ranks.len().max(1);
    let height = match rows {
        1..=4 => 50,
        5..=8 => 38,
        9..=16 => 26,
        _ => 16,
    };
    (1180, (TOP + AXIS + 2.0 * HEADING) as u32 + 2 * height * rows as u32)
}

/// Draws two timelines of one program, a row a rank: passes with their micro-batch, communication, optimizer, and what
/// is left as hatched bubble. The lower part of a row shows communication where it overlaps compute.
///
/// # Errors
/// [`ReportError::Mismatch`] when a timeline is not of the program; [`ReportError::Draw`].
pub fn gantt(
    canvas: &Canvas<'_>,
    program: &Program,
    predicted: &Timeline,
    measured: &Timeline,
) -> Result<(), ReportError> {
    check(program, predicted)?;
    check(program, measured)?;
    header(canvas, MARGIN, &format!("One training step of {}", program.plan_name), &subtitle(predicted, measured))?;
    let (width, height) = canvas.size();
    row(canvas, (MARGIN, HEADER + 14.0), width - MARGIN, &legend(program))?;
    let panel = (height - TOP - AXIS) / 2.0;
    let span = predicted.makespan().max(measured.makespan());
    let axis = TimeAxis::new(span);
    for (number, (name, timeline)) in [("Predicted", predicted), ("Measured", measured)].into_iter().enumerate() {
        let top = TOP + number as f64 * panel;
        let area = Area::new(LEFT, top + HEADING, width - RIGHT, top + panel);
        let frame = Frame { area, x: axis.scale, y: Scale::Linear { min: 0.0, max: 1.0 } };
        heading(canvas, program, &frame, name, timeline)?;
        Panel { canvas, program, index: index(program), frame, axis: &axis, timeline }.draw()?;
    }
    axis.draw(canvas, width, height - AXIS)
}

fn subtitle(predicted: &Timeline, measured: &Timeline) -> String {
    let (p, m) = (predicted.makespan(), measured.makespan());
    if m.is_zero() {
        return format!("step time predicted {p}, nothing measured");
    }
    let error = (p.as_f64() - m.as_f64()) / m.as_f64() * 100.0;
    format!("step time predicted {p}, measured {m} (error {error:+.1}%) · numbers are micro-batches, counted from 0")
}

/// Only what the program has.
fn legend(program: &Program) -> Vec<(Swatch, &'static str)> {
    let actions = || program.ranks.iter().flat_map(|rank| rank.instructions.iter().map(|i| Activity::of(i.action)));
    let mut entries: Vec<(Swatch, &'static str)> = Activity::ALL
        .into_iter()
        .filter(|activity| actions().any(|other| other == *activity))
        .map(|activity| (Swatch::Box(activity.color()), activity.label()))
        .collect();
    entries.push((bubble_swatch(), Activity::Bubble.label()));
    entries
}

fn heading(
    canvas: &Canvas<'_>,
    program: &Program,
    frame: &Frame,
    name: &str,
    timeline: &Timeline,
) -> Result<(), ReportError> {
    let parts = mean_breakdown(program, timeline)?;
    let text = format!("{}, bubble {:.1}% (mean over ranks)", timeline.makespan(), bubble_percent(timeline, &parts));
    let y = frame.area.top - 13.0;
    canvas.text(name, (MARGIN, y), Ink::new(LABEL))?;
    canvas.text(&text, (LEFT, y), Ink::new(SMALL).color(MUTED))
}

fn bubble_percent(timeline: &Timeline, parts: &Breakdown) -> f64 {
    parts.bubble.as_f64() / timeline.makespan().as_f64().max(1.0) * 100.0
}

/// The shared time axis, in the largest unit that keeps numbers above one.
struct TimeAxis {
    scale: Scale,
    unit: &'static str,
    nanos: f64,
}

impl TimeAxis {
    fn new(span: Nanos) -> Self {
        let (unit, nanos) = match span.get() {
            0..2_000_000 => ("µs", 1e3),
            2_000_000..10_000_000_000 => ("ms", 1e6),
            _ => ("s", 1e9),
        };
        let max = if span.is_zero() { 1.0 } else { span.as_f64() / nanos };
        Self { scale: Scale::Linear { min: 0.0, max }, unit, nanos }
    }

    fn value(&self, time: Nanos) -> f64 {
        time.as_f64() / self.nanos
    }

    fn ticks(&self) -> Vec<Tick> {
        self.scale.ticks(10)
    }

    fn draw(&self, canvas: &Canvas<'_>, width: f64, y: f64) -> Result<(), ReportError> {
        let area = Area::new(LEFT, y, width - RIGHT, y);
        let frame = Frame { area, x: self.scale, y: Scale::Linear { min: 0.0, max: 1.0 } };
        canvas.line(&[(area.left, y), (area.right, y)], INK, 1.0)?;
        for tick in self.ticks() {
            let x = frame.px(tick.value);
            canvas.line(&[(x, y), (x, y + 5.0)], INK, 1.0)?;
            canvas.text(&tick.label, (x, y + 16.0), Ink::new(TICK).color(MUTED).centered())?;
        }
        let title = format!("time from the start of the step ({})", self.unit);
        canvas.text(&title, (f64::midpoint(area.left, area.right), y + 40.0), Ink::new(LABEL).centered())
    }
}

/// One of the two charts.
struct Panel<'c, 'd> {
    canvas: &'c Canvas<'d>,
    program: &'c Program,
    index: Index<'c>,
    frame: Frame,
    axis: &'c TimeAxis,
    timeline: &'c Timeline,
}

impl Panel<'_, '_> {
    fn draw(&self) -> Result<(), ReportError> {
        let Area { left, right, top, bottom } = self.frame.area;
        for tick in self.axis.ticks() {
            let x = self.frame.px(tick.value);
            self.canvas.line(&[(x, top), (x, bottom)], GRID, 1.0)?;
        }
        for rank in &self.program.ranks {
            self.rank(rank)?;
        }
        self.canvas.line(&[(left, bottom), (right, bottom)], GRID, 1.0)?;
        let end = self.frame.px(self.axis.value(self.timeline.makespan()));
        self.canvas.dashes((end, top - 3.0), (end, bottom), INK, 1.2, (4.0, 3.0))
    }

    /// The rectangle of a row up to the end of the step.
    fn row(&self, rank: &RankProgram) -> Area {
        let height = self.frame.area.height() / self.program.ranks.len().max(1) as f64;
        let top = self.frame.area.top + rank.rank.index() as f64 * height;
        let pad = (height * 0.09).min(4.0);
        let end = self.frame.px(self.axis.value(self.timeline.makespan()));
        Area::new(self.frame.area.left, top + pad, end, top + height - pad)
    }

    fn rank(&self, rank: &RankProgram) -> Result<(), ReportError> {
        let row = self.row(rank);
        self.name(rank, &row)?;
        if row.width() > 0.0 {
            self.canvas.fill(&row, BUBBLE)?;
            self.canvas.hatch(&row, HATCH, 7.0)?;
        }
        let lanes = overlaps(&self.index, self.timeline, rank.rank);
        self.timeline.rank_spans(rank.rank).try_for_each(|span| self.span(span, &row, lanes))
    }

    fn name(&self, rank: &RankProgram, row: &Area) -> Result<(), ReportError> {
        let middle = f64::midpoint(row.top, row.bottom);
        let stage = match self.program.replicas {
            0 | 1 => format!("stage {}", rank.stage),
            _ => format!("stage {} · replica {}", rank.stage, rank.replica),
        };
        if row.height() < 28.0 {
            let size = SMALL.min(row.height());
            return self.canvas.text(&rank.rank.to_string(), (LEFT - 10.0, middle), Ink::new(size).right());
        }
        self.canvas.text(&rank.rank.to_string(), (LEFT - 10.0, middle - 8.0), Ink::new(TICK).right())?;
        self.canvas.text(&stage, (LEFT - 10.0, middle + 9.0), Ink::new(11.5).color(MUTED).right())
    }

    /// The busy part of a span; what it waited stays hatched.
    fn span(&self, span: &Span, row: &Area, lanes: bool) -> Result<(), ReportError> {
        let action = self.index[&span.instruction].1.action;
        let activity = Activity::of(action);
        let split = row.top + row.height() * 0.64;
        let (top, bottom) = match (lanes, action.stream()) {
            (false, _) => (row.top, row.bottom),
            (true, Stream::Compute) => (row.top, split),
            (true, _) => (split, row.bottom),
        };
        let start = self.frame.px(self.axis.value(span.start + span.waited));
        let area = Area::new(start, top, self.frame.px(self.axis.value(span.end)), bottom);
        if area.width() <= 0.0 {
            return Ok(());
        }
        self.canvas.fill(&Area { right: area.right.max(area.left + 0.3), ..area }, activity.color())?;
        if area.width() > 3.0 {
            self.canvas.line(&[(area.left, top), (area.left, bottom)], PAPER, 0.7)?;
        }
        self.number(&area, activity, self.program.micro_batch_of(action))
    }

    /// The micro-batch of a pass, where it fits.
    fn number(&self, area: &Area, activity: Activity, micro_batch: Option<u64>) -> Result<(), ReportError> {
        let (Activity::Forward | Activity::Backward, Some(number)) = (activity, micro_batch) else { return Ok(()) };
        let text = number.to_string();
        let size = SMALL.min(area.height() - 2.0);
        if size < 8.0 || self.canvas.text_width(&text, size)? + 3.0 > area.width() {
            return Ok(());
        }
        let at = (f64::midpoint(area.left, area.right), f64::midpoint(area.top, area.bottom));
        self.canvas.text(&text, at, Ink::new(size).color(activity.text_color()).centered())
    }
}
