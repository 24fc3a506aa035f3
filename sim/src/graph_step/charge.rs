//! What one operator asks of a device and of the host that drives it.

use std::iter::Sum;
use std::ops::{Add, AddAssign, Mul};

/// Time on a device by what bounds it, at the kernel model's bare speed, and launches on the host.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Charge {
    /// Matrix products, convolutions, attention, s.
    pub products: f64,
    /// Steps of recurrent layers that wait for each other, s.
    pub recurrent: f64,
    /// Passes over memory, s.
    pub passes: f64,
    /// The part of products and passes that pools and filters of one row or one column are, s: kernels that libraries tune
    /// last.
    pub rare: f64,
    /// Kernels that the host launches.
    pub launches: f64,
}

impl Add for Charge {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            products: self.products + other.products,
            recurrent: self.recurrent + other.recurrent,
            passes: self.passes + other.passes,
            rare: self.rare + other.rare,
            launches: self.launches + other.launches,
        }
    }
}

impl AddAssign for Charge {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Mul<f64> for Charge {
    type Output = Self;

    fn mul(self, times: f64) -> Self {
        Self {
            products: self.products * times,
            recurrent: self.recurrent * times,
            passes: self.passes * times,
            rare: self.rare * times,
            launches: self.launches * times,
        }
    }
}

impl Sum for Charge {
    fn sum<I: Iterator<Item = Self>>(charges: I) -> Self {
        charges.fold(Self::default(), Add::add)
    }
}

/// An operator of a graph on one micro-batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OperatorCharge {
    /// Its output.
    pub forward: Charge,
    /// Gradients of its inputs and of its parameters.
    pub backward: Charge,
    /// Elements of the parameters whose gradient is whole once its backward pass is done.
    pub parameters: u64,
    /// Tensors that these are.
    pub tensors: u64,
    /// Elements of its output.
    pub output_elements: u64,
}
