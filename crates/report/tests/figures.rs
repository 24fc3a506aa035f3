//! Every figure: both files, its labels, no number that is none, and degenerate input.

#![allow(clippy::unwrap_used)]

#[path = "fixture/mod.rs"]
mod fixture;

use cutplane_plan::Schedule;
use cutplane_record::{Breakdown, DeviceProfile, PROFILE_FORMAT, PROFILE_VERSION, Provenance, Source, Timeline};
use cutplane_report::{
    BreakdownBars, Canvas, FIDELITY_SIZE, Fidelity, FidelityPoint, LOSS_SIZE, LossCurve, PROFILE_SIZE, ReportError,
    SCATTER_SIZE, Size, breakdown, breakdown_size, fidelity, gantt, gantt_size, link_curves, loss_curves,
    matmul_curves, mean_breakdown, memory, memory_size, save, scatter, svg,
};
use cutplane_units::Nanos;

/// The SVG text of a figure, checked for what holds for all: every number is one, every text stands on the canvas.
fn checked(size: Size, draw: impl Fn(&Canvas<'_>) -> Result<(), ReportError>) -> String {
    let text = svg(size, draw).unwrap();
    assert!(text.starts_with(&format!("<svg width=\"{}\" height=\"{}\" viewBox=\"0 0 ", size.0, size.1)));
    assert!(text.trim_end().ends_with("</svg>"));
    for bad in ["NaN", "inf", "-2147483648", "2147483647"] {
        assert!(!text.contains(bad), "{bad} in the figure");
    }
    for line in text.lines().filter(|line| line.starts_with("<text")) {
        for (name, limit) in [("x", size.0), ("y", size.1)] {
            let value: i64 = attribute(line, name).parse().unwrap();
            assert!((0..=i64::from(limit) * 10).contains(&value), "{name} outside: {line}");
        }
    }
    text
}

fn attribute<'a>(line: &'a str, name: &str) -> &'a str {
    let from = line.find(&format!(" {name}=\"")).unwrap() + name.len() + 3;
    line[from..].split('"').next().unwrap()
}

/// The texts of a figure, in drawing order.
fn texts(svg: &str) -> Vec<&str> {
    let mut lines = svg.lines();
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        if line.starts_with("<text") {
            found.extend(lines.next());
        }
    }
    found
}

#[test]
fn a_figure_is_two_files_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let rows = fixture::rows();
    let saved = save(&folder.path().join("scatter"), SCATTER_SIZE, |canvas| scatter(canvas, &rows)).unwrap();
    let png = std::fs::read(&saved.png).unwrap();
    assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
    let side = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    assert_eq!((side(16), side(20)), (SCATTER_SIZE.0 * 2, SCATTER_SIZE.1 * 2));
    let again = svg(SCATTER_SIZE, |canvas| scatter(canvas, &rows)).unwrap();
    assert_eq!(std::fs::read_to_string(&saved.svg).unwrap(), again);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let stem = folder.path().join("nowhere").join("scatter");
    let error = save(&stem, SCATTER_SIZE, |canvas| scatter(canvas, &[])).unwrap_err().to_string();
    assert!(error.contains("nowhere") && error.contains("check that the folder exists"), "{error}");
}

#[test]
fn the_scatter_names_every_plan() {
    let rows = fixture::rows();
    let figure = checked(SCATTER_SIZE, |canvas| scatter(canvas, &rows));
    let texts = texts(&figure);
    for row in &rows {
        assert!(texts.contains(&row.name.as_str()), "{}", row.name);
    }
    assert!(texts.contains(&"12 plans · median error 2.9% · worst 10.6% · rank correlation 0.97"), "{texts:?}");
    // One star for the chosen plan and one in the legend, each with its rim; the band.
    assert_eq!(figure.matches("<polygon").count(), 5);
}

#[test]
fn the_scatter_takes_any_number_of_plans() {
    let zero = fixture::row("zero", true, (0, 0), (0, 0));
    let equal: Vec<_> = (0..12).map(|i| fixture::row(&format!("plan {i}"), false, (100, 100), (1, 1))).collect();
    let far = [fixture::row("a", false, (1, 2), (1, 1)), fixture::row("b", true, (4_000_000, 3_000_000), (1, 1))];
    for rows in [&[], std::slice::from_ref(&zero), &fixture::rows()[..1], &equal[..], &far[..]] {
        checked(SCATTER_SIZE, |canvas| scatter(canvas, rows));
        checked(memory_size(rows.len()), |canvas| memory(canvas, rows));
    }
}

#[test]
fn the_gantt_shows_both_timelines() {
    let program = fixture::one_f_one_b();
    let (predicted, measured) = fixture::pair(&program);
    let figure = checked(gantt_size(&program), |canvas| gantt(canvas, &program, &predicted, &measured));
    let texts = texts(&figure);
    for text in ["Predicted", "Measured", "all-reduce", "bubble (waiting)", "time from the start of the step (ms)"] {
        assert!(texts.contains(&text), "{text}");
    }
    assert_eq!(texts.iter().filter(|text| **text == "rank 1").count(), 2);
    // Two panels, two ranks, a forward and a backward pass of micro-batch 3.
    assert_eq!(texts.iter().filter(|text| **text == "3").count(), 8);
}

#[test]
fn a_box_stands_where_its_span_is() {
    let program = fixture::program("single", 1, 1, 1, Schedule::OneFOneB);
    let (predicted, mut measured) = fixture::pair(&program);
    measured.spans.clone_from(&predicted.spans);
    let figure = checked(gantt_size(&program), |canvas| gantt(canvas, &program, &predicted, &measured));
    // Load 0.7 ms, forward 20, backward 40, optimizer 11: 71.7 ms over the 1034 points from x = 112.
    let x = |ms: f64| ((112.0 + 1034.0 * ms / 71.7) * 10.0).round();
    let forward = figure.lines().find(|line| {
        line.starts_with("<rect") && line.contains("#56B4E9") && line.contains(&format!("x=\"{}\"", x(0.7)))
    });
    let width: f64 = attribute(forward.expect("a forward box at 0.7 ms"), "width").parse().unwrap();
    assert!((width - (x(20.7) - x(0.7))).abs() <= 1.0, "{width}");
}

#[test]
fn communication_beside_compute_gets_its_own_lane() {
    let program = fixture::one_f_one_b();
    let (mut predicted, measured) = fixture::pair(&program);
    let heights = |timeline: &Timeline| {
        let figure = checked(gantt_size(&program), |canvas| gantt(canvas, &program, timeline, &measured));
        let boxes = figure.lines().filter(|line| line.starts_with("<rect") && line.contains("#56B4E9"));
        let mut heights: Vec<String> = boxes.map(|line| attribute(line, "height").to_owned()).collect();
        heights.sort();
        heights.dedup();
        heights.len()
    };
    // Passes and the legend's swatch; then passes of a split row too.
    assert_eq!(heights(&predicted), 2);
    let send = program.ranks[0].instructions.iter().find(|i| i.action.label() == "send").unwrap().id;
    predicted.spans.iter_mut().find(|span| span.instruction == send).unwrap().end = Nanos::new(30_000_000);
    assert_eq!(heights(&predicted), 3);
}

#[test]
fn empty_and_zero_timelines_are_drawn() {
    let program = fixture::one_f_one_b();
    let (predicted, _) = fixture::pair(&program);
    let timeline = |spans| Timeline {
        source: Source::Measured,
        plan_digest: program.plan_digest.clone(),
        spans,
        peak_memory: Vec::new(),
    };
    let still = predicted.spans.iter().map(|span| cutplane_record::Span {
        start: Nanos::ZERO,
        end: Nanos::ZERO,
        waited: Nanos::ZERO,
        ..*span
    });
    let (nothing, zero) = (timeline(Vec::new()), timeline(still.collect()));
    for (left, right) in [(&predicted, &nothing), (&predicted, &zero), (&zero, &nothing)] {
        checked(gantt_size(&program), |canvas| gantt(canvas, &program, left, right));
    }
    assert_eq!(mean_breakdown(&program, &nothing).unwrap(), Breakdown::default());
}

#[test]
fn a_timeline_of_another_plan_is_refused() {
    let program = fixture::one_f_one_b();
    let other = fixture::program("other", 4, 1, 8, Schedule::OneFOneB);
    let (predicted, measured) = fixture::pair(&other);
    let error = svg((800, 400), |canvas| gantt(canvas, &program, &predicted, &measured)).unwrap_err().to_string();
    assert!(error.contains("pp2-1f1b-m4") && error.contains("instruction"), "{error}");
    assert!(mean_breakdown(&program, &predicted).is_err());
}

#[test]
fn the_mean_breakdown_sums_to_the_step_time() {
    let program = fixture::one_f_one_b();
    let (predicted, measured) = fixture::pair(&program);
    for timeline in [&predicted, &measured] {
        let parts = mean_breakdown(&program, timeline).unwrap();
        let sum: Nanos = parts.parts().iter().map(|(_, time)| *time).sum();
        // Each of the seven means is rounded down.
        assert!(timeline.makespan().get() - sum.get() < 7, "{sum} of {}", timeline.makespan());
    }
    // Four micro-batches of 20 and 40 ms on each rank; the optimizer takes 11 ms.
    let parts = mean_breakdown(&program, &predicted).unwrap();
    let ms = |time: Nanos| time.as_millis_f64();
    assert_eq!((ms(parts.forward), ms(parts.backward), ms(parts.optimizer)), (80.0, 160.0, 11.0));
}

#[test]
fn breakdown_bars_are_as_high_as_their_parts() {
    let program = fixture::one_f_one_b();
    let (predicted, measured) = fixture::pair(&program);
    let bars = BreakdownBars {
        name: "data-parallel x2 with a very long name".to_owned(),
        chosen: true,
        predicted: mean_breakdown(&program, &predicted).unwrap(),
        measured: mean_breakdown(&program, &measured).unwrap(),
    };
    let figure = checked(breakdown_size(1), |canvas| breakdown(canvas, std::slice::from_ref(&bars)));
    let height = |color: &str, nth: usize| -> f64 {
        let found = figure.lines().filter(|line| line.starts_with("<rect") && line.contains(color)).nth(nth);
        attribute(found.unwrap(), "height").parse().unwrap()
    };
    // The first of a colour is the legend's; backward passes take twice the time of forward passes.
    assert!((height("#0072B2", 1) / height("#56B4E9", 1) - 2.0).abs() < 0.01);
    assert!(texts(&figure).contains(&"-8.5%"), "{:?}", texts(&figure));
}

#[test]
fn breakdowns_of_nothing_are_drawn() {
    let nothing = BreakdownBars {
        name: String::new(),
        chosen: false,
        predicted: Breakdown::default(),
        measured: Breakdown::default(),
    };
    checked(breakdown_size(0), |canvas| breakdown(canvas, &[]));
    checked(breakdown_size(1), |canvas| breakdown(canvas, std::slice::from_ref(&nothing)));
}

#[test]
fn losses_have_a_reference_and_skip_what_is_no_number() {
    let curve = |name: &str, losses: &[f64]| LossCurve { name: name.to_owned(), losses: losses.to_vec() };
    let curves = [curve("single", &[5.5, f64::NAN, 4.0, f64::INFINITY]), curve("dp2", &[5.5, 4.5, 4.0, 3.5])];
    let figure = checked(LOSS_SIZE, |canvas| loss_curves(canvas, &curves, Some(256)));
    assert!(texts(&figure).contains(&"uniform guess, ln(256) = 5.55"));
    assert!(texts(&figure).contains(&"dp2"));
    for curves in [&[][..], &[curve("one step", &[2.0])], &[curve("none", &[])], &[curve("nan", &[f64::NAN])]] {
        checked(LOSS_SIZE, |canvas| loss_curves(canvas, curves, None));
        checked(LOSS_SIZE, |canvas| loss_curves(canvas, curves, Some(0)));
    }
}

#[test]
fn an_empty_profile_is_drawn() {
    let profile = DeviceProfile {
        format: PROFILE_FORMAT.to_owned(),
        version: PROFILE_VERSION,
        device_model: "core".to_owned(),
        backend: "flex".to_owned(),
        provenance: Provenance::default(),
        measured_in_s: 0.0,
        operators: Vec::new(),
        optimizers: Vec::new(),
        contention: Vec::new(),
        messages: Vec::new(),
        all_reduce: Vec::new(),
        staged: None,
        processes: Vec::new(),
        notes: Vec::new(),
    };
    checked(PROFILE_SIZE, |canvas| link_curves(canvas, &profile));
    checked(PROFILE_SIZE, |canvas| matmul_curves(canvas, &profile));
}

#[test]
fn fidelity_shows_every_series_and_survives_no_rows_and_impossible_values() {
    let series: Vec<String> = (0..11).map(|i| format!("series {i}")).collect();
    let points: Vec<FidelityPoint> = (0..22u32)
        .map(|i| FidelityPoint {
            predicted: 1.1 * 2f64.powi(i as i32),
            measured: 2f64.powi(i as i32),
            series: i as usize % 11,
        })
        .chain([FidelityPoint { predicted: f64::NAN, measured: 0.0, series: 99 }])
        .collect();
    let rows =
        Fidelity { source: "a-source", metric: "step time (ms)", summary: "22 rows", series: &series, points: &points };
    let figure = checked(FIDELITY_SIZE, |canvas| fidelity(canvas, &rows));
    let found = texts(&figure);
    assert!(found.contains(&"series 0") && found.contains(&"measured step time (ms)"), "{found:?}");
    assert!(found.iter().any(|text| text.contains("3 more")), "{found:?}");
    let empty = Fidelity { series: &[], points: &[], ..rows };
    checked(FIDELITY_SIZE, |canvas| fidelity(canvas, &empty));
}
