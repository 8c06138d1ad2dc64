//! Which rows make up which batch: shuffled anew each epoch, rows of similar length together.

use crate::features::inputs::Inputs;
use crate::models::ops::Philox;

/// Batches whose rows are sorted by length together. Enough to pad little, few enough to keep batches random.
const WINDOW_BATCHES: usize = 32;

/// The batches of one epoch: every row once. A function of the rows, `random` and the sizes only.
pub(super) fn epoch(rows: &[u32], lengths: Option<&Inputs>, batch_size: usize, random: Philox) -> Vec<Vec<u32>> {
    let mut order = rows.to_vec();
    random.shuffle(&mut order);
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
            let batches = epoch(&rows, lengths, 10, Philox::new(1, 1));
            assert_eq!(batches, epoch(&rows, lengths, 10, Philox::new(1, 1)));
            assert_ne!(batches, epoch(&rows, lengths, 10, Philox::new(1, 1).at_step(1)));
            let mut all: Vec<u32> = batches.concat();
            all.sort_unstable();
            assert_eq!(all, rows);
            assert!(batches.iter().any(|batch| batch.len() == 10));
        }
    }
}
