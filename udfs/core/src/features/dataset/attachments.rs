//! The pictures and texts of histories: of every row the latest ones up to its anchor.

use super::store::HistoryStore;
use crate::error::Result;
use crate::features::anchor::Row;
use crate::features::encoder::{codes_of, latest};
use crate::features::images::{ImagePlan, Pictures};
use crate::features::inputs::{Inputs, NO_PICTURE, Texts};
use crate::features::options::Options;
use crate::features::roles::EventColumns;
use crate::features::text::{TextColumn, TextPlan, push_history};
use crate::kernels::intern::NULL_CODE;

/// About what the words of one event's text take while they are encoded.
pub(super) const BYTES_PER_TEXT: usize = 64;

/// The rows of a training and the histories that they are cut from; a user's rows stand together, anchors ascending.
#[derive(Debug, Clone, Copy)]
pub(super) struct History<'a> {
    pub(super) store: &'a HistoryStore,
    pub(super) rows: &'a [Row],
    pub(super) columns: &'a EventColumns,
}

impl<'a> History<'a> {
    /// A user's codes in a carried column, event by event.
    fn codes(self, user: u32, column: usize) -> &'a [u32] {
        codes_of(&self.store.view(user as usize), column).unwrap_or_default()
    }

    /// The rows of one user after the other: user, and the rows' ends.
    fn users(self) -> impl Iterator<Item = (u32, Vec<usize>)> + 'a {
        self.rows.chunk_by(|a, b| a.user == b.user).map(|rows| (rows[0].user, rows.iter().map(|row| row.end as usize).collect()))
    }
}

/// Decodes the pictures that rows end in, and says which row has which.
pub(super) fn pictures(history: History<'_>, options: &Options, inputs: &mut Inputs) -> Result<Option<ImagePlan>> {
    let Some(name) = &history.columns.image else { return Ok(None) };
    let column = history.columns.extra.len() + history.columns.text.len();
    let mut pictures = Pictures::new(name.clone(), options.image_size);
    let table = &history.store.strings.extras[column];
    // By code: which picture it is, or that it cannot be read.
    let mut known: Vec<Option<u32>> = vec![None; table.len()];
    let mut count = 0;
    for row in history.rows {
        let codes = history.codes(row.user, column);
        let mut seen = NO_PICTURE;
        for code in latest(codes, row.end as usize) {
            seen = match known[code as usize] {
                Some(picture) => picture,
                None => {
                    let read = pictures.push(u64::from(code) + 1, Some(table.bytes_of(code)))?;
                    count += u32::from(read);
                    *known[code as usize].insert(if read { count - 1 } else { NO_PICTURE })
                }
            };
            if seen != NO_PICTURE {
                break;
            }
        }
        inputs.pictured.push(seen);
    }
    if count == 0 {
        inputs.pictured.clear();
        return Ok(None);
    }
    let plan = pictures.plan();
    inputs.images = pictures.encode(0..count as usize, plan.shape)?;
    Ok(Some(plan))
}

/// Fits the words of every text column on what the train rows may know, and encodes those of all rows.
pub(super) fn texts(history: History<'_>, known: &[u32], options: &Options, inputs: &mut Inputs) -> Vec<TextPlan> {
    let first = history.columns.extra.len();
    let mut plans = Vec::with_capacity(history.columns.text.len());
    for (at, name) in history.columns.text.iter().enumerate() {
        let table = &history.store.strings.extras[first + at];
        let mut column = TextColumn::new(name.clone(), options.network.max_text_len as usize);
        table.iter().for_each(|text| column.push(Some(text)));
        let mut counts = vec![0_u64; table.len()];
        for (user, known) in known.iter().enumerate() {
            let codes = history.codes(user as u32, first + at);
            codes[..(*known as usize).min(codes.len())]
                .iter()
                .filter(|code| **code != NULL_CODE)
                .for_each(|code| counts[*code as usize] += 1);
        }
        let plan = column.fit(counts.iter().copied().enumerate().filter(|(_, times)| *times > 0));
        let all = column.encode(&plan, 0..table.len());
        let mut texts = Texts::default();
        for (user, ends) in history.users() {
            let ids = |code, to: &mut Vec<u32>| to.extend_from_slice(all.row(code as usize));
            push_history(history.codes(user, first + at), &ends, plan.max_len, ids, &mut texts);
        }
        inputs.texts.push(texts);
        plans.push(plan);
    }
    plans
}

#[cfg(test)]
mod tests;
