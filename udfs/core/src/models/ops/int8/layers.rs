//! Layers whose weights are of 8 bits: the operators of the rooms above hand them over here. They score and never train.

use std::sync::Arc;

use super::kernels::{self, Begin, Isa, Product, Step};
use super::panels::Panels8;
use super::rows::Rows8;
use super::weights::Matrix8;
use crate::error::{Error, Result};
use crate::models::ops::activation::Activation;
use crate::models::ops::lstm::RecurrentWeights;
use crate::models::ops::matmul::{ROW_CHUNK, Start};
use crate::models::ops::packing::{Chunk, Packing};
use crate::models::ops::parallel::{self, Shared};
use crate::models::ops::storage::{read, tensor};
use crate::models::ops::tape::{Tape, Var};

/// Which recurrent layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::models) enum Cell {
    /// Gates i, f, g, o.
    Lstm,
    /// Gates r, z, n.
    Gru,
    /// One gate.
    Rnn(Activation),
}

impl Cell {
    /// Gates of a unit.
    pub(in crate::models) fn gates(self) -> usize {
        match self {
            Self::Lstm => 4,
            Self::Gru => 3,
            Self::Rnn(_) => 1,
        }
    }

    /// Whether a gate is a sigmoid.
    fn is_halved(self, gate: usize) -> bool {
        match self {
            Self::Lstm => gate != 2,
            Self::Gru => gate != 2,
            Self::Rnn(_) => false,
        }
    }
}

/// A weight of 8 bits in the form that its layer reads.
#[derive(Debug)]
pub(in crate::models) enum Weight8 {
    /// Of a dense layer.
    Dense(Panels8),
    /// Of a recurrent layer.
    Recurrent(Panels8),
    /// Of a convolution over steps, tap by tap.
    Taps(Vec<Panels8>),
    /// A table of vectors that are looked up.
    Table(Matrix8),
}

impl Weight8 {
    /// `[outputs, inputs]` of a dense layer.
    ///
    /// # Errors
    /// `DataCorrupted` when the kernels cannot rely on the weights, as for the others below.
    pub(in crate::models) fn dense(matrix: &Matrix8) -> Result<Self> {
        matrix.check(1)?;
        Ok(Self::Dense(Panels8::plain(matrix)))
    }

    /// `[gates · hidden, inputs]` of a recurrent layer.
    ///
    /// # Errors
    /// As [`dense`](Self::dense).
    pub(in crate::models) fn recurrent(matrix: &Matrix8, cell: Cell) -> Result<Self> {
        matrix.check(1)?;
        Ok(Self::Recurrent(match cell {
            Cell::Rnn(_) => Panels8::plain(matrix),
            _ => Panels8::gated(matrix, cell.gates(), |gate| cell.is_halved(gate)),
        }))
    }

    /// `[maps, inputs, taps]` of a convolution over steps.
    ///
    /// # Errors
    /// As [`dense`](Self::dense).
    pub(in crate::models) fn taps(matrix: &Matrix8, taps: usize) -> Result<Self> {
        matrix.check(taps)?;
        Ok(Self::Taps((0..taps).map(|tap| Panels8::plain(&matrix.tap(tap, taps))).collect()))
    }

    /// Bytes of memory it holds.
    pub(in crate::models) fn bytes(&self) -> usize {
        match self {
            Self::Dense(panels) | Self::Recurrent(panels) => panels.bytes(),
            Self::Taps(taps) => taps.iter().map(Panels8::bytes).sum(),
            Self::Table(table) => table.bytes(),
        }
    }
}

impl Var {
    /// The panels of a dense layer's 8-bit weights.
    pub(in crate::models::ops) fn dense8(&self) -> Option<&Panels8> {
        self.eight().and_then(|weight| if let Weight8::Dense(panels) = weight { Some(panels) } else { None })
    }

    /// The panels of a convolution's 8-bit weights.
    pub(in crate::models::ops) fn taps8(&self) -> Option<&[Panels8]> {
        self.eight().and_then(|weight| if let Weight8::Taps(taps) = weight { Some(&**taps) } else { None })
    }

    /// A table of 8 bits.
    pub(in crate::models::ops) fn table8(&self) -> Option<&Matrix8> {
        self.eight().and_then(|weight| if let Weight8::Table(table) = weight { Some(table) } else { None })
    }
}

/// A result that no gradient can be asked of.
fn scored(tape: &Tape, value: Vec<f32>, shape: &[usize], inputs: &[&Var]) -> Result<Var> {
    let value = tensor::<f32>(value, shape)?;
    Ok(tape.record(value, inputs, |_, _| Err(Error::internal("weights of 8 bits are not trained"))))
}

/// Rows of activations of some unit of work, quantised once.
pub(in crate::models::ops) struct Quantised(Rows8);

impl Quantised {
    /// Of `rows` rows of `k` numbers.
    pub(in crate::models::ops) fn of(x: &[f32], rows: usize, k: usize) -> Self {
        let mut own = Rows8::new(rows, k);
        own.fill(Isa::best(), x, k, rows);
        Self(own)
    }

    /// `out [count, columns] = start + rows first .. of this · w`; a bias has the panels' width.
    pub(in crate::models::ops) fn times(&self, first: usize, count: usize, w: &Panels8, out: &mut [f32], start: Start<'_, f32>) {
        let stride = w.columns();
        assert!(first + count <= self.0.capacity() && self.0.inputs() == w.inputs() && count * stride <= out.len());
        let begin = match start {
            Start::Zero => Begin::Zero,
            Start::Held => Begin::Held,
            Start::Bias(bias) => {
                assert!(bias.len() >= w.width());
                Begin::Bias(bias)
            }
        };
        let own = Product { x: &self.0, first, count, w, out: out.as_mut_ptr(), stride, begin };
        // SAFETY: rows, inputs, columns and bias are there (asserted).
        unsafe { kernels::product(Isa::best(), own) }
    }
}

/// A bias as long as the panels are wide.
fn padded(bias: &[f32], w: &Panels8) -> Vec<f32> {
    let mut padded = bias.to_vec();
    padded.resize(w.width(), 0.0);
    padded
}

/// [`linear`](crate::models::ops::linear) with 8-bit weights.
pub(in crate::models::ops) fn linear(tape: &Tape, x: &Var, w: &Panels8, bias: Option<&Var>, activation: Activation) -> Result<Var> {
    let (rows, inputs) = x.dims2()?;
    let outputs = w.columns();
    let mut y = vec![0f32; rows * outputs];
    {
        let guard = read(x.value())?;
        let x = guard.slice::<f32>()?;
        let bias = bias.map(|bias| read(bias.value()).and_then(|bias| Ok(padded(bias.slice::<f32>()?, w)))).transpose()?;
        let shared = Shared::new(&mut y);
        parallel::for_each(rows.div_ceil(ROW_CHUNK), |chunk| {
            let first = chunk * ROW_CHUNK;
            let count = ROW_CHUNK.min(rows - first);
            // SAFETY: chunks are disjoint.
            let out = unsafe { shared.slice(first * outputs, count * outputs) };
            let own = Quantised::of(&x[first * inputs..(first + count) * inputs], count, inputs);
            own.times(0, count, w, out, bias.as_deref().map_or(Start::Zero, Start::Bias));
            activation.apply(out);
        });
    }
    scored(tape, y, &[rows, outputs], &[x])
}

/// A recurrent layer with 8-bit weights; `None` when its weights are floats.
pub(in crate::models::ops) fn recurrent(
    tape: &Tape,
    x: &Var,
    packing: &Arc<Packing>,
    weights: &RecurrentWeights<'_>,
    cell: Cell,
) -> Result<Option<Var>> {
    let (Some(Weight8::Recurrent(input)), Some(Weight8::Recurrent(recurrent))) = (weights.weight_ih.eight(), weights.weight_hh.eight())
    else {
        return Ok(None);
    };
    let (inputs, hidden) = weights.check(x, packing, cell.gates())?;
    let mut h = vec![0f32; packing.steps() * hidden];
    {
        let (x, ih, hh) = (read(x.value())?, read(weights.bias_ih.value())?, read(weights.bias_hh.value())?);
        let (x, ih, hh) = (x.slice::<f32>()?, ih.slice::<f32>()?, hh.slice::<f32>()?);
        let sum: Vec<f32> = ih.iter().zip(hh).map(|(a, b)| a + b).collect();
        let halved = |gate: usize| cell.is_halved(gate);
        let biases = match cell {
            Cell::Lstm => (input.arranged(&sum, halved), Vec::new()),
            Cell::Gru => (input.arranged(ih, halved), input.arranged(hh, halved)),
            Cell::Rnn(_) => (padded(&sum, input), Vec::new()),
        };
        let units = input.width() / cell.gates();
        let layer = Layer { cell, isa: Isa::best(), inputs, hidden, units, input, recurrent, biases: (&biases.0, &biases.1) };
        let shared = Shared::new(&mut h);
        parallel::for_each(packing.chunks().len(), |at| {
            let chunk = &packing.chunks()[at];
            // SAFETY: chunks are disjoint.
            let h = unsafe { shared.slice(chunk.start * hidden, chunk.len() * hidden) };
            layer.run(chunk, &x[chunk.start * inputs..(chunk.start + chunk.len()) * inputs], h);
        });
    }
    scored(tape, h, &[packing.steps(), hidden], &[x]).map(Some)
}

/// A recurrent layer ready to run.
pub(super) struct Layer<'a> {
    pub(super) cell: Cell,
    pub(super) isa: Isa,
    pub(super) inputs: usize,
    pub(super) hidden: usize,
    /// Units of the panels: `hidden` filled up.
    pub(super) units: usize,
    pub(super) input: &'a Panels8,
    pub(super) recurrent: &'a Panels8,
    pub(super) biases: (&'a [f32], &'a [f32]),
}

impl Layer<'_> {
    /// One chunk, step by step; `x` and `h` hold its own steps.
    pub(super) fn run(&self, chunk: &Chunk, x: &[f32], h: &mut [f32]) {
        let (inputs, hidden, units, rows) = (self.inputs, self.hidden, self.units, chunk.rows.len());
        assert!(self.input.inputs() == inputs && self.recurrent.inputs() == hidden);
        assert!(self.input.width() == units * self.cell.gates() && self.recurrent.width() == self.input.width());
        assert!(self.biases.0.len() == self.input.width());
        assert!(self.cell != Cell::Gru || self.biases.1.len() == self.input.width());
        let (mut x8, mut before) = (Rows8::new(rows, inputs), Rows8::new(rows, hidden));
        let (mut state, mut c) = (vec![0f32; rows * units], vec![0f32; rows * units]);
        for step in 0..chunk.steps() {
            let (start, count) = (chunk.offsets[step], chunk.active(step));
            x8.fill(self.isa, &x[start * inputs..(start + count) * inputs], inputs, count);
            let own = Step {
                x: &x8,
                first: 0,
                before: (step > 0).then_some(&before),
                count,
                input: self.input,
                recurrent: self.recurrent,
                biases: self.biases,
                h: state.as_mut_ptr(),
                c: c.as_mut_ptr(),
                stride: units,
                activation: if let Cell::Rnn(activation) = self.cell { activation } else { Activation::Tanh },
            };
            // SAFETY: state and cell have room for all rows, and panels, rows and biases fit (asserted).
            unsafe {
                match self.cell {
                    Cell::Lstm => kernels::lstm_step(self.isa, own),
                    Cell::Gru => kernels::gru_step(self.isa, own),
                    Cell::Rnn(_) => kernels::rnn_step(self.isa, own),
                }
            }
            if step + 1 < chunk.steps() {
                before.fill(self.isa, &state, units, chunk.active(step + 1));
            }
            for (to, from) in h[start * hidden..].chunks_exact_mut(hidden).zip(state.chunks_exact(units)).take(count) {
                to.copy_from_slice(&from[..hidden]);
            }
        }
    }
}
