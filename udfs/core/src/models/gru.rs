//! Gated recurrent units over the event sequence (Cho et al., 2014): the cell of [`super::recurrent`] with reset and
//! update gates. Parameter names `gru.{weight_ih, weight_hh, bias_ih, bias_hh}_l<i>` are those of `torch.nn.GRU`.

use std::sync::Arc;

use super::ops::{self, Packing, RecurrentWeights, Tape, Var};
use crate::error::Result;

/// Gates of the cell: rows of its matrices per hidden unit.
pub(super) const GATES: usize = 3;

/// One layer.
pub(super) fn layer(tape: &Tape, x: &Var, packing: &Arc<Packing>, weights: &RecurrentWeights<'_>) -> Result<Var> {
    ops::gru(tape, x, packing, weights)
}
