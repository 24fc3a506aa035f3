//! Whole answers on problems small enough for pencil and paper, and the answers that are no plan.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{AMPLE, Fake, check, cluster, equal_layers, problem, random_model};
use cutplane_graph::{DeviceGraph, ModelGraph};
use cutplane_plan::{Schedule, StopReason};
use cutplane_sim::planner::{
    ChainDp, EvenSplit, Exhaustive, Greedy, LayerPin, PlanError, PlanOutcome, Planner, Problem, SearchBudget,
    SearchProgress, SearchSpace, named_plan,
};
use cutplane_units::Nanos;

/// The ladder of exact searchers.
fn exact_searchers() -> Vec<Box<dyn Planner>> {
    vec![
        Box::new(ChainDp),
        Box::new(Exhaustive),
        #[cfg(feature = "ilp")]
        Box::new(cutplane_sim::planner::Ilp),
    ]
}

fn only(stages: usize, data_degree: usize, micro_batches: u64, schedule: Schedule) -> SearchSpace {
    SearchSpace {
        micro_batches: Some(vec![micro_batches]),
        data_degrees: Some(vec![data_degree]),
        stage_counts: Some(vec![stages]),
        schedules: Some(vec![schedule]),
        ..SearchSpace::default()
    }
}

fn plan_all(problem: &Problem<'_>, cost: &Fake) -> Vec<PlanOutcome> {
    let budget = SearchBudget { relative_gap: 0.0, ..SearchBudget::default() };
    let searchers = exact_searchers();
    let outcomes: Vec<PlanOutcome> =
        searchers.iter().map(|planner| planner.plan(problem, cost, &budget).expect("a plan")).collect();
    let one_class = problem.devices.devices().windows(2).all(|pair| pair[0].spec == pair[1].spec);
    for (planner, outcome) in searchers.iter().zip(&outcomes) {
        check(&outcome.plan, problem.model, problem.devices);
        // The chain DP proves nothing about every mixture of classes.
        let proves = one_class || planner.name() != "chain-dp";
        assert_eq!(outcome.stop, if proves { StopReason::ProvenOptimal } else { StopReason::CandidatesExhausted });
    }
    outcomes
}

fn stage_ops(outcome: &PlanOutcome) -> Vec<String> {
    outcome.plan.stages.iter().map(|stage| stage.ops.to_string()).collect()
}

/// Four layers of 10 ns forward and 20 ns backward a sample, a free loss, and a price on everything else: 1 ns a byte to
/// load (inputs 32, targets 4 bytes a sample), hand over and take (32 bytes cross a cut), to send (plus 5 ns latency), to
/// sum (288 bytes of gradients a layer); 1 ns a pass; 1 ns a parameter (72 a layer) to update.
fn priced() -> (ModelGraph, Fake) {
    let mut cost = Fake::equal(5, 10);
    (cost.forward[4], cost.backward[4]) = (0, 0);
    cost.segment = 1;
    cost.message_per_byte = 1.0;
    cost.latency = 5;
    cost.wire_per_byte = 1.0;
    cost.all_reduce_per_byte = 1.0;
    cost.optimizer_per_element = 1.0;
    (equal_layers(4), cost)
}

#[test]
fn fill_drain_by_hand() {
    let (model, cost) = priced();
    let devices = cluster(&[("fast", AMPLE), ("fast", AMPLE)]);
    let problem = Problem { limits: only(2, 1, 4, Schedule::FillDrain), ..problem(&model, &devices, 4) };
    // Two layers each: t0 = 2 x 30 + 2 + 32 to load + 64 of messages = 158, t1 = 60 + 2 + 4 + 64 = 130; w = 2 (5 + 32).
    // T = 158 + 130 + 74 + 3 x 158 + 2 x 72.
    for outcome in plan_all(&problem, &cost) {
        assert_eq!((outcome.objective, stage_ops(&outcome)), (Nanos::new(980), vec!["0-1".into(), "2-4".into()]));
    }
}

#[test]
fn one_f_one_b_waits_for_gradients() {
    let (model, cost) = priced();
    let devices = cluster(&[("fast", AMPLE), ("fast", AMPLE)]);
    let problem = Problem { limits: only(2, 1, 4, Schedule::OneFOneB), ..problem(&model, &devices, 4) };
    // As above, but stage 0 has two micro-batches under way: B = (158 + 130 + 74) / 2 = 181.
    for outcome in plan_all(&problem, &cost) {
        assert_eq!(outcome.objective, Nanos::new(362 + 3 * 181 + 144));
        let why = &outcome.plan.search.as_ref().expect("a record").why;
        assert!(why[0].starts_with("waiting for gradients sets the pace: 181 ns"), "{why:?}");
    }
}

#[test]
fn links_beside_computing_can_set_the_pace() {
    let (model, mut cost) = priced();
    cost.overlaps = true;
    cost.wire_per_byte = 10.0;
    let devices = cluster(&[("fast", AMPLE), ("fast", AMPLE)]);
    let problem = Problem { limits: only(2, 1, 4, Schedule::FillDrain), ..problem(&model, &devices, 4) };
    // t0 = 60 + 2 + 32 = 94, t1 = 60 + 2 + 4 = 66; each message takes 32 + (5 + 320) + 32; the link's transfers bind,
    // first of all activations, then of all gradients.
    for outcome in plan_all(&problem, &cost) {
        assert_eq!(outcome.objective, Nanos::new(94 + 66 + 2 * 389 + 3 * 640 + 144));
        let why = &outcome.plan.search.as_ref().expect("a record").why;
        assert_eq!(why[0], "the link from stage 0 to stage 1 sets the pace: 640 ns a micro-batch");
    }
}

#[test]
fn data_parallel_by_hand() {
    let (model, cost) = priced();
    let devices = cluster(&[("fast", AMPLE), ("fast", AMPLE)]);
    let problem = Problem { limits: only(1, 2, 1, Schedule::OneFOneB), ..problem(&model, &devices, 4) };
    // Two samples each: 4 x 30 x 2 + 2 + 2 x 36 to load, then 4 x 288 bytes to sum and 4 x 72 parameters.
    for outcome in plan_all(&problem, &cost) {
        assert_eq!((outcome.objective, outcome.plan.name.as_str()), (Nanos::new(314 + 1152 + 288), "dp2"));
        assert_eq!(outcome.plan.stages[0].devices, ["fast0", "fast1"]);
    }
}

#[test]
fn tied_parameters_are_summed_between_their_stages() {
    use cutplane_graph::{Dtype, InputRole, ModelGraphBuilder, OpKind, TensorType};
    let mut builder = ModelGraphBuilder::new("tied");
    let x = builder.input("x", InputRole::Features, TensorType::batched(&[8], Dtype::F32)).expect("fresh");
    let y = builder.input("y", InputRole::NextTokens, TensorType::batched(&[], Dtype::I32)).expect("fresh");
    let tied = ["w", "b"];
    let a = builder.op_with_params("first", OpKind::linear(8, 8), &[x], &tied).expect("fits");
    let b = builder.op_with_params("last", OpKind::linear(8, 8), &[a], &tied).expect("fits");
    let loss = builder.op("loss", OpKind::CrossEntropy { classes: 8, counted: 1 }, &[b, y]).expect("fits");
    let model = builder.loss(loss).build().expect("sound");
    let mut cost = Fake::equal(3, 1000);
    (cost.forward[2], cost.backward[2]) = (0, 0);
    cost.all_reduce_per_byte = 1.0;
    let devices = cluster(&[("fast", AMPLE), ("fast", AMPLE)]);
    let problem = Problem { limits: only(2, 1, 4, Schedule::FillDrain), ..problem(&model, &devices, 4) };
    // 3000 each, 32 and 4 to load, and 72 parameters of 4 bytes to sum between the two devices.
    for outcome in plan_all(&problem, &cost) {
        assert_eq!(outcome.objective, Nanos::new(6036 + 3 * 3032 + 288));
        assert_eq!(outcome.plan.name, "pp2-fill-drain-m4");
    }
}

#[test]
fn a_device_of_half_the_speed_gets_a_third_of_the_layers() {
    let model = equal_layers(12);
    let mut cost = Fake::equal(13, 100);
    (cost.forward[12], cost.backward[12]) = (0, 0);
    let devices = cluster(&[("fast", AMPLE), ("slow", AMPLE)]);
    let limits = SearchSpace { stage_counts: Some(vec![2]), ..SearchSpace::default() };
    let problem = Problem { limits, ..problem(&model, &devices, 8) };
    for outcome in plan_all(&problem, &cost) {
        let layers = |stage: &cutplane_plan::Stage| {
            stage.ops.iter().filter(|op| model.op(*op).name.starts_with("layer")).count()
        };
        let mut shares: Vec<(&str, usize)> =
            outcome.plan.stages.iter().map(|stage| (stage.devices[0].as_str(), layers(stage))).collect();
        shares.sort_unstable();
        assert_eq!(shares, [("fast0", 8), ("slow1", 4)]);
    }
    let greedy = Greedy.plan(&problem, &cost, &SearchBudget::default()).expect("a plan");
    assert!(greedy.objective < EvenSplit.plan(&problem, &cost, &SearchBudget::default()).expect("a plan").objective);
}

#[test]
fn a_pinned_layer_stays_on_its_device() {
    let model = equal_layers(6);
    let mut cost = Fake::equal(7, 100);
    (cost.forward[6], cost.backward[6]) = (0, 0);
    let devices = cluster(&[("fast", AMPLE), ("fast", AMPLE)]);
    let pinned = |text: &str| {
        let layer_pins = vec![LayerPin::parse(text).expect("a pin")];
        SearchSpace { stage_counts: Some(vec![2]), data_degrees: Some(vec![1]), layer_pins, ..SearchSpace::default() }
    };
    let problem = |limits| Problem { limits, ..problem(&model, &devices, 8) };
    for outcome in plan_all(&problem(pinned("layer.4=device:0")), &cost) {
        let first = &outcome.plan.stages[0];
        assert!(first.devices == ["fast0"] && first.ops.iter().any(|op| model.op(op).layer == Some(4)), "{first:?}");
    }
    let refusal =
        |text| ChainDp.plan(&problem(pinned(text)), &cost, &SearchBudget::default()).expect_err(text).to_string();
    assert!(refusal("layer.9=device:0").contains("6 layers, counted from 0"));
    assert!(refusal("layer.0=device:7").contains("2 usable devices"));
    assert!(refusal("layer.0=device:1").contains("drop a pin"), "{}", refusal("layer.0=device:1"));
}

#[test]
fn devices_that_do_not_help_stay_unused() {
    let model = equal_layers(4);
    let mut cost = Fake::equal(5, 10);
    (cost.latency, cost.all_reduce_per_byte) = (1_000_000, 1000.0);
    let devices = cluster(&[("fast", AMPLE), ("fast", AMPLE)]);
    for outcome in plan_all(&problem(&model, &devices, 4), &cost) {
        assert_eq!((outcome.plan.name.as_str(), outcome.plan.stages.len()), ("single", 1));
        let why = outcome.plan.search.expect("a record").why;
        assert!(why[2].starts_with("runner-up "), "{why:?}");
    }
}

#[test]
fn memory_that_binds_is_said() {
    let model = equal_layers(6);
    let mut cost = Fake::equal(7, 1000);
    cost.forward[..2].fill(100);
    cost.backward[..2].fill(200);
    // 1152 bytes of state a layer: the fast half of the model, four layers, does not fit one device.
    let devices = cluster(&[("fast", 4300), ("fast", 4300)]);
    let limits = SearchSpace { stage_counts: Some(vec![2]), ..SearchSpace::default() };
    let problem = Problem { limits, ..problem(&model, &devices, 4) };
    for outcome in plan_all(&problem, &cost) {
        let why = outcome.plan.search.expect("a record").why;
        assert!(why[1].contains("is fullest with") && why[1].contains("and binds"), "{why:?}");
    }
}

fn shortfall(problem: &Problem<'_>) -> String {
    let cost = Fake::equal(problem.model.ops().len(), 10);
    let mut messages: Vec<String> = exact_searchers()
        .iter()
        .map(|planner| planner.plan(problem, &cost, &SearchBudget::default()).expect_err("nothing fits").to_string())
        .collect();
    messages.dedup();
    assert_eq!(messages.len(), 1, "{messages:?}");
    messages.remove(0)
}

#[test]
fn what_does_not_fit_names_device_bytes_and_remedy() {
    let model = equal_layers(4);
    // State of two layers: 2 x 72 parameters x 16 bytes = 2304.
    let devices = cluster(&[("fast", 2304), ("fast", 2304)]);
    let message = shortfall(&problem(&model, &devices, 4));
    assert!(message.contains("device 'fast") && message.contains("has 2.25 KiB"), "{message}");
    assert!(message.contains("bytes too much; it would fit on "), "{message}");

    let one = cluster(&[("fast", 1000)]);
    let message = shortfall(&problem(&model, &one, 4));
    assert!(message.contains("it would fit") || message.contains("devices with at least"), "{message}");
}

#[test]
fn more_micro_batches_are_the_remedy_where_they_help() {
    let model = equal_layers(4);
    let state = 4 * 72 * 16;
    let devices = cluster(&[("fast", state + 600)]);
    let limits = SearchSpace { micro_batches: Some(vec![1]), ..SearchSpace::default() };
    let message = shortfall(&Problem { limits, ..problem(&model, &devices, 64) });
    assert!(message.contains("it would fit as single-m"), "{message}");
}

#[test]
fn other_refusals_are_told_apart() {
    let model = equal_layers(4);
    let devices = cluster(&[("fast", AMPLE), ("fast", AMPLE)]);
    let cost = Fake::equal(5, 10);
    let refuse = |problem: &Problem<'_>| ChainDp.plan(problem, &cost, &SearchBudget::default()).expect_err("refused");
    let zero = refuse(&problem(&model, &devices, 0));
    assert_eq!(zero.to_string(), "nothing to choose from: the global batch is 0: choose at least 1 sample");
    let limits = SearchSpace { data_degrees: Some(vec![2]), ..SearchSpace::default() };
    let odd = refuse(&Problem { limits, ..problem(&model, &devices, 3) });
    assert!(matches!(&odd, PlanError::EmptySpace { reason } if reason.contains("global batch of 3")), "{odd}");
    let half = refuse(&Problem { precision: cutplane_graph::Dtype::Bf16, ..problem(&model, &devices, 4) });
    assert!(matches!(&half, PlanError::NoDevices { precision, .. } if precision == "bf16"), "{half}");
    let large = random_model(&mut crate::support::Random(1), 120);
    let many = cluster(&[("fast", AMPLE); 8]);
    let refused = Exhaustive.plan(&problem(&large, &many, 4), &Fake::equal(120, 1), &SearchBudget::default());
    assert!(matches!(refused, Err(PlanError::TooLarge { .. })));
}

/// A problem in which only pipelines are allowed, so that bounds do not settle it at once.
fn pipelines<'a>(model: &'a ModelGraph, devices: &'a DeviceGraph) -> Problem<'a> {
    let limits = SearchSpace { data_degrees: Some(vec![1]), stage_counts: Some(vec![3]), ..SearchSpace::default() };
    Problem { limits, ..problem(model, devices, 8) }
}

#[test]
fn a_flag_set_before_the_start_leaves_nothing() {
    let (model, devices) = (equal_layers(6), cluster(&[("fast", AMPLE); 3]));
    let flag = AtomicBool::new(true);
    let budget = SearchBudget { interrupt: Some(&flag), ..SearchBudget::default() };
    let answer = ChainDp.plan(&pipelines(&model, &devices), &Fake::equal(7, 10), &budget);
    assert!(matches!(answer, Err(PlanError::NoIncumbent { .. })), "{answer:?}");
}

#[test]
fn a_flag_set_on_the_way_leaves_the_best_so_far() {
    let (model, devices) = (equal_layers(6), cluster(&[("fast", AMPLE); 3]));
    let flag = AtomicBool::new(false);
    let progress = |progress: &SearchProgress| flag.store(progress.objective.is_some(), Ordering::Relaxed);
    let budget = SearchBudget { interrupt: Some(&flag), progress: Some(&progress), ..SearchBudget::default() };
    for planner in [&EvenSplit as &dyn Planner, &Greedy, &ChainDp] {
        let outcome = planner.plan(&pipelines(&model, &devices), &Fake::equal(7, 10), &budget).expect("a plan");
        assert_eq!(outcome.stop, StopReason::Interrupted);
        check(&outcome.plan, &model, &devices);
        flag.store(false, Ordering::Relaxed);
    }
}

#[cfg(feature = "ilp")]
#[test]
fn no_time_leaves_the_plan_of_the_chain_dp() {
    let mut random = crate::support::Random(7);
    let model = random_model(&mut random, 20);
    let cost = Fake::random(&mut random, 20);
    let devices = cluster(&[("fast", AMPLE), ("slow", AMPLE), ("fast", AMPLE)]);
    let problem = pipelines(&model, &devices);
    let none = SearchBudget { time_limit: std::time::Duration::ZERO, ..SearchBudget::default() };
    let start = ChainDp.plan(&problem, &cost, &SearchBudget::default()).expect("a plan");
    let stopped = cutplane_sim::planner::Ilp.plan(&problem, &cost, &none).expect("a plan");
    assert_eq!((stopped.objective, stopped.stop), (start.objective, StopReason::TimeLimit));
    let bound = stopped.lower_bound.expect("a bound");
    assert!(bound < stopped.objective && bound > Nanos::ZERO);
    let record = stopped.plan.search.expect("a record");
    assert_eq!((record.planner.as_str(), record.stop_reason), ("ilp", StopReason::TimeLimit));
}

#[test]
fn equal_inputs_give_equal_plans() {
    let mut random = crate::support::Random(11);
    let model = random_model(&mut random, 16);
    let cost = Fake::random(&mut random, 16);
    let devices = cluster(&[("fast", AMPLE), ("slow", AMPLE), ("fast", AMPLE), ("slow", AMPLE)]);
    let problem = Problem {
        limits: SearchSpace { name: Some("mine".to_owned()), ..SearchSpace::default() },
        ..problem(&model, &devices, 8)
    };
    for planner in exact_searchers().iter().filter(|planner| planner.name() != "exhaustive") {
        let text = || {
            let mut plan = planner.plan(&problem, &cost, &SearchBudget::default()).expect("a plan").plan;
            plan.search.as_mut().expect("a record").search_seconds = 0.0;
            format!("{plan:?}")
        };
        let first = text();
        assert!(first.contains("\"mine\""));
        assert_eq!(first, text());
    }
}

#[test]
fn plans_by_name() {
    let (model, cost) = priced();
    let devices = cluster(&[("fast", AMPLE); 4]);
    let problem = problem(&model, &devices, 16);
    for (name, stages, replicas, micro_batches, schedule) in [
        ("single", 1, 1, 1, Schedule::OneFOneB),
        ("single-m4", 1, 1, 4, Schedule::OneFOneB),
        ("dp4", 1, 4, 1, Schedule::OneFOneB),
        ("dp2-m8", 1, 2, 8, Schedule::OneFOneB),
        ("pp2-vanilla", 2, 1, 1, Schedule::FillDrain),
        ("pp4-1f1b-m8", 4, 1, 8, Schedule::OneFOneB),
        ("pp3-gpipe-m4", 3, 1, 4, Schedule::FillDrain),
        ("dp2-pp2-fill-drain-m4", 2, 2, 4, Schedule::FillDrain),
    ] {
        let plan = named_plan(&problem, &cost, name).expect("a plan");
        check(&plan, &model, &devices);
        let got = (plan.name.as_str(), plan.pipeline_degree(), plan.data_degree(), plan.micro_batches, plan.schedule);
        assert_eq!(got, (name, stages, replicas, micro_batches, schedule));
    }
    let even = named_plan(&problem, &cost, "pp2-1f1b-m4-even").expect("a plan");
    assert_eq!(even.stages[0].ops.to_string(), "0-2");
}

#[test]
fn names_that_do_not_fit_say_which_part() {
    let (model, cost) = priced();
    let devices = cluster(&[("fast", AMPLE); 2]);
    let refuse = |name: &str| named_plan(&problem(&model, &devices, 12), &cost, name).expect_err("refused").to_string();
    assert!(refuse("pp2-1f1b-m5").contains("global batch of 12 cannot be cut into 1 replicas x 5 micro-batches"));
    assert!(refuse("dp2-pp2-1f1b-m2").contains("asks for 4 devices (2 stages of 2 equal ones), the cluster has 2"));
    assert!(refuse("dp3").contains("asks for 3 devices"));
    assert!(refuse("zp2").starts_with("plan name 'zp2': 'zp2' is not a part of a plan name; examples: single"));
    let tiny = cluster(&[("fast", 100); 2]);
    let short = named_plan(&problem(&model, &tiny, 12), &cost, "pp2-vanilla").expect_err("too large");
    assert!(matches!(short, PlanError::Infeasible { .. }), "{short}");
}
