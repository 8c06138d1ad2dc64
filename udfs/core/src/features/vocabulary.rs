//! Vocabularies: which strings have an id of their own.
//!
//! Id 0 is NULL, 1 a string that training did not see often enough, 2.. the known ones, most frequent first.

use serde::{Deserialize, Serialize};

use crate::kernels::intern::{Interner, NULL_CODE};

/// The id of NULL (and of padding in sequences).
pub const NULL_ID: u32 = 0;
/// The id of every string that is not known.
pub const UNSEEN_ID: u32 = 1;
/// The id of the first known string.
pub const FIRST_ID: u32 = 2;

/// The known strings of one feature, in id order. Stored as a plain JSON array.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(from = "Vec<String>", into = "Vec<String>")]
pub struct Vocabulary {
    known: Interner,
}

impl Vocabulary {
    /// Keeps the strings seen at least `count_min` times, at most `size_max` of them, most frequent first and ties
    /// by name. `counts[code]` belongs to the string `table.get(code)`.
    #[must_use]
    pub fn fit(table: &Interner, counts: &[u64], count_min: u64, size_max: usize) -> Self {
        let mut kept: Vec<(u64, &str)> = counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count >= count_min.max(1))
            .map(|(code, count)| (*count, table.get(code as u32)))
            .collect();
        kept.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)));
        kept.truncate(size_max);
        Self { known: kept.into_iter().map(|(_, text)| text).collect() }
    }

    /// The id of a string.
    #[must_use]
    pub fn id(&self, text: &str) -> u32 {
        self.known.find(text).map_or(UNSEEN_ID, |code| code + FIRST_ID)
    }

    /// The string of a known id.
    #[must_use]
    pub fn get(&self, id: u32) -> Option<&str> {
        id.checked_sub(FIRST_ID).filter(|code| (*code as usize) < self.known.len()).map(|code| self.known.get(code))
    }

    /// Number of known strings.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether no string is known.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Number of ids, NULL and unseen included.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.known.len() + FIRST_ID as usize
    }

    /// The known strings in id order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.known.iter()
    }
}

impl PartialEq for Vocabulary {
    fn eq(&self, other: &Self) -> bool {
        self.known.len() == other.known.len() && self.iter().eq(other.iter())
    }
}

impl Eq for Vocabulary {}

impl From<Vec<String>> for Vocabulary {
    fn from(known: Vec<String>) -> Self {
        Self { known: known.iter().map(String::as_str).collect() }
    }
}

impl From<Vocabulary> for Vec<String> {
    fn from(vocabulary: Vocabulary) -> Self {
        vocabulary.iter().map(str::to_owned).collect()
    }
}

/// Remembers what the codes of a growing string table mean, so that a string is hashed once and not per event.
#[derive(Debug, Clone, Default)]
pub(super) struct CodeMap {
    meanings: Vec<u32>,
}

/// No string was looked up for this code yet.
const UNKNOWN: u32 = u32::MAX - 1;

impl CodeMap {
    /// The meaning of `code`: `null` for NULL, else what `look_up` said of its string.
    #[inline]
    pub(super) fn get(&mut self, code: u32, null: u32, look_up: impl FnOnce() -> u32) -> u32 {
        if code == NULL_CODE {
            return null;
        }
        let index = code as usize;
        if index >= self.meanings.len() {
            self.meanings.resize((index + 1).next_power_of_two(), UNKNOWN);
        }
        if self.meanings[index] == UNKNOWN {
            self.meanings[index] = look_up();
        }
        self.meanings[index]
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.meanings.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequency_then_name() {
        let table: Interner = ["b", "a", "rare", "top", "c"].into_iter().collect();
        let vocabulary = Vocabulary::fit(&table, &[5, 5, 1, 9, 5], 2, 3);
        assert_eq!(vocabulary.iter().collect::<Vec<_>>(), ["top", "a", "b"]);
        assert_eq!((vocabulary.id("top"), vocabulary.id("b"), vocabulary.id("c"), vocabulary.id("rare")), (2, 4, 1, 1));
        assert_eq!((vocabulary.get(2), vocabulary.get(1), vocabulary.get(0), vocabulary.get(5)), (Some("top"), None, None, None));
        assert_eq!(vocabulary.size(), 5);
        let stored = serde_json::to_string(&vocabulary).unwrap();
        assert_eq!(stored, "[\"top\",\"a\",\"b\"]");
        assert_eq!(serde_json::from_str::<Vocabulary>(&stored).unwrap(), vocabulary);
    }

    #[test]
    fn code_maps_look_up_once() {
        let mut map = CodeMap::default();
        assert_eq!(map.get(NULL_CODE, 7, || unreachable!()), 7);
        assert_eq!(map.get(40, 7, || 3), 3);
        assert_eq!(map.get(40, 7, || unreachable!()), 3);
        map.clear();
        assert_eq!(map.get(40, 7, || 4), 4);
    }
}
