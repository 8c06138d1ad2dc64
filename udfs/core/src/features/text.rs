//! A column of free text: the texts of a training while they are collected, and how their words become ids.
//!
//! Ids: 0 = NULL, 1 = no words at all, then the words that enough training texts hold, most frequent first, then buckets
//! that all other words share by their hash. Every row has at least one id.
//!
//! A labelled row has one text, of which the first words count. A user has the texts of the latest events up to the anchor,
//! oldest first, of which the last words count.

use arrow::datatypes::DataType;
use serde::{Deserialize, Serialize};

use super::inputs::{TextShape, Texts};
use super::roles::sql_type;
use super::vocabulary::{CodeMap, FIRST_ID, NULL_ID, Vocabulary};
use crate::error::{Code, Error};
use crate::kernels::intern::{Interner, NULL_CODE};
use crate::kernels::words::{bucket, words};

/// The id of a text without words.
const EMPTY_ID: u32 = 1;
/// The code of a text without words.
const EMPTY_CODE: u32 = NULL_CODE - 1;
/// Words with an id of their own, at most.
const WORDS_MAX: usize = 20_000;
/// Buckets of the other words, at most; and how many of training's rare words teach one.
const BUCKETS_MAX: usize = 1024;
const WORDS_PER_BUCKET: usize = 4;
/// Texts of a history that are read together, at most.
const TEXTS_TOGETHER: usize = 8;

/// How the texts of a column are read; part of a model's encoder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TextPlan {
    /// Which column.
    pub(super) column: String,
    /// The known words.
    pub(super) vocabulary: Vocabulary,
    /// Buckets of the others.
    pub(super) buckets: u32,
    /// Words of a row at most.
    pub(super) max_len: usize,
}

impl TextPlan {
    /// The shape of what it makes.
    pub(super) fn shape(&self) -> TextShape {
        TextShape { vocabulary: self.vocabulary.size() + self.buckets as usize, buckets: self.buckets as usize, max_len: self.max_len }
    }

    fn id(&self, word: &str) -> u32 {
        match self.vocabulary.id(word) {
            known @ FIRST_ID.. => known,
            _ => self.vocabulary.size() as u32 + bucket(word, self.buckets),
        }
    }

    /// Appends the ids of a text's first words.
    pub(super) fn encode(&self, text: Option<&str>, to: &mut Vec<u32>) {
        let Some(text) = text else { return to.push(NULL_ID) };
        let start = to.len();
        words(text, |word| {
            if to.len() - start < self.max_len {
                to.push(self.id(word));
            }
        });
        if to.len() == start {
            to.push(EMPTY_ID);
        }
    }
}

/// The texts of a training, as codes of the words they hold.
#[derive(Debug, Clone)]
pub(super) struct TextColumn {
    pub(super) column: String,
    max_len: usize,
    words: Interner,
    codes: Vec<u32>,
    ends: Vec<usize>,
}

impl TextColumn {
    pub(super) fn new(column: String, max_len: usize) -> Self {
        Self { column, max_len, words: Interner::default(), codes: Vec::new(), ends: Vec::new() }
    }

    /// Takes the next text.
    pub(super) fn push(&mut self, text: Option<&str>) {
        let start = self.codes.len();
        match text {
            None => self.codes.push(NULL_CODE),
            Some(text) => {
                let (codes, table) = (&mut self.codes, &mut self.words);
                words(text, |word| {
                    if codes.len() - start < self.max_len {
                        codes.push(table.intern(word));
                    }
                });
                if codes.len() == start {
                    codes.push(EMPTY_CODE);
                }
            }
        }
        self.ends.push(self.codes.len());
    }

    /// The words of a text.
    fn text(&self, at: usize) -> &[u32] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.codes[start..self.ends[at]]
    }

    /// What ids words have, from the texts that training may know, each with how often it occurs.
    pub(super) fn fit(&self, known: impl Iterator<Item = (usize, u64)>) -> TextPlan {
        let (mut counts, mut seen) = (vec![0_u64; self.words.len()], vec![usize::MAX; self.words.len()]);
        let mut texts = 0;
        for (at, times) in known {
            texts += times;
            for code in self.text(at).iter().filter(|code| **code < EMPTY_CODE) {
                if std::mem::replace(&mut seen[*code as usize], at) != at {
                    counts[*code as usize] += times;
                }
            }
        }
        let vocabulary = Vocabulary::fit(&self.words, &counts, (texts / 5000).clamp(2, 10), WORDS_MAX);
        let rare = counts.iter().filter(|count| **count > 0).count() - vocabulary.len();
        let buckets = (rare / WORDS_PER_BUCKET).clamp(1, BUCKETS_MAX) as u32;
        TextPlan { column: self.column.clone(), vocabulary, buckets, max_len: self.max_len }
    }

    /// Some texts by `plan`.
    pub(super) fn encode(&self, plan: &TextPlan, rows: impl Iterator<Item = usize>) -> Texts {
        let mut ids = CodeMap::default();
        let mut texts = Texts::default();
        let mut own = Vec::new();
        for row in rows {
            own.clear();
            own.extend(self.text(row).iter().take(plan.max_len).map(|code| match *code {
                EMPTY_CODE => EMPTY_ID,
                code => ids.get(code, NULL_ID, || plan.id(self.words.get(code))),
            }));
            texts.push(&own);
        }
        texts
    }

    /// The bytes it holds, and will hold again when encoded.
    pub(super) fn bytes(&self) -> usize {
        self.words.bytes() + self.codes.len() * 8 + self.ends.len() * 16
    }
}

/// The error for a column that holds no texts.
pub(super) fn no_text(name: &str, data_type: &DataType) -> Error {
    let r#type = sql_type(data_type);
    Error::new(Code::DatatypeMismatch, format!("column \"{name}\" is of type {type} but must be text")).hint("Cast it to text.")
}

/// Ids of the texts of one reader, by their codes.
#[derive(Debug, Clone, Default)]
pub(super) struct TextIds {
    known: Vec<Option<Box<[u32]>>>,
}

impl TextIds {
    /// The ids of the text `code`, which `make` appends when it was not seen before.
    pub(super) fn get(&mut self, code: u32, make: impl FnOnce(&mut Vec<u32>)) -> &[u32] {
        let index = code as usize;
        if index >= self.known.len() {
            self.known.resize((index + 1).next_power_of_two(), None);
        }
        self.known[index].get_or_insert_with(|| {
            let mut ids = Vec::new();
            make(&mut ids);
            ids.into()
        })
    }

    /// Forgets what codes meant.
    pub(super) fn clear(&mut self) {
        self.known.clear();
    }
}

/// Appends one row for each of `ends` (ascending): the texts of the latest events before it. `codes` are a user's texts, event
/// by event; `ids` gives the words of one.
pub(super) fn push_history(codes: &[u32], ends: &[usize], max_len: usize, mut ids: impl FnMut(u32, &mut Vec<u32>), out: &mut Texts) {
    // The words of the events so far: event, and where its words are.
    let mut told: Vec<(usize, usize, usize)> = Vec::new();
    let first = ends.first().map_or(0, |end| start_of(&codes[..*end]));
    let last = ends.last().copied().unwrap_or(0);
    for (at, code) in codes.iter().enumerate().take(last).skip(first).filter(|(_, code)| **code != NULL_CODE) {
        let start = out.tokens.len();
        ids(*code, &mut out.tokens);
        told.push((at, start, out.tokens.len()));
    }
    for end in ends {
        let before = &told[..told.partition_point(|(at, ..)| at < end)];
        let latest = &before[before.len().saturating_sub(TEXTS_TOGETHER)..];
        match (latest.first(), latest.last()) {
            (Some((_, start, _)), Some((.., stop))) => {
                let start = (*start).max(stop.saturating_sub(max_len));
                out.spans.push((start as u32, (stop - start) as u32));
            }
            _ => out.push(&[NULL_ID]),
        }
    }
}

/// The first event whose text a row after all of `codes` reads.
fn start_of(codes: &[u32]) -> usize {
    let texts = codes.iter().enumerate().rev().filter(|(_, code)| **code != NULL_CODE);
    texts.take(TEXTS_TOGETHER).last().map_or(codes.len(), |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(texts: &[Option<&str>]) -> TextColumn {
        let mut column = TextColumn::new("review".into(), 6);
        texts.iter().for_each(|text| column.push(*text));
        column
    }

    #[test]
    fn words_by_document_frequency_and_the_rest_in_buckets() {
        let texts = [Some("good good dress"), Some("a good fit"), None, Some("…"), Some("bad dress and once twice thrice words")];
        let column = column(&texts);
        let plan = column.fit((0..5).map(|at| (at, 1)));
        assert_eq!(plan.vocabulary.iter().collect::<Vec<_>>(), ["dress", "good"]);
        assert_eq!((plan.buckets, plan.shape().vocabulary), (1, 5));
        let encoded = column.encode(&plan, 0..5);
        assert_eq!(encoded.row(0), [3, 3, 2]);
        assert_eq!(encoded.row(1), [4, 3, 4]);
        assert_eq!((encoded.row(2), encoded.row(3)), (&[NULL_ID][..], &[EMPTY_ID][..]));
        assert_eq!(encoded.row(4), [4, 2, 4, 4, 4, 4]);
        // Scoring reads the same text the same way, and unknown words too.
        for (at, text) in texts.iter().enumerate() {
            let mut ids = Vec::new();
            plan.encode(*text, &mut ids);
            assert_eq!(ids, encoded.row(at));
        }
        let stored = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<TextPlan>(&stored).unwrap(), plan);
        // What training may not know has no part in it.
        assert_eq!(column.fit([(2, 1), (3, 4)].into_iter()).shape().vocabulary, 3);
    }

    #[test]
    fn the_latest_texts_of_a_history() {
        let ids = |code: u32, to: &mut Vec<u32>| to.extend([10 * code, 10 * code + 1]);
        let codes = [NULL_CODE, 1, NULL_CODE, 2, 3];
        let mut together = Texts::default();
        push_history(&codes, &[1, 2, 4, 5], 5, ids, &mut together);
        let rows: Vec<&[u32]> = (0..4).map(|row| together.row(row)).collect();
        assert_eq!(rows, [&[NULL_ID][..], &[10, 11], &[10, 11, 20, 21], &[11, 20, 21, 30, 31]]);
        // A row alone is as it is among others.
        for (row, end) in [1, 2, 4, 5].into_iter().enumerate() {
            let mut alone = Texts::default();
            push_history(&codes, &[end], 5, ids, &mut alone);
            assert_eq!(alone.row(0), together.row(row));
        }
        let many: Vec<u32> = (0..20).collect();
        let mut latest = Texts::default();
        push_history(&many, &[20], 100, ids, &mut latest);
        assert_eq!((latest.tokens.len(), latest.row(0)[0]), (2 * TEXTS_TOGETHER, 120));
    }
}
