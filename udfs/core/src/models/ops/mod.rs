//! Differentiable operators, each with its forward pass and a backward pass written and gradient-checked here.
//! This is the only code that calls candle's operators: candle gives tensors, storage and devices.
//!
//! An operator is a function `op(tape, inputs…) -> Var`. While the [`Tape`] records it pushes one closure that
//! turns the gradient of its result into gradients of its inputs; [`Tape::backward`] runs the closures in reverse,
//! in a loop, so that depth costs no stack. Nothing is recorded at scoring.
//!
//! Invariants: work is cut into chunks that depend on shapes only, and reductions run in chunk order, so results
//! are bit-identical for any number of threads; a row's forward result does not depend on the other rows of its
//! batch; random numbers come from [`philox`] counters; gradients are never modified in place.
//! Kernels are generic over `f32` and `f64`: the `f64` instantiation exists for the gradient checks.

pub mod activation;
pub mod attention;
pub mod batch_ensemble;
pub mod batch_norm2d;
pub mod combine;
pub mod conv;
pub mod conv2d;
pub mod conv_transpose2d;
pub mod critic;
pub mod distillation;
pub mod dropout;
pub mod embedding;
pub mod focal;
pub mod ftrl;
mod gates;
pub mod gather;
pub mod gru;
pub(super) mod int8;
pub mod layer_norm;
pub mod linear;
pub mod linear_cross_entropy;
pub mod loss;
pub mod lstm;
pub mod matmul;
pub mod optimizer;
pub mod packing;
pub mod parallel;
pub mod periodic;
pub mod philox;
pub mod piecewise;
pub mod place;
mod pool;
pub mod pool2d;
pub mod real;
pub mod reshape;
pub mod reverse;
pub mod ridge;
pub mod rnn;
pub mod rows;
pub mod segments;
pub mod spectral;
pub mod storage;
pub mod tape;
pub(super) mod vectorise;
mod winograd;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
mod gradcheck;
#[cfg(test)]
mod parity;
#[cfg(test)]
mod parity_both_ways;

pub use activation::Activation;
pub use attention::{Queries, attention};
pub use batch_ensemble::{EnsembleWeights, batch_ensemble, member_linear};
pub use batch_norm2d::{BatchStatistics, NormWeights, conv_norm_relu};
pub use combine::{add, concat, mean_groups};
pub use conv::conv_max;
pub use conv_transpose2d::conv_transpose2d;
pub use conv2d::{Window, conv2d};
pub use critic::{factor_rows, leaky_dropout, linear_back, norm_penalty, times};
pub use distillation::{Distillation, distillation_loss};
pub use dropout::dropout;
pub use embedding::{Pooling, embed};
pub use focal::{Focal, focal_loss};
pub use gather::gather;
pub use gru::gru;
pub use layer_norm::layer_norm;
pub use linear::linear;
pub use linear_cross_entropy::{linear_cross_entropy, log_sum_exp};
pub use loss::{bce_with_logits, mean_squared_error, softmax_cross_entropy};
pub use lstm::{RecurrentWeights, lstm};
pub use optimizer::{Moments, Optimizer, OptimizerKind, OptimizerState, RowUpdate, Rule, StepOutcome, Update};
pub use packing::{Packing, last_step, mean_steps};
pub use periodic::periodic;
pub use philox::Philox;
pub use piecewise::piecewise_linear;
pub use place::{add_to_groups, place_rows};
pub use pool2d::{global_avg_pool, max_pool2d};
pub use reshape::{hinge, mean, reshape, row_products, scale, weighted_sum};
pub use reverse::reverse_steps;
pub use rnn::rnn;
pub use rows::{RowLayout, chosen_cross_entropy, fill_normal, gumbel_rows, reconstruction_error};
pub use segments::{pool_segments, sum_segments};
pub use spectral::{Singular, spectral_norm};
pub use tape::{Gradients, RowSums, Tape, Var};
