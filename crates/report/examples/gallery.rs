//! Draws every figure from invented numbers into a folder, to look at: `cargo run -p cutplane-report --example gallery
//! -- FOLDER`.

#![allow(clippy::unwrap_used)]

#[path = "../tests/fixture/mod.rs"]
mod fixture;

use std::path::Path;

use cutplane_plan::{Program, Schedule};
use cutplane_record::{
    AllReducePoint, DeviceProfile, MessagePoint, OperatorCurve, OperatorPoint, PROFILE_FORMAT, PROFILE_VERSION,
    Provenance,
};
use cutplane_report::{
    BreakdownBars, CompareRow, LOSS_SIZE, LossCurve, PROFILE_SIZE, Page, ReportError, SCATTER_SIZE, breakdown,
    breakdown_size, compare_table, gantt, gantt_size, link_curves, loss_curves, matmul_curves, mean_breakdown, memory,
    memory_size, save, scatter, svg, write_page, write_trace,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("name a folder")?;
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder)?;
    comparisons(folder, "12", &fixture::rows())?;
    comparisons(folder, "8", &wide_rows())?;
    comparisons(folder, "1", &fixture::rows()[..1])?;
    gantts(folder)?;
    breakdowns(folder)?;
    losses(folder)?;
    profiles(folder)?;
    page(folder)?;
    println!("{}", compare_table(&fixture::rows()));
    Ok(())
}

/// Eight plans whose times span more than a factor of four, with names that do not break well.
fn wide_rows() -> Vec<CompareRow> {
    let names =
        ["single", "dp2", "dp4", "pp4_fill_drain_m1", "pp4_fill_drain_m16", "pp4-1f1b-m16", "dp2-pp2-1f1b-m8", "dp8"];
    let times = [
        (8120, 7970),
        (4210, 4140),
        (2190, 2250),
        (8320, 8010),
        (2790, 2650),
        (2770, 2740),
        (2390, 2455),
        (1190, 1160),
    ];
    let all = names.iter().zip(times).enumerate();
    all.map(|(i, (name, time))| {
        fixture::row(name, *name == "dp8", time, (5000 - 400 * i as u64, 5100 - 380 * i as u64))
    })
    .collect()
}

fn comparisons(folder: &Path, name: &str, rows: &[CompareRow]) -> Result<(), ReportError> {
    save(&folder.join(format!("scatter-{name}")), SCATTER_SIZE, |canvas| scatter(canvas, rows))?;
    save(&folder.join(format!("memory-{name}")), memory_size(rows.len()), |canvas| memory(canvas, rows))?;
    Ok(())
}

fn programs() -> Vec<Program> {
    vec![
        fixture::one_f_one_b(),
        fixture::program("pp2-fill-drain-m8", 2, 1, 8, Schedule::FillDrain),
        fixture::program("dp2-pp4-1f1b-m8", 4, 2, 8, Schedule::OneFOneB),
        fixture::program("single", 1, 1, 1, Schedule::OneFOneB),
    ]
}

fn gantts(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    for program in programs() {
        let (predicted, measured) = fixture::pair(&program);
        let stem = folder.join(format!("gantt-{}", program.plan_name));
        save(&stem, gantt_size(&program), |canvas| gantt(canvas, &program, &predicted, &measured))?;
    }
    let program = fixture::one_f_one_b();
    let (predicted, measured) = fixture::pair(&program);
    write_trace(&folder.join("trace.json"), &program, &fixture::devices(2), &[&predicted, &measured])?;
    Ok(())
}

fn breakdowns(folder: &Path) -> Result<(), ReportError> {
    let shapes: Vec<Program> =
        [(1, 1, 1), (1, 2, 1), (2, 1, 1), (2, 1, 4), (2, 1, 8), (3, 1, 8), (2, 2, 8), (4, 1, 16)]
            .into_iter()
            .map(|(p, d, m)| fixture::program(&format!("pipeline x{p} dp x{d} m={m}"), p, d, m, Schedule::OneFOneB))
            .collect();
    let bars = shapes.iter().enumerate().map(|(index, program)| {
        let (predicted, measured) = fixture::pair(program);
        Ok(BreakdownBars {
            name: program.plan_name.clone(),
            chosen: index == 4,
            predicted: mean_breakdown(program, &predicted)?,
            measured: mean_breakdown(program, &measured)?,
        })
    });
    let bars = bars.collect::<Result<Vec<_>, ReportError>>()?;
    save(&folder.join("breakdown-8"), breakdown_size(bars.len()), |canvas| breakdown(canvas, &bars))?;
    save(&folder.join("breakdown-2"), breakdown_size(2), |canvas| breakdown(canvas, &bars[..2]))?;
    Ok(())
}

fn losses(folder: &Path) -> Result<(), ReportError> {
    let curve = |name: &str, index: usize| LossCurve {
        name: name.to_owned(),
        losses: (0..50)
            .map(|step| 1.6 + 4.0 * (-f64::from(step) / 12.0).exp() + 0.08 * (f64::from(step) * 1.7).sin())
            .map(|loss| loss + index as f64 * 2e-7)
            .collect(),
    };
    let curves: Vec<LossCurve> =
        fixture::rows().iter().take(8).enumerate().map(|(index, row)| curve(&row.name, index)).collect();
    save(&folder.join("loss"), LOSS_SIZE, |canvas| loss_curves(canvas, &curves, Some(256)))?;
    Ok(())
}

fn profiles(folder: &Path) -> Result<(), ReportError> {
    let profile = profile();
    save(&folder.join("links"), PROFILE_SIZE, |canvas| link_curves(canvas, &profile))?;
    save(&folder.join("matmul"), PROFILE_SIZE, |canvas| matmul_curves(canvas, &profile))?;
    Ok(())
}

fn profile() -> DeviceProfile {
    let message = |power: u32| MessagePoint {
        bytes: 1 << power,
        send_ns: 400.0 + f64::from(1u32 << power) / 9.0,
        recv_ns: 300.0 + f64::from(1u32 << power) / 11.0,
        latency_ns: 2500.0,
    };
    let reduce = |ranks: u32, power: u32| AllReducePoint {
        ranks,
        bytes: 1 << power,
        time_ns: 6000.0 * f64::from(ranks) + f64::from(1u32 << power) / 4.0 * f64::from(ranks).sqrt(),
        time_mad_ns: 50.0,
    };
    let point = |rows: u64, width: u64| {
        let work = 2.0 * rows as f64 * (width * width) as f64;
        let rate = 85.0 * work / (work + 4e6) * (0.9 + 0.1 * rows as f64 / 512.0);
        OperatorPoint {
            axes: vec![rows, width, width],
            work,
            forward_ns: work / rate,
            forward_mad_ns: 1.0,
            backward_ns: 2.3 * work / rate,
            backward_mad_ns: 1.0,
            kept_bytes: 0.0,
            workspace_bytes: 0.0,
            beside_factor: None,
        }
    };
    let points = [32, 128, 512].iter().flat_map(|rows| [64, 128, 256, 512, 1024].map(|width| point(*rows, width)));
    DeviceProfile {
        format: PROFILE_FORMAT.to_owned(),
        version: PROFILE_VERSION,
        device_model: "invented core".to_owned(),
        backend: "flex".to_owned(),
        provenance: Provenance::default(),
        measured_in_s: 1.0,
        operators: vec![OperatorCurve {
            operator: "linear".to_owned(),
            precision: cutplane_graph::Dtype::F32,
            points: points.collect(),
        }],
        optimizers: Vec::new(),
        contention: Vec::new(),
        messages: (6..=24).step_by(2).map(message).collect(),
        all_reduce: [2, 4].iter().flat_map(|ranks| (10..=26).step_by(2).map(|power| reduce(*ranks, power))).collect(),
        staged: None,
        processes: Vec::new(),
        notes: Vec::new(),
    }
}

fn page(folder: &Path) -> Result<(), ReportError> {
    let rows = fixture::rows();
    let program = fixture::one_f_one_b();
    let (predicted, measured) = fixture::pair(&program);
    let page = Page {
        title: "Cutplane: invented comparison".to_owned(),
        facts: vec![("model".to_owned(), "tiny".to_owned()), ("devices".to_owned(), "cpu:2".to_owned())],
        table: compare_table(&rows),
        figures: vec![
            ("Step time".to_owned(), svg(SCATTER_SIZE, |canvas| scatter(canvas, &rows))?),
            ("One step".to_owned(), svg(gantt_size(&program), |c| gantt(c, &program, &predicted, &measured))?),
        ],
    };
    write_page(&folder.join("report.html"), &page)
}
