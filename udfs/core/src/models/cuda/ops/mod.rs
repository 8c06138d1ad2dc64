//! The operators on a device, each with its way back, under the names and rules of [`crate::models::ops`]: shapes, saved
//! values and what a gradient is are documented there.

mod attention;
mod dense;
mod embedding;
mod ensemble;
mod loss;
mod recurrent;

use crate::models::ops::Activation;

/// How kernels number the activations.
pub(super) const fn number(activation: Activation) -> usize {
    match activation {
        Activation::Identity => 0,
        Activation::Relu => 1,
        Activation::Tanh => 2,
        Activation::Sigmoid => 3,
    }
}
