//! The tensor expressions that run on a card against the loops of the host, and 16 bits against 32.

use std::collections::BTreeMap;

use crate::support::{Pieces, backends, difference, feeds, zoo};
use cutplane_graph::{Dtype, ParamId};
use cutplane_runtime::{Backend, RuntimeError};

type Gradients = BTreeMap<ParamId, Vec<f32>>;

fn pass(name: &str, cuts: &[usize], backend: &Backend) -> (f32, Gradients) {
    let model = zoo(name, 2, 16);
    let feeds = feeds(&model, 3, 1);
    let mut pieces = Pieces::new(&model, cuts, backend);
    let loss = pieces.forward(0, &feeds).expect("a loss");
    pieces.backward(0, 1.0, &[]);
    (loss, pieces.gradients())
}

/// Norm of the difference over the norm.
fn relative(left: &Gradients, right: &Gradients) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let pairs =
        || left.iter().flat_map(|(id, a)| a.iter().zip(&right[id])).map(|(a, b)| (f64::from(*a), f64::from(*b)));
    norm(&mut pairs().map(|(a, b)| a - b)) / norm(&mut pairs().map(|(a, _)| a))
}

#[test]
fn host_loops_and_tensor_expressions_agree() {
    let [host, twin] = backends();
    for name in ["gpt-nano", "bert-nano"] {
        let ((loss, gradients), (twin_loss, twin_gradients)) = (pass(name, &[], &host), pass(name, &[], &twin));
        assert!((loss - twin_loss).abs() <= 1e-5 * loss, "{name}: {loss} and {twin_loss}");
        let apart = difference(&gradients, &twin_gradients);
        assert!(apart <= 1e-5, "{name}: gradients differ by {apart}");
    }
}

/// bf16 has 8 bits of mantissa and f16 has 11: each product and each value that is kept is off by up to 4e-3 or 5e-4. The
/// loss averages over rounding errors of both signs; the gradients of a model of two layers gather some ten of them.
#[test]
fn sixteen_bits_follow_thirty_two() {
    let [_, twin] = backends();
    for name in ["gpt-nano", "bert-nano"] {
        let (loss, gradients) = pass(name, &[], &twin);
        for (precision, loss_bound, gradient_bound) in [(Dtype::Bf16, 1e-3, 2e-2), (Dtype::F16, 1e-4, 3e-3)] {
            let low = twin.in_precision(precision).expect("flex has it");
            let (low_loss, low_gradients) = pass(name, &[], &low);
            let (off, apart) = ((low_loss / loss - 1.0).abs(), relative(&gradients, &low_gradients));
            println!("{name} {precision}: loss off by {off:.1e}, gradients by {apart:.1e}");
            assert!(off <= loss_bound, "{name} {precision}: {low_loss} for {loss}");
            assert!(apart <= gradient_bound, "{name} {precision}: gradients differ by {apart}");
        }
    }
}

/// What crosses a cut is rounded already, so a cut changes no activation. A gradient that several operators add to is
/// rounded once more where they are apart: 4e-3 of it (8.7e-4 of the largest was measured).
#[test]
fn a_cut_changes_nothing_in_bf16_but_the_order_of_sums() {
    let bf16 = Backend::cpu().in_precision(Dtype::Bf16).expect("flex has it");
    for name in ["gpt-nano", "bert-nano"] {
        let (loss, gradients) = pass(name, &[], &bf16);
        for cut in [1, 4, 9, 15] {
            let (cut_loss, cut_gradients) = pass(name, &[cut], &bf16);
            assert!((loss - cut_loss).abs() <= 1e-6 * loss, "{name} cut at {cut}: {cut_loss} for {loss}");
            let apart = difference(&gradients, &cut_gradients);
            assert!(apart <= 5e-3, "{name} cut at {cut}: gradients differ by {apart}");
        }
    }
}

#[test]
fn inference_gives_the_values_of_the_forward_pass_and_keeps_nothing() {
    for backend in backends() {
        let model = zoo("gpt-nano", 2, 16);
        let feeds = feeds(&model, 3, 1);
        let mut pieces = Pieces::new(&model, &[7], &backend);
        let loss = pieces.forward(0, &feeds);
        let mut values = feeds.clone();
        for (segment, runner) in &mut pieces.runners {
            let inputs = segment.inputs.iter().map(|id| (*id, values[id].clone())).collect();
            values.extend(runner.infer(1, inputs).expect("infer"));
            assert_eq!(runner.in_flight(), 1, "only what was run forward before");
        }
        assert_eq!(pieces.runners[1].1.loss(1), loss);
    }
}

#[test]
fn integers_are_no_precision() {
    let refused = Backend::cpu().in_precision(Dtype::I32).expect_err("no floats");
    assert!(matches!(refused, RuntimeError::Precision { precision: Dtype::I32, .. }), "{refused}");
}
