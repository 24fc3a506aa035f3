//! Time of one pass over one micro-batch on one rank, by what it is spent on.

use std::ops::{Add, AddAssign, Mul};

use serde::Serialize;

/// What a pass costs one rank, s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Work {
    /// Matrix products, convolutions, recurrent steps.
    pub products: f64,
    /// Attention: fused kernels, or products and softmax.
    pub attention: f64,
    /// Kernels bound by memory.
    pub memory: f64,
    /// Exposed collectives of tensor parallelism.
    pub tensor_parallel: f64,
    /// Exposed exchange of context parallelism.
    pub context_parallel: f64,
    /// Exposed all-to-all of expert parallelism.
    pub expert_parallel: f64,
    /// Kernels launched.
    pub launches: f64,
    /// Collectives and messages launched.
    pub collectives: f64,
}

impl Work {
    /// Device time of computation.
    pub fn compute(&self) -> f64 {
        self.products + self.attention + self.memory
    }

    /// Device time of exposed communication.
    pub fn communication(&self) -> f64 {
        self.tensor_parallel + self.context_parallel + self.expert_parallel
    }

    /// Device time.
    pub fn device(&self) -> f64 {
        self.compute() + self.communication()
    }
}

impl Add for Work {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            products: self.products + other.products,
            attention: self.attention + other.attention,
            memory: self.memory + other.memory,
            tensor_parallel: self.tensor_parallel + other.tensor_parallel,
            context_parallel: self.context_parallel + other.context_parallel,
            expert_parallel: self.expert_parallel + other.expert_parallel,
            launches: self.launches + other.launches,
            collectives: self.collectives + other.collectives,
        }
    }
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// So many times the same.
impl Mul<f64> for Work {
    type Output = Self;

    fn mul(self, times: f64) -> Self {
        Self {
            products: self.products * times,
            attention: self.attention * times,
            memory: self.memory * times,
            tensor_parallel: self.tensor_parallel * times,
            context_parallel: self.context_parallel * times,
            expert_parallel: self.expert_parallel * times,
            launches: self.launches * times,
            collectives: self.collectives * times,
        }
    }
}

/// The passes of an operator, a layer or a stage over one micro-batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Passes {
    /// Forward.
    pub forward: Work,
    /// Gradients of the inputs.
    pub input_gradient: Work,
    /// Gradients of the parameters.
    pub weight_gradient: Work,
    /// What is computed again before the backward pass.
    pub recompute: Work,
}

impl Passes {
    /// The whole backward pass, recomputation included.
    pub fn backward(&self) -> Work {
        self.input_gradient + self.weight_gradient + self.recompute
    }
}

impl Add for Passes {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            forward: self.forward + other.forward,
            input_gradient: self.input_gradient + other.input_gradient,
            weight_gradient: self.weight_gradient + other.weight_gradient,
            recompute: self.recompute + other.recompute,
        }
    }
}

impl AddAssign for Passes {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// So many times the same.
impl Mul<f64> for Passes {
    type Output = Self;

    fn mul(self, times: f64) -> Self {
        Self {
            forward: self.forward * times,
            input_gradient: self.input_gradient * times,
            weight_gradient: self.weight_gradient * times,
            recompute: self.recompute * times,
        }
    }
}
