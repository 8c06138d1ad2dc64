//! Layers with 8-bit weights, for scoring: a quarter of the memory, and products at twice the speed of floats and more.
//!
//! Life of a product: [`weights`] rounds a matrix row by row and promises what the kernels rely on → [`panels`] packs it
//! once, when a model is loaded → [`rows`] quantises the activations of each row by that row's own range → a kernel of
//! [`kernels`] multiplies bytes, adds in 32 bits and comes back to floats with scale, bias and, in recurrent layers, the
//! whole cell, while the sums are in registers. [`layers`] are the operators; the float operators hand over to them.
//!
//! Activations have 7 bits and weights 8 on every machine, whatever its instructions could do: sums of products are then
//! exact everywhere, and AVX2, VNNI and plain code give the same bits.
//!
//! Absent on purpose: gradients, files, and the choice of what is compressed.

mod kernels;
mod layers;
mod panels;
mod rows;
mod simd;
pub(in crate::models) mod weights;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
mod tests;

pub(in crate::models) use layers::{Cell, Weight8};
pub(super) use layers::{Quantised, linear, recurrent};
pub(super) use panels::Panels8;
