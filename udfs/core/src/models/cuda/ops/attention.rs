//! Attention over packed sequences; the kernels say how.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::models::cuda::device::{Array, Device};
use crate::models::cuda::tape::{DeviceTape, Sink};
use crate::models::ops::{Packing, Queries, Var};

/// Numbers that a block shares at most: every GPU has 48 KiB.
const SHARED_MAX: usize = 12 * 1024;
/// Queries and keys of a tile, where a block's memory allows them.
const QUERY_TILE: usize = 16;
const KEY_TILE: usize = 32;
/// Lanes of a block.
const LANES: u32 = 128;

/// One call's shape, and its tiles.
#[derive(Debug, Clone, Copy)]
struct Plan {
    rows: usize,
    longest: usize,
    heads: usize,
    head_width: usize,
    query_tile: usize,
    key_tile: usize,
    last: bool,
}

impl Plan {
    /// Numbers that a block of the way back to the keys, the hungriest kernel, shares.
    const fn shared(query_tile: usize, key_tile: usize, head_width: usize) -> usize {
        (3 * query_tile + 4 * key_tile) * (head_width + 1) + 2 * query_tile * key_tile + 3 * query_tile
    }

    fn new(packing: &Packing, heads: usize, head_width: usize, last: bool) -> Result<Self> {
        let (mut query_tile, mut key_tile) = (if last { 1 } else { QUERY_TILE }, KEY_TILE);
        while Self::shared(query_tile, key_tile, head_width) > SHARED_MAX && query_tile * key_tile > 1 {
            if key_tile > query_tile { key_tile /= 2 } else { query_tile /= 2 }
        }
        if Self::shared(query_tile, key_tile, head_width) > SHARED_MAX {
            return Err(Error::internal("attention: a head is too wide for the device"));
        }
        let (longest, rows) = packing.chunks().first().map_or((0, 0), |chunk| (chunk.steps(), chunk.lengths().count()));
        Ok(Self { rows, longest, heads, head_width, query_tile, key_tile, last })
    }

    /// Runs a kernel with a block for each tile of each head of each row.
    fn run(&self, device: &Device, kernel: &'static str, by_keys: bool, addresses: &[u64], held: bool) -> Result<()> {
        let tiles = match (by_keys, self.last) {
            (true, _) => self.longest.div_ceil(self.key_tile),
            (false, true) => 1,
            (false, false) => self.longest.div_ceil(self.query_tile),
        };
        let blocks = self.rows * self.heads * tiles;
        if blocks == 0 {
            return Ok(());
        }
        let shared = 4 * Self::shared(self.query_tile, self.key_tile, self.head_width);
        let last = usize::from(self.last);
        let counts = [self.rows, self.heads, self.head_width, self.query_tile, self.key_tile, tiles, last, usize::from(held)];
        let scale = 1.0 / (self.head_width as f64).sqrt();
        device.launch(kernel, [blocks as u32, LANES, shared as u32], addresses, &counts, &[scale as f32])
    }
}

/// How steps lie, on the device: offsets of the time steps, and length and place in the batch of each row that has any.
fn upload(device: &Device, packing: &Packing) -> Result<[Array; 3]> {
    let [chunk] = packing.chunks() else {
        return Err(Error::internal("attention: a device wants its rows in one chunk"));
    };
    let offsets: Vec<u32> = chunk.offsets.iter().map(|offset| *offset as u32).collect();
    let lengths: Vec<u32> = chunk.lengths().map(|(_, len)| len as u32).collect();
    Ok([device.upload(&offsets)?, device.upload(&lengths)?, device.upload(&chunk.rows)?])
}

impl DeviceTape {
    /// See [`crate::models::ops::attention`].
    ///
    /// # Errors
    /// As there, and `OutOfMemory`.
    pub fn attention(&self, q: &Var, kv: &Var, packing: &Packing, heads: usize, queries: Queries) -> Result<Var> {
        let (query_rows, width) = q.dims2()?;
        let last = queries == Queries::Last;
        let (steps, expected) = (packing.steps(), if last { packing.rows() } else { packing.steps() });
        if kv.dims() != [steps, 2 * width] || query_rows != expected || heads == 0 || width == 0 || width % heads != 0 {
            return Err(Error::internal("attention: queries, keys and packing do not fit"));
        }
        let device = Arc::clone(&self.device);
        let plan = Plan::new(packing, heads, width / heads, last)?;
        let [offsets, lengths, rows] = upload(&device, packing)?;
        let (q_array, kv_array) = (q.array()?.clone(), kv.array()?.clone());
        // Rows without steps hear nothing: zeros.
        let (y, logs) = (device.zeros(query_rows * width)?, device.array(query_rows * heads)?);
        let common = [q_array.at(), kv_array.at(), offsets.at(), lengths.at(), rows.at()];
        plan.run(&device, "attention", false, &[&common[..], &[y.at(), logs.at()]].concat(), false)?;
        let saved_y = y.clone();
        self.record(&[query_rows, width], y, &[q, kv], move |gradient, sink: &mut Sink<'_>| {
            let deltas = device.array(query_rows * heads)?;
            let addresses = [saved_y.at(), gradient.at(), deltas.at()];
            device.each("attention_deltas", query_rows * heads, &addresses, &[query_rows, heads, width / heads], &[])?;
            let common = [q_array.at(), kv_array.at(), offsets.at(), lengths.at(), rows.at(), logs.at(), deltas.at(), gradient.at()];
            if let Some((to, held)) = sink.target(0, query_rows * width)? {
                if !held && last {
                    device.backend().clear(to, 4 * query_rows * width)?;
                }
                plan.run(&device, "attention_back_queries", false, &[&common[..], &[to]].concat(), held)?;
            }
            match sink.target(1, steps * 2 * width)? {
                Some((to, held)) => plan.run(&device, "attention_back_keys", true, &[&common[..], &[to]].concat(), held),
                None => Ok(()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_fit_a_block_for_every_width_of_a_head() {
        let packing = Packing::whole(&[3, 2]);
        for width in [1, 16, 32, 64, 97, 128, 256, 509, 1000] {
            for last in [false, true] {
                let plan = Plan::new(&packing, 1, width, last).unwrap();
                assert!(Plan::shared(plan.query_tile, plan.key_tile, width) <= SHARED_MAX, "{plan:?}");
            }
        }
        let usual = Plan::new(&packing, 2, 32, false).unwrap();
        assert_eq!((usual.query_tile, usual.key_tile), (QUERY_TILE, KEY_TILE));
    }
}
