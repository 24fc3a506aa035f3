//! Calibration of a fabric.

use cutplane_sim::network::fit::{Measured, Priors, fit};
use cutplane_sim::network::{Collective, Fabric, Group, Interconnect, Level, Library, time};

use crate::near;

fn fabric() -> Fabric {
    let inside = Level::new(Interconnect::NvSwitch(3), 8, 300e9);
    let across = Level::new(Interconnect::InfiniBand, 64, 25e9).ports(8);
    Fabric::new("fitted", vec![inside, across]).unwrap()
}

/// What a slower network would measure, each row disturbed a little.
fn rows(truth: &Fabric, library: &Library) -> Vec<Measured> {
    let group = Group::new(32, 8).unwrap();
    let noise = [1.02, 0.97, 1.01, 0.99, 1.3];
    let row = |(at, noise): (usize, f64)| {
        let bytes = 2e6 * 4f64.powi(at as i32);
        let seconds = noise * time(Collective::AllReduce, bytes, &group, truth, library).seconds;
        Measured { collective: Collective::AllReduce, bytes, group, seconds }
    };
    noise.into_iter().enumerate().map(row).collect()
}

#[test]
fn a_few_rows_tell_what_the_cards_achieve() {
    let mut levels = fabric().levels().to_vec();
    levels[1] = levels[1].achieving(14e9);
    let truth = Fabric::new("truth", levels).unwrap();
    let fitted = fit(&fabric(), &Library::NCCL, &rows(&truth, &Library::NCCL), Priors::default()).unwrap();
    let cards = fitted.fabric.levels()[1].achieved.unwrap();
    // The disturbed row does not pull the fit along.
    assert!(near(cards, 14e9, 0.05), "{cards}");
    assert_eq!(fitted.fabric.levels()[0].achieved, None, "no row is bound by the inner level");
    assert!(fitted.leave_one_out_error < 0.05, "{fitted:?}");
    assert_eq!((fitted.rows, fitted.library.call_floor), (5, 0.0));
}

#[test]
fn small_messages_tell_the_floor_of_a_call() {
    let group = Group::new(8, 8).unwrap();
    let row = |seconds| Measured { collective: Collective::AllReduce, bytes: 1e3, group, seconds };
    let rows = [row(61e-6), row(60e-6), row(59e-6)];
    let fitted = fit(&fabric(), &Library::NCCL.isolated(40e-6), &rows, Priors::default()).unwrap();
    assert!(near(fitted.library.call_floor, 60e-6, 0.02), "{:?}", fitted.library);
}

#[test]
fn rows_that_say_nothing_are_refused() {
    let refusal = |rows: &[Measured]| fit(&fabric(), &Library::NCCL, rows, Priors::default()).unwrap_err().to_string();
    assert!(refusal(&[]).contains("no rows"));
    let mut wrong = rows(&fabric(), &Library::NCCL);
    wrong[2].seconds = 0.0;
    assert!(refusal(&wrong).contains("row 2 has no time"));
}
