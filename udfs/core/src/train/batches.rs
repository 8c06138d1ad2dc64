//! Which rows make up which batch: shuffled anew each epoch, rows of similar length together.

use crate::features::inputs::Inputs;
use crate::models::ops::Philox;

/// Batches whose rows are sorted by length together. Enough to pad little, few enough to keep batches random.
const WINDOW_BATCHES: usize = 32;

/// Rows of an epoch at most. A larger training set is gone through in several epochs, so that validation, early
/// stopping and progress come at a human pace; no row is seen twice before every row was seen once.
const EPOCH_ROWS_MAX: usize = 200_000;

/// The batches of epoch `epoch` (from 1). A function of the rows, `random` and the sizes only.
pub(super) fn epoch(rows: &[u32], lengths: Option<&Inputs>, batch_size: usize, random: Philox, epoch: usize) -> Vec<Vec<u32>> {
    let parts = rows.len().div_ceil(EPOCH_ROWS_MAX).max(1);
    let (pass, part) = ((epoch - 1) / parts, (epoch - 1) % parts);
    let mut order = rows.to_vec();
    random.at_step(pass as u32).shuffle(&mut order);
    let mut order = order[part * rows.len() / parts..(part + 1) * rows.len() / parts].to_vec();
    let random = random.at_step(epoch as u32);
    if let Some(sequence) = lengths.and_then(|inputs| inputs.sequence.as_ref()) {
        for window in order.chunks_mut(WINDOW_BATCHES * batch_size) {
            window.sort_by_key(|row| sequence.spans[*row as usize].1);
        }
    }
    let mut batches: Vec<Vec<u32>> = order.chunks(batch_size).map(<[u32]>::to_vec).collect();
    // A last batch of a handful of rows would push as hard as a full one: it joins its neighbour.
    if batches.len() > 1
        && batches.last().is_some_and(|last| last.len() * 4 < batch_size)
        && let (Some(last), Some(before)) = (batches.pop(), batches.last_mut())
    {
        before.extend(last);
    }
    if lengths.is_some() {
        random.fork(1).shuffle(&mut batches);
    }
    batches
}

/// Rows in files are passed through a network in stretches of so many: sorted by length within, in order between.
const STRETCH_ROWS: usize = 1 << 14;

/// The order, as places in `rows`, in which rows pass through a network outside of training: those of similar length
/// together if it reads steps; of rows in files, neighbours too. A row's answer does not depend on it.
pub(super) fn pass_order(inputs: &Inputs, rows: &[u32], by_length: bool) -> Vec<u32> {
    let mut order: Vec<u32> = (0..rows.len() as u32).collect();
    if let (true, Some(sequence)) = (by_length, &inputs.sequence) {
        let stretch = if inputs.spilled.is_some() { STRETCH_ROWS } else { rows.len().max(1) };
        for stretch in order.chunks_mut(stretch) {
            stretch.sort_by_key(|at| sequence.spans[rows[*at as usize] as usize].1);
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::inputs::Sequences;

    #[test]
    fn every_row_once_whatever_the_order() {
        let rows: Vec<u32> = (0..103).collect();
        let spans = (0..103).map(|row| (0, row % 7)).collect();
        let inputs = Inputs { rows: 103, sequence: Some(Sequences { spans, ..Sequences::default() }), ..Inputs::default() };
        for lengths in [None, Some(&inputs)] {
            let batches = epoch(&rows, lengths, 10, Philox::new(1, 1), 1);
            assert_eq!(batches, epoch(&rows, lengths, 10, Philox::new(1, 1), 1));
            assert_ne!(batches, epoch(&rows, lengths, 10, Philox::new(1, 1), 2));
            let mut all: Vec<u32> = batches.concat();
            all.sort_unstable();
            assert_eq!(all, rows);
            assert!(batches.iter().any(|batch| batch.len() == 10));
        }
    }

    #[test]
    fn a_large_set_takes_several_epochs_to_be_seen_once() {
        let rows: Vec<u32> = (0..500_001).collect();
        let mut seen: Vec<u32> = (1..=3).flat_map(|part| epoch(&rows, None, 1000, Philox::new(1, 1), part).concat()).collect();
        seen.sort_unstable();
        assert_eq!(seen, rows);
    }
}
