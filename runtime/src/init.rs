//! Initial weights.

use std::fmt;
use std::sync::Arc;

use cutplane_graph::{Init, Param};

use crate::error::RuntimeError;
use crate::tensor::HostTensor;

/// Gives the numbers of a parameter in row-major order, or says why not.
type Loader = dyn Fn(&Param) -> Result<Vec<f32>, String> + Send + Sync;

/// Where the ranks of a run take their first weights from: random numbers, or a checkpoint of which each rank reads what
/// its segment owns.
#[derive(Clone, Default)]
pub struct InitialWeights {
    loader: Option<Arc<Loader>>,
}

impl fmt::Debug for InitialWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.loader.is_some() { "InitialWeights::loaded" } else { "InitialWeights::random" })
    }
}

impl InitialWeights {
    /// Weights that `load` reads, called by each rank for the parameters of its segment.
    pub fn loaded(load: impl Fn(&Param) -> Result<Vec<f32>, String> + Send + Sync + 'static) -> Self {
        Self { loader: Some(Arc::new(load)) }
    }

    /// The first value of a parameter.
    ///
    /// # Errors
    /// [`RuntimeError::Value`] when it cannot be loaded, or is not as long as its shape says.
    pub(crate) fn of(&self, param: &Param, seed: u64) -> Result<HostTensor, RuntimeError> {
        let Some(load) = &self.loader else { return Ok(initial_weight(param, seed)) };
        let refuse = |problem| RuntimeError::Value { value: param.name.clone(), problem };
        let data = load(param).map_err(refuse)?;
        if data.len() as u64 != param.elements() {
            return Err(refuse(format!("{} numbers were loaded for the shape {:?}", data.len(), param.shape)));
        }
        Ok(HostTensor::f32(param.shape.iter().map(|dim| *dim as usize).collect::<Vec<_>>(), data))
    }
}

/// The initial value of a parameter. The numbers depend on `seed` and on the parameter's name alone, so every rank and
/// every plan starts from the same weights.
pub fn initial_weight(param: &Param, seed: u64) -> HostTensor {
    let shape: Vec<usize> = param.shape.iter().map(|dim| *dim as usize).collect();
    let count = shape.iter().product();
    let data = match param.init {
        Init::Zeros => vec![0.0; count],
        Init::Ones => vec![1.0; count],
        Init::Uniform { bound } => uniform(&param.name, seed, bound, count),
        Init::Normal { std } => normal(&param.name, seed, std, count),
    };
    HostTensor::f32(shape, data)
}

/// SplitMix64 (Steele, Lea and Flood 2014): one 64-bit state, good enough for weights and tiny.
struct SplitMix(u64);

impl SplitMix {
    /// A stream of its own for each seed and name (FNV-1a of the name).
    fn keyed(name: &str, seed: u64) -> Self {
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let mut mixed = Self(hash ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Self(mixed.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in (0, 1], so that its logarithm is finite.
    fn uniform(&mut self) -> f32 {
        ((self.next() >> 40) + 1) as f32 / (1u64 << 24) as f32
    }
}

/// Uniform in `-bound..=bound`.
fn uniform(name: &str, seed: u64, bound: f64, count: usize) -> Vec<f32> {
    let mut random = SplitMix::keyed(name, seed);
    (0..count).map(|_| bound as f32 * (2.0 * random.uniform() - 1.0)).collect()
}

/// Box and Muller 1958: two independent normals from two uniforms.
fn normal(name: &str, seed: u64, std: f64, count: usize) -> Vec<f32> {
    let mut random = SplitMix::keyed(name, seed);
    let mut data = Vec::with_capacity(count + 1);
    while data.len() < count {
        let radius = std as f32 * (-2.0 * random.uniform().ln()).sqrt();
        let (sin, cos) = (std::f32::consts::TAU * random.uniform()).sin_cos();
        data.extend([radius * cos, radius * sin]);
    }
    data.truncate(count);
    data
}

#[cfg(test)]
mod tests {
    use cutplane_graph::{Init, Param};

    use super::initial_weight;

    fn param(name: &str, init: Init) -> Param {
        Param { name: name.to_owned(), shape: vec![101, 99], init, users: Vec::new() }
    }

    #[test]
    fn weights_depend_on_seed_and_name_alone() {
        let one = param("h.0.weight", Init::Normal { std: 0.02 });
        assert_eq!(initial_weight(&one, 7), initial_weight(&one, 7));
        assert_ne!(initial_weight(&one, 7), initial_weight(&one, 8));
        assert_ne!(initial_weight(&one, 7), initial_weight(&param("h.1.weight", one.init), 7));
    }

    #[test]
    fn normals_have_the_asked_moments() {
        let weight = initial_weight(&param("w", Init::Normal { std: 0.5 }), 1);
        let data = weight.as_f32().expect("floats");
        let n = data.len() as f64;
        let moment = |power: i32| data.iter().map(|x| f64::from(*x).powi(power)).sum::<f64>() / n;
        // Standard errors at n = 9999: 0.005, 0.0035 and 0.006.
        assert!(moment(1).abs() < 0.02, "{}", moment(1));
        assert!((moment(2) - 0.25).abs() < 0.014, "{}", moment(2));
        assert!((moment(4) - 3.0 * 0.0625).abs() < 0.03, "{}", moment(4));
    }
}
