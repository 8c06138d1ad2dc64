//! Long short-term memory over the event sequence (Hochreiter & Schmidhuber, 1997): the cell of [`super::recurrent`]
//! with input, forget, cell and output gates. Parameter names `lstm.{weight_ih, …}_l<i>` are those of `torch.nn.LSTM`.

use std::sync::Arc;

use super::ops::{self, Packing, RecurrentWeights, Tape, Var};
use crate::error::Result;

/// Gates of the cell: rows of its matrices per hidden unit.
pub(super) const GATES: usize = 4;

/// One layer.
pub(super) fn layer(tape: &Tape, x: &Var, packing: &Arc<Packing>, weights: &RecurrentWeights<'_>) -> Result<Var> {
    ops::lstm(tape, x, packing, weights)
}
