//! Recurrent layers: the vendor's library where there is one, else one product and one kernel for each time step.
//!
//! The rows of a batch are one chunk of the packing, longest first: those that are still running at a step are a prefix,
//! so every step is one matrix.

use std::ops::Range;
use std::sync::Arc;

use super::number;
use crate::error::{Error, Result};
use crate::models::cuda::backend::{Cell, Kept, LayerShape};
use crate::models::cuda::device::{Array, Device, plain, turned};
use crate::models::cuda::tape::{DeviceTape, Sink};
use crate::models::ops::{Activation, Packing, RecurrentWeights, Var};

/// One layer in work.
#[derive(Debug, Clone)]
struct Layer {
    device: Arc<Device>,
    cell: Cell,
    inputs: usize,
    hidden: usize,
    /// Packed steps of each time step.
    spans: Arc<[Range<usize>]>,
    x: Array,
    /// Weights of input and state, biases of both.
    weights: [Array; 4],
}

/// What the steps leave: `cells` are the cell states of the lstm or the state's share of the gru.
#[derive(Debug, Clone)]
struct States {
    h: Array,
    gates: Array,
    cells: Array,
}

impl Layer {
    fn steps(&self) -> usize {
        self.spans.last().map_or(0, |span| span.end)
    }

    fn width(&self) -> usize {
        self.cell.gates() * self.hidden
    }

    fn activation(&self) -> usize {
        number(if self.cell == Cell::Relu { Activation::Relu } else { Activation::Tanh })
    }

    /// `to [rows, width] (+)= h · weightᵀ` for the states before a time step.
    fn state_share(&self, h: &Array, step: usize, to: &Array, held: bool) -> Result<()> {
        let (span, before, hidden, width) = (&self.spans[step], self.spans[step - 1].start, self.hidden, self.width());
        let (h, to) = (h.from(before * hidden), to.from(span.start * width));
        self.device.multiply([span.len(), width, hidden], plain(h, hidden), turned(self.weights[1].at(), hidden), (to, width), held)
    }

    fn forward(&self) -> Result<States> {
        let (steps, hidden, width, device) = (self.steps(), self.hidden, self.width(), &self.device);
        let h = device.array(steps * hidden)?;
        let simple = matches!(self.cell, Cell::Tanh | Cell::Relu);
        let gates = if simple { h.clone() } else { device.array(steps * width)? };
        let cells = match self.cell {
            Cell::Lstm => device.array(steps * hidden)?,
            Cell::Gru => device.array(steps * width)?,
            _ => h.clone(),
        };
        let (x, weight) = (plain(self.x.at(), self.inputs), turned(self.weights[0].at(), self.inputs));
        device.multiply([steps, width, self.inputs], x, weight, (gates.at(), width), false)?;
        let [bias_ih, bias_hh] = [self.weights[2].at(), self.weights[3].at()];
        for (step, span) in self.spans.iter().enumerate() {
            let (rows, from) = (span.len(), span.start);
            if step > 0 {
                let gru = self.cell == Cell::Gru;
                self.state_share(&h, step, if gru { &cells } else { &gates }, !gru)?;
            }
            let before = |states: &Array| if step > 0 { states.from(self.spans[step - 1].start * hidden) } else { 0 };
            let (own_gates, own_h) = (gates.from(from * width), h.from(from * hidden));
            let (kernel, addresses) = match self.cell {
                Cell::Lstm => ("lstm_step", vec![own_gates, bias_ih, bias_hh, before(&cells), cells.from(from * hidden), own_h]),
                Cell::Gru => ("gru_step", vec![own_gates, cells.from(from * width), bias_ih, bias_hh, before(&h), own_h]),
                _ => ("rnn_step", vec![own_h, bias_ih, bias_hh]),
            };
            device.each(kernel, rows * hidden, &addresses, &[rows, hidden, self.activation()], &[])?;
        }
        Ok(States { h, gates, cells })
    }

    /// Gates become their gradients, of the gru the states' shares too; returns both.
    fn steps_back(&self, states: &States, gradient: &Array) -> Result<[Array; 2]> {
        let (hidden, width, device) = (self.hidden, self.width(), &self.device);
        let most = self.spans.first().map_or(0, ExactSizeIterator::len);
        let d_h = device.zeros(most * hidden)?;
        let d_c = if self.cell == Cell::Lstm { device.zeros(most * hidden)? } else { d_h.clone() };
        let simple = matches!(self.cell, Cell::Tanh | Cell::Relu);
        let d = if simple { device.array(self.steps() * hidden)? } else { states.gates.clone() };
        let shares = if self.cell == Cell::Gru { states.cells.clone() } else { d.clone() };
        for (step, span) in self.spans.iter().enumerate().rev() {
            let (rows, from) = (span.len(), span.start);
            let before = |states: &Array| if step > 0 { states.from(self.spans[step - 1].start * hidden) } else { 0 };
            let (own, d_out) = (d.from(from * width), gradient.from(from * hidden));
            let (kernel, addresses) = match self.cell {
                Cell::Lstm => {
                    let c = states.cells.from(from * hidden);
                    ("lstm_step_back", vec![own, c, before(&states.cells), d_h.at(), d_out, d_c.at()])
                }
                Cell::Gru => ("gru_step_back", vec![own, shares.from(from * width), before(&states.h), d_out, d_h.at()]),
                _ => ("rnn_step_back", vec![states.h.from(from * hidden), d_out, d_h.at(), own]),
            };
            device.each(kernel, rows * hidden, &addresses, &[rows, hidden, self.activation()], &[])?;
            if step > 0 {
                let (d, weight) = (plain(shares.from(from * width), width), plain(self.weights[1].at(), hidden));
                device.multiply([rows, hidden, width], d, weight, (d_h.at(), hidden), self.cell == Cell::Gru)?;
            }
        }
        Ok([d, shares])
    }

    fn backward(&self, states: &States, gradient: &Array, sink: &mut Sink<'_>) -> Result<()> {
        let (steps, inputs, hidden, width, device) = (self.steps(), self.inputs, self.hidden, self.width(), &self.device);
        let [d, shares] = self.steps_back(states, gradient)?;
        if let Some((to, held)) = sink.target(0, steps * inputs)? {
            device.multiply([steps, inputs, width], plain(d.at(), width), plain(self.weights[0].at(), inputs), (to, inputs), held)?;
        }
        if let Some((to, held)) = sink.target(1, width * inputs)? {
            device.multiply([width, inputs, steps], turned(d.at(), width), plain(self.x.at(), inputs), (to, inputs), held)?;
        }
        if let Some((to, held)) = sink.target(2, width * hidden)? {
            // The states before each step but the first.
            let first = self.spans.first().map_or(0, |span| span.end);
            let before: Vec<u32> =
                self.spans.windows(2).flat_map(|pair| (0..pair[1].len()).map(|at| (pair[0].start + at) as u32)).collect();
            let (ids, rows) = (device.upload(&before)?, before.len());
            let states_before = device.array(rows * hidden)?;
            let addresses = [states.h.at(), ids.at(), states_before.at()];
            device.each("gather_rows", rows * hidden, &addresses, &[rows, hidden, 1, 0, hidden, 0, 0], &[])?;
            let (d, h) = (turned(shares.from(first * width), width), plain(states_before.at(), hidden));
            device.multiply([width, hidden, rows], d, h, (to, hidden), held)?;
        }
        for (input, of) in [(3, &d), (4, &shares)] {
            if let Some(to) = sink.target(input, width)? {
                device.sum_columns([steps, width], of.at(), None, to)?;
            }
        }
        Ok(())
    }
}

/// A layer of the vendor's library.
struct Whole {
    layer: Layer,
    shape: LayerShape,
    h: Array,
    /// Held for [`Kept`], which has their addresses.
    weights: Array,
    reserve: Array,
    /// The rows' lengths.
    _lengths: Array,
}

impl Whole {
    fn kept(&self) -> Kept {
        Kept { weights: (self.weights.at(), 4 * self.weights.len()), reserve: (self.reserve.at(), 4 * self.reserve.len()) }
    }

    /// `None` where there is no library, or nothing to do.
    fn forward(layer: &Layer, lengths: Vec<i32>, training: bool) -> Result<Option<Self>> {
        let device = &layer.device;
        let (Some(layers), false) = (device.layers(), lengths.is_empty()) else { return Ok(None) };
        let on_device = device.upload(&lengths)?;
        let (cell, inputs, hidden) = (layer.cell, layer.inputs, layer.hidden);
        let shape = LayerShape { cell, inputs, hidden, lengths, lengths_address: on_device.at() };
        let (weights, reserve) = layers.sizes(&shape, training)?;
        let [weights, reserve] = [device.array(weights.div_ceil(4))?, device.array(reserve.div_ceil(4))?];
        let h = device.array(layer.steps() * hidden)?;
        let own = Self { layer: layer.clone(), shape, h, weights, reserve, _lengths: on_device };
        let given = layer.weights.each_ref().map(Array::at);
        layers.forward(&own.shape, given, layer.x.at(), own.h.at(), own.kept(), training)?;
        Ok(Some(own))
    }

    fn backward(&self, gradient: &Array, sink: &mut Sink<'_>) -> Result<()> {
        let Layer { device, inputs, hidden, .. } = &self.layer;
        let (inputs, hidden, width, steps) = (*inputs, *hidden, self.layer.width(), self.layer.steps());
        let Some(layers) = device.layers() else { return Err(Error::internal("the library of recurrent layers is gone")) };
        let scratch = device.array(self.weights.len())?;
        let d_x = device.array(steps * inputs)?;
        let d_weights = [width * inputs, width * hidden, width, width].map(|len| device.array(len));
        let [d_ih, d_hh, d_bias_ih, d_bias_hh] = d_weights;
        let d_weights = [d_ih?, d_hh?, d_bias_ih?, d_bias_hh?];
        let addresses = d_weights.each_ref().map(Array::at);
        let x_h = [self.layer.x.at(), self.h.at()];
        layers.backward(&self.shape, self.kept(), x_h, gradient.at(), d_x.at(), addresses, scratch.at())?;
        sink.pass(0, &d_x)?;
        d_weights.iter().enumerate().try_for_each(|(at, d)| sink.pass(at + 1, d))
    }
}

impl DeviceTape {
    /// See [`crate::models::ops::lstm`], [`crate::models::ops::gru`] and [`crate::models::ops::rnn`].
    ///
    /// # Errors
    /// As there, and `OutOfMemory`.
    pub fn recurrent(&self, cell: Cell, x: &Var, packing: &Packing, weights: &RecurrentWeights<'_>) -> Result<Var> {
        let [chunk] = packing.chunks() else {
            return Err(Error::internal("recurrent layer: a device wants its rows in one chunk"));
        };
        let (inputs, hidden) = weights.check(x, packing, cell.gates())?;
        let parents = weights.parents(x);
        let layer = Layer {
            device: Arc::clone(&self.device),
            cell,
            inputs,
            hidden,
            spans: chunk.offsets.windows(2).map(|pair| pair[0]..pair[1]).collect(),
            x: x.array()?.clone(),
            weights: [
                weights.weight_ih.array()?.clone(),
                weights.weight_hh.array()?.clone(),
                weights.bias_ih.array()?.clone(),
                weights.bias_hh.array()?.clone(),
            ],
        };
        let dims = [packing.steps(), hidden];
        let lengths = chunk.lengths().map(|(_, len)| len as i32).collect();
        if let Some(whole) = Whole::forward(&layer, lengths, self.tracks(&parents))? {
            return self.record(&dims, whole.h.clone(), &parents, move |gradient, sink: &mut Sink<'_>| whole.backward(gradient, sink));
        }
        let states = layer.forward()?;
        self.record(&dims, states.h.clone(), &parents, move |gradient, sink: &mut Sink<'_>| layer.backward(&states, gradient, sink))
    }
}
