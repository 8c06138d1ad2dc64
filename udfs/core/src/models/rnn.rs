//! The simple recurrent network over the event sequence (Elman, 1990): the cell of [`super::recurrent`] without gates.
//! Parameter names `rnn.{weight_ih, …}_l<i>` are those of `torch.nn.RNN`.

use std::sync::Arc;

use super::ops::{self, Activation, Packing, RecurrentWeights, Tape, Var};
use crate::error::Result;

/// Rows of the cell's matrices per hidden unit.
pub(super) const GATES: usize = 1;

/// One layer. The hyperbolic tangent bounds its states; with a relu they grow with the length of the history.
pub(super) fn layer(tape: &Tape, x: &Var, packing: &Arc<Packing>, weights: &RecurrentWeights<'_>, activation: Activation) -> Result<Var> {
    ops::rnn(tape, x, packing, weights, activation)
}
