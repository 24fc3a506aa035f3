//! tmp
use cutplane_sim::graph_step::*;
use cutplane_sim::kernel::*;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let spec = cutplane_zoo::device_from_hardware_text(&a[1]).unwrap();
    let gpu = GpuModel::from_spec(spec);
    let batch: u64 = a[3].parse().unwrap();
    let numerics = match a[4].as_str() {
        "f32" => Numerics::single(false),
        "tf32" => Numerics::single(true),
        _ => Numerics::mixed(Precision::F16),
    };
    let cal = GraphCalibration::from_toml(&std::fs::read_to_string(&a[6]).unwrap()).unwrap();
    let stack = cal.stack(&a[5]).unwrap();
    let graph = if a[2] == "gnmt-v2" {
        cutplane_score::tmp_gnmt()
    } else {
        cutplane_zoo::build(&cutplane_graph::ModelSource::BuiltIn {
            name: a[2].clone(),
            overrides: Default::default(),
            sequence_length: 1,
        })
        .unwrap()
    };
    let speeds = cal.speeds(stack, &gpu, numerics.on(&gpu));
    let charges = operator_charges(&graph, batch, &gpu, numerics, stack, Mode::Training).unwrap();
    let mut by = std::collections::BTreeMap::<String, (usize, Charge, Charge)>::new();
    for (op, c) in graph.ops().iter().zip(&charges) {
        let mut k = op.kind.label().to_string();
        if let cutplane_graph::OpKind::Convolution(c) = &op.kind {
            k = format!(
                "{k} {:?} s{:?} in{}",
                c.window.kernel,
                c.window.stride,
                if a.len() > 7 { c.inputs } else { 0 }
            );
        }
        let e = by.entry(k).or_default();
        e.0 += 1;
        e.1 += c.forward;
        e.2 += c.backward;
    }
    println!("{speeds:?} params {}", graph.parameter_count());
    let ms = |c: Charge| {
        format!(
            "prod {:8.3} rec {:8.3} pass {:8.3} launches {:5}",
            c.products * 1e3 / speeds.products,
            c.recurrent * 1e3 / speeds.recurrent,
            c.passes * 1e3 / speeds.passes,
            c.launches
        )
    };
    for (k, v) in by {
        println!("{k:40} n {:4} F {} | B {}", v.0, ms(v.1), ms(v.2));
    }
    let r = Replica::of(&charges, 1, numerics, &gpu, stack, speeds);
    println!(
        "fwd {:.2} bwd {:.2} upd {:.2} fixed {:.2} -> {:.1}/s",
        r.forward_end * 1e3,
        (r.backward_end - r.forward_end) * 1e3,
        r.update * 1e3,
        r.fixed * 1e3,
        batch as f64 / r.seconds()
    );
}
