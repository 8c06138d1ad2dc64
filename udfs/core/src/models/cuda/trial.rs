//! A small example for each recurrent cell, by the vendor's library and by our own kernels: only a library that agrees is
//! used. Versions differ in what they take and in what they call a gate; this asks the one at hand.

use std::sync::Arc;

use super::backend::Cell;
use super::device::{Array, Device};
use super::tape::{DeviceTape, Shards};
use crate::error::Result;
use crate::models::Batch;
use crate::models::ops::{Activation, Packing, Philox, RecurrentWeights, Var};

/// What products in reduced precision may differ by.
const TOLERANCE: f32 = 2e-2;

/// Looks whether the library agrees; switches it off when it does not.
pub(super) fn settle(device: &Arc<Device>) {
    if device.layers().is_none() {
        return;
    }
    for cell in [Cell::Tanh, Cell::Relu, Cell::Gru, Cell::Lstm] {
        match agrees(device, cell) {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!("the library of recurrent layers gives other results for {cell:?}: it is not used");
                return device.use_layers(false);
            }
            Err(error) => {
                tracing::warn!("the library of recurrent layers is not used: {error}");
                return device.use_layers(false);
            }
        }
    }
}

fn agrees(device: &Arc<Device>, cell: Cell) -> Result<bool> {
    let theirs = example(device, cell)?;
    device.use_layers(false);
    let ours = example(device, cell);
    device.use_layers(true);
    Ok(theirs.iter().zip(&ours?).all(|(a, b)| (a - b).abs() <= TOLERANCE * b.abs().max(1.0)))
}

/// States and gradients of a layer over a few short rows.
pub(super) fn example(device: &Arc<Device>, cell: Cell) -> Result<Vec<f32>> {
    let (lengths, inputs, hidden) = ([2, 5, 1, 3], 6, 8);
    let packing = Packing::whole(&lengths);
    let (steps, rows) = (packing.steps(), cell.gates() * hidden);
    device.backend().begin()?;
    let batch = Batch { rows: lengths.len(), lengths: lengths.to_vec(), one_chunk: true, ..Batch::default() };
    let tape = DeviceTape::recording(device, Philox::new(0, 0), Shards::new(&batch, &[lengths.len()], 0));
    let (mut gradients, mut inner): (Vec<Array>, Vec<Var>) = (Vec::new(), Vec::new());
    for (stream, dims) in [vec![steps, inputs], vec![rows, inputs], vec![rows, hidden], vec![rows], vec![rows]].into_iter().enumerate() {
        let random = Philox::new(1, stream as u32);
        let values: Vec<f32> = (0..dims.iter().product::<usize>()).map(|i| 0.5 * random.normal(i as u64) as f32).collect();
        let gradient = device.zeros(values.len())?;
        inner.push(tape.leaf(&dims, device.keep(&values)?, gradient.clone())?);
        gradients.push(gradient);
    }
    let weights = RecurrentWeights { weight_ih: &inner[1], weight_hh: &inner[2], bias_ih: &inner[3], bias_hh: &inner[4] };
    let h = tape.recurrent(cell, &inner[0], &packing, &weights)?;
    let sum = Var::on_device(&[1, hidden], device.keep(&(0..hidden).map(|i| 1.0 - 0.3 * i as f32).collect::<Vec<_>>())?, None)?;
    let product = tape.linear(&h, &sum, None, Activation::Identity)?;
    let loss = tape.squared_error(&product, &vec![0.5; steps], None)?;
    let mut all = tape.read(&h)?;
    tape.backward(&loss, steps as f32)?;
    for gradient in &gradients {
        all.extend(device.read(gradient)?);
    }
    Ok(all)
}
