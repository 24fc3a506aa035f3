use super::*;

#[test]
fn names_of_searched_plans_are_read_back() {
    for name in ["single", "single-m4", "dp2", "dp2-m4", "pp2-vanilla", "pp2-1f1b-m8", "pp2-fill-drain-m4"] {
        let parsed = PlanName::parse(name).expect("reads");
        assert!(parsed.is_searched());
        assert_eq!(parsed.configuration(Placement::ReplicasAdjacent).name(), name);
    }
    let gpipe = PlanName::parse("dp2-pp3-gpipe-m4-even").expect("reads");
    assert_eq!((gpipe.data_degree, gpipe.stages, gpipe.even), (2, 3, true));
    assert_eq!(gpipe.configuration(Placement::ReplicasAdjacent).name(), "dp2-pp3-fill-drain-m4");
}

#[test]
fn executions_are_read() {
    let parse = |name| PlanName::parse(name).expect("reads");
    let product = parse("tp2xdp2-pp2-1f1b-m4-zero1-bucket64");
    assert_eq!(product, parse("pp2-1f1b-m4-zero1-dp2-tp2-bucket64"));
    assert_eq!((product.axis, product.data_degree, product.stages), (Some((Axis::Tensor, 2)), 2, 2));
    assert_eq!((product.synchronisation, product.bucket_kib), (Synchronisation::Zero1, Some(64)));
    assert_eq!(parse("sp2-pp2-zero-bubble-m2").schedule(), Schedule::ZeroBubble);
    assert_eq!(parse("ep2xpp2-1f1b-m2").axis, Some((Axis::Experts, 2)));
    assert_eq!(parse("cp4-recompute.attention").again, Some(Again::Attention));
    assert_eq!(parse("dp2-ps-async-m4").synchronisation, Synchronisation::AsynchronousServer);
    assert_eq!(parse("dp4-m2-ps-stale0").synchronisation, Synchronisation::StaleServer { bound: 0 });
    assert_eq!((parse("dp2-frozen3").frozen_layers, parse("dp2-frozen3").is_searched()), (Some(3), false));
    let interleaved = parse("pp2xv3-m4");
    assert_eq!((interleaved.schedule(), interleaved.stages_a_rank), (Schedule::Interleaved, 3));
    assert!(!interleaved.is_searched() && !parse("dp2-ps").is_searched() && parse("dp2-bucket8").is_searched());
}

#[test]
fn wrong_parts_are_named() {
    let problem = |name: &str| PlanName::parse(name).expect_err("wrong");
    assert_eq!(problem("zp2"), "'zp2' is not a part of a plan name");
    assert_eq!(problem("dp"), "'dp' needs a number of at least 1, such as dp2");
    assert_eq!(problem("pp0-vanilla"), "'pp0' needs a number of at least 1, such as pp2");
    assert_eq!(problem("dp2-dp4"), "'dp4' says a second time what an earlier part says");
    assert_eq!(problem("tp2-cp2"), "'cp2' says a second time what an earlier part says");
    assert_eq!(problem("cp2-ep2"), "'ep2' says a second time what an earlier part says");
    assert_eq!(problem("pp2-1f1b-zb-m4"), "'zb' says a second time what an earlier part says");
    assert_eq!(problem("m4"), "says neither 'single' nor 'dp', 'pp', 'tp', 'sp', 'cp' or 'ep'");
    assert_eq!(problem("single-tp2"), "'single' does not go with degrees such as 'dp' or 'pp'");
    assert_eq!(problem("pp2-m4"), "'pp' needs a schedule: 1f1b, fill-drain, vanilla, zb, v2 or async");
    assert_eq!(problem("pp2-zb"), "the schedule needs a number of micro-batches: add 'm8'");
    assert_eq!(problem("pp2-vanilla-m2"), "'vanilla' has one micro-batch: leave the 'm' part out");
    assert_eq!(problem("dp2-1f1b-m2"), "a schedule needs stages: add 'pp2' or leave the schedule out");
    assert_eq!(problem(""), "'' is not a part of a plan name");
    for (name, word) in [
        ("tp2-zero2", "replicas"),
        ("tp2-bucket8", "replicas"),
        ("dp2-pp2-async-m2-zero1", "one piece"),
        ("pp2-zb-m2-recompute", "recomputes nothing"),
        ("dp2-zero3-recompute", "whole stages"),
        ("pp2-v2-m3", "multiple"),
        ("ps-async-m4-tp1", "replicas"),
        ("dp2-ps-async", "'m4'"),
        ("dp2-ps-stale-m4", "ps-stale2"),
        ("dp2-pp2-1f1b-m4-ps-stale1", "one stage"),
        ("dp2-tp2-m4-ps-async", "one stage"),
        ("dp2-ps-ps-async-m4", "'ps-async' says a second time"),
        ("dp2-frozen0", "at least 1"),
    ] {
        assert!(problem(name).contains(word), "{name}: {}", problem(name));
    }
}
