//! The fit: it finds what the observations tell and leaves the rest at the prior.

use std::sync::Arc;

use cutplane_sim::kernel::fit::{Observation, fit, left_out_log_errors, predicted_seconds, spreads};
use cutplane_sim::kernel::{
    Calibration, GpuModel, Kernel, Parameters, Precision, Spreads, Standing, calibrations, calibrations_of,
    calibrations_to_toml, prior_of,
};

use crate::spec;

/// What a device with these parameters would have measured.
fn observed(truth: Parameters) -> Vec<Observation> {
    let gpu = GpuModel::from_spec(spec("A100-SXM-80GB")).with_parameters(truth);
    let rows = [1, 16, 64, 256, 512, 1024, 4096, 8192];
    let weights = [(4096, 4096), (8192, 8192), (4096, 11_008), (22_016, 4096)];
    let products = rows.into_iter().flat_map(|m| weights.map(|(n, k)| Kernel::matmul(m, n, k)));
    let copies = (20..32).map(|power| Kernel::pointwise(1 << power, 1 << power));
    let observe = |kernel| {
        let unmeasured = Observation { kernels: vec![kernel], precision: Precision::F16, measured_seconds: 1.0 };
        Observation { measured_seconds: predicted_seconds(&gpu, &unmeasured), ..unmeasured }
    };
    products.chain(copies).map(observe).collect()
}

#[test]
fn a_fit_explains_what_was_made_with_other_parameters() {
    let truth =
        Parameters { tensor_efficiency: 0.7, operand_bandwidth: 0.7, stream_bandwidth: 0.75, ..Parameters::PRIOR };
    let fitted = fit(spec("A100-SXM-80GB"), &observed(truth), Parameters::PRIOR);
    assert!(fitted.median_error < 0.03, "{fitted:?}");
    assert!((fitted.parameters.stream_bandwidth - 0.75).abs() < 0.04, "{:?}", fitted.parameters);
    assert!(fitted.parameters.tensor_efficiency < 0.8, "{:?}", fitted.parameters);
    let untold = ["step_us", "winograd_efficiency", "vector_efficiency", "gather_per_clock"];
    assert!(!fitted.fitted.iter().any(|name| untold.contains(name)), "{:?}", fitted.fitted);
    assert!((fitted.parameters.step_us - Parameters::PRIOR.step_us).abs() < 1e-9);
}

#[test]
fn a_fit_without_observations_is_its_start() {
    let fitted = fit(spec("T4"), &[], Parameters::PRIOR);
    assert_eq!((fitted.parameters, fitted.fitted.len()), (Parameters::PRIOR, 0));
    assert!(left_out_log_errors(spec("T4"), &[], Parameters::PRIOR, 10).is_empty());
}

#[test]
fn few_observations_do_not_narrow_an_interval() {
    let observations: Vec<Observation> = observed(Parameters::PRIOR).into_iter().step_by(5).collect();
    let narrow = spreads(&observations, &vec![0.0; observations.len()]);
    assert_eq!(narrow, Spreads::PRIOR);
    let wide = spreads(&observations, &vec![-2.0; observations.len()]);
    assert!(wide.matmul > 7.0 && wide.recurrent.to_bits() == Spreads::PRIOR.recurrent.to_bits());
}

#[test]
fn a_calibration_survives_its_file_and_can_be_used_alone() {
    let mine = Calibration { name: "mine".into(), standing: Standing::Measured, ..(*calibrations()[0]).clone() };
    let text = calibrations_to_toml(vec![mine.clone()]).unwrap();
    assert_eq!(calibrations_of(&text).unwrap(), std::slice::from_ref(&mine));
    assert!(calibrations_of("[[calibration]]\nnam = 'x'").is_err());
    let gpu = GpuModel::with_calibration(spec("T4"), Arc::new(mine));
    assert_eq!(gpu.standing(), Standing::Measured);
}

#[test]
fn each_family_starts_from_its_own_prior() {
    let flash =
        |model: &str| prior_of(spec(model).accelerator.as_ref().map(|facts| facts.architecture)).flash_efficiency;
    assert!(flash("A100-SXM-80GB") > flash("H100-SXM-80GB"));
    assert_eq!(prior_of(None), Parameters::PRIOR);
}
