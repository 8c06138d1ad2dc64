//! Look-up of learned vectors, and the last step of each row.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::models::cuda::device::Device;
use crate::models::cuda::tape::{DeviceTape, Sink};
use crate::models::ops::{Packing, Pooling, Var};

/// Rows of a gradient that one thread adds up: an id that every row holds is not waited for.
const PIECE: usize = 64;
/// The id that kernels take for none.
const NOWHERE: u32 = u32::MAX;

/// Where each id occurs: rows in the order of their ids, cut into pieces, several for an id that occurs often.
#[derive(Debug, Default, PartialEq, Eq)]
struct Occurrences {
    /// Rows, sorted by id, in their own order within an id.
    places: Vec<u32>,
    /// Start of each piece in `places`, and the end.
    pieces: Vec<u32>,
    /// Ids that occur, rising.
    ids: Vec<u32>,
    /// Start of each id in `pieces`, and the end.
    segments: Vec<u32>,
}

impl Occurrences {
    /// Of the ids of one field, all below `vocabulary`: counted, then put in their places.
    fn new(ids: impl ExactSizeIterator<Item = u32> + Clone, vocabulary: usize) -> Self {
        let mut starts = vec![0u32; vocabulary + 1];
        ids.clone().for_each(|id| starts[id as usize + 1] += 1);
        let mut own = Self { places: vec![0; ids.len()], ..Self::default() };
        for id in 0..vocabulary {
            let count = starts[id + 1];
            starts[id + 1] += starts[id];
            if count > 0 {
                own.ids.push(id as u32);
                own.segments.push(own.pieces.len() as u32);
                own.pieces.extend((starts[id]..starts[id + 1]).step_by(PIECE));
            }
        }
        own.segments.push(own.pieces.len() as u32);
        own.pieces.push(ids.len() as u32);
        for (row, id) in ids.enumerate() {
            let next = &mut starts[id as usize];
            own.places[*next as usize] = row as u32;
            *next += 1;
        }
        own
    }

    /// Adds the rows of `gradient [_, total]`, columns from `offset` on, to the rows of the table at `to [vocabulary, width]`.
    fn add(&self, device: &Arc<Device>, gradient: u64, [total, offset, width]: [usize; 3], to: u64) -> Result<()> {
        let pieces = self.pieces.len() - 1;
        let sums = device.array(pieces * width)?;
        let (places, starts) = (device.upload(&self.places)?, device.upload(&self.pieces)?);
        device.each(
            "sum_pieces",
            pieces * width,
            &[gradient, places.at(), starts.at(), sums.at()],
            &[pieces, width, total, offset],
            &[],
        )?;
        let (ids, segments) = (device.upload(&self.ids)?, device.upload(&self.segments)?);
        let addresses = [sums.at(), ids.at(), segments.at(), to];
        device.each("add_segments", self.ids.len() * width, &addresses, &[self.ids.len(), width], &[])
    }
}

/// For each row of the batch the packed position of its last step.
fn last_positions(packing: &Packing) -> Vec<u32> {
    let mut last = vec![NOWHERE; packing.rows()];
    for chunk in packing.chunks() {
        for (at, len) in chunk.lengths() {
            last[chunk.rows[at] as usize] = (chunk.start + chunk.offsets[len - 1] + at) as u32;
        }
    }
    last
}

impl DeviceTape {
    /// See [`crate::models::ops::embed`].
    ///
    /// # Errors
    /// As there, and `OutOfMemory`.
    pub fn embed(&self, tables: &[Var], ids: &Arc<[u32]>, pooling: Pooling) -> Result<Var> {
        let fields = tables.len();
        let shapes: Vec<(usize, usize)> = tables.iter().map(Var::dims2).collect::<Result<_>>()?;
        let same_width = pooling == Pooling::Concat || shapes.iter().all(|shape| shape.1 == shapes[0].1);
        if fields == 0 || !ids.len().is_multiple_of(fields) || !same_width {
            return Err(Error::internal("embedding: ids do not fit the tables"));
        }
        if ids.iter().enumerate().any(|(at, id)| *id as usize >= shapes[at % fields].0) {
            return Err(Error::internal("embedding: an id is outside its vocabulary"));
        }
        let rows = ids.len() / fields;
        let beside = pooling == Pooling::Concat;
        let total = if beside { shapes.iter().map(|shape| shape.1).sum() } else { shapes[0].1 };
        let mut offsets = Vec::with_capacity(fields);
        for field in 0..fields {
            offsets.push(if beside { shapes[..field].iter().map(|shape| shape.1).sum::<usize>() } else { 0 });
        }
        let device = Arc::clone(&self.device);
        let (y, on_device) = (device.array(rows * total)?, device.upload(ids)?);
        for (field, table) in tables.iter().enumerate() {
            let (width, held) = (shapes[field].1, !beside && field > 0);
            let counts = [rows, width, fields, field, total, offsets[field], usize::from(held)];
            device.each("gather_rows", rows * width, &[table.array()?.at(), on_device.at(), y.at()], &counts, &[])?;
        }
        let parents: Vec<&Var> = tables.iter().collect();
        let ids = Arc::clone(ids);
        self.record(&[rows, total], y, &parents, move |gradient, sink: &mut Sink<'_>| {
            for (field, (vocabulary, width)) in shapes.iter().copied().enumerate() {
                let Some((to, held)) = sink.target(field, vocabulary * width)? else { continue };
                if !held {
                    device.backend().clear(to, 4 * vocabulary * width)?;
                }
                let own = ids.iter().skip(field).step_by(fields).copied();
                Occurrences::new(own, vocabulary).add(&device, gradient.at(), [total, offsets[field], width], to)?;
            }
            Ok(())
        })
    }

    /// See [`crate::models::ops::last_step`].
    ///
    /// # Errors
    /// As there, and `OutOfMemory`.
    pub fn last_step(&self, x: &Var, packing: &Packing) -> Result<Var> {
        let (steps, width) = x.dims2()?;
        if steps != packing.steps() {
            return Err(Error::internal("last_step: the input is packed otherwise"));
        }
        let rows = packing.rows();
        let device = Arc::clone(&self.device);
        let last = device.upload(&last_positions(packing))?;
        let y = device.array(rows * width)?;
        device.each("gather_rows", rows * width, &[x.array()?.at(), last.at(), y.at()], &[rows, width, 1, 0, width, 0, 0], &[])?;
        self.record(&[rows, width], y, &[x], move |gradient, sink: &mut Sink<'_>| {
            let Some((to, held)) = sink.target(0, steps * width)? else { return Ok(()) };
            if !held && steps * width > 0 {
                device.backend().clear(to, 4 * steps * width)?;
            }
            device.each("scatter_rows", rows * width, &[gradient.at(), last.at(), to], &[rows, width], &[])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_sorted_and_frequent_ones_cut() {
        let own = Occurrences::new([3u32, 1, 3, 0, 1, 3].into_iter(), 5);
        let expected =
            Occurrences { places: vec![3, 1, 4, 0, 2, 5], pieces: vec![0, 1, 3, 6], ids: vec![0, 1, 3], segments: vec![0, 1, 2, 3] };
        assert_eq!(own, expected);
        let own = Occurrences::new(std::iter::repeat_n(2u32, 130), 3);
        assert_eq!((own.pieces, own.segments, own.ids), (vec![0, 64, 128, 130], vec![0, 3], vec![2]));
        assert_eq!(Occurrences::new([].into_iter(), 3).pieces, [0]);
    }
}
