//! Whole numbers in the order in which they came: four bytes each while they have the upper half of their bits in common, as the ids
//! of users and products have, else eight.

use super::WORD;

/// The upper half of a number's bits.
const UPPER: i64 = !(u32::MAX as i64);

/// Numbers of one group, some of them perhaps more than once.
#[derive(Debug, Clone)]
pub(super) enum List {
    Near {
        /// What all numbers have in common.
        upper: i64,
        lower: Vec<u32>,
    },
    Far(Vec<i64>),
}

impl Default for List {
    fn default() -> Self {
        Self::Near { upper: 0, lower: vec![] }
    }
}

impl List {
    /// Numbers by their halves; `None` when the upper one is none.
    pub(super) fn near(upper: i64, lower: Vec<u32>) -> Option<Self> {
        (upper & UPPER == upper).then_some(Self::Near { upper, lower })
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Near { lower, .. } => lower.len(),
            Self::Far(numbers) => numbers.len(),
        }
    }

    /// Bytes of the numbers alone.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Near { lower, .. } => size_of_val(lower.as_slice()),
            Self::Far(numbers) => size_of_val(numbers.as_slice()),
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Near { lower, .. } => lower.capacity() * size_of::<u32>(),
            Self::Far(numbers) => numbers.capacity() * size_of::<i64>(),
        }
    }

    /// Appends a number where that needs no memory; whether it did.
    #[inline]
    pub(super) fn push_at_hand(&mut self, number: i64) -> bool {
        match self {
            Self::Near { upper, lower } => {
                let fits = number & UPPER == *upper && lower.len() < lower.capacity();
                if fits {
                    lower.push(number as u32);
                }
                fits
            }
            Self::Far(numbers) => {
                let fits = numbers.len() < numbers.capacity();
                if fits {
                    numbers.push(number);
                }
                fits
            }
        }
    }

    pub(super) fn push(&mut self, number: i64) {
        self.prepare(number & UPPER);
        match self {
            Self::Near { lower, .. } => lower.push(number as u32),
            Self::Far(numbers) => numbers.push(number),
        }
    }

    /// Appends all numbers of another list.
    pub(super) fn append(&mut self, other: &Self) {
        match (&mut *self, other) {
            (Self::Near { upper, lower }, Self::Near { upper: others_upper, lower: others }) if upper == others_upper => {
                lower.extend_from_slice(others);
            }
            _ => other.each(|number| self.push(number)),
        }
    }

    /// Makes numbers with this upper half possible.
    fn prepare(&mut self, wanted: i64) {
        match self {
            Self::Near { upper, lower } if lower.is_empty() => *upper = wanted,
            Self::Near { upper, .. } if *upper != wanted => *self = Self::Far(self.to_vec()),
            Self::Near { .. } | Self::Far(_) => {}
        }
    }

    /// Shows all numbers, in their order.
    #[inline]
    pub(super) fn each(&self, mut show: impl FnMut(i64)) {
        match self {
            Self::Near { upper, lower } => lower.iter().for_each(|lower| show(upper | i64::from(*lower))),
            Self::Far(numbers) => numbers.iter().for_each(|number| show(*number)),
        }
    }

    pub(super) fn to_vec(&self) -> Vec<i64> {
        let mut numbers = Vec::with_capacity(self.len());
        self.each(|number| numbers.push(number));
        numbers
    }

    /// The least and the greatest; `None` without numbers.
    pub(super) fn range(&self) -> Option<(i64, i64)> {
        match self {
            Self::Near { upper, lower } => {
                let (least, most) = (lower.iter().min()?, lower.iter().max()?);
                Some((upper | i64::from(*least), upper | i64::from(*most)))
            }
            Self::Far(numbers) => Some((*numbers.iter().min()?, *numbers.iter().max()?)),
        }
    }

    pub(super) fn first(&self) -> Option<i64> {
        match self {
            Self::Near { upper, lower } => lower.first().map(|lower| upper | i64::from(*lower)),
            Self::Far(numbers) => numbers.first().copied(),
        }
    }

    pub(super) fn last(&self) -> Option<i64> {
        match self {
            Self::Near { upper, lower } => lower.last().map(|lower| upper | i64::from(*lower)),
            Self::Far(numbers) => numbers.last().copied(),
        }
    }

    /// Forgets all numbers, not their memory.
    pub(super) fn clear(&mut self) {
        match self {
            Self::Near { lower, .. } => lower.clear(),
            Self::Far(numbers) => numbers.clear(),
        }
    }

    /// Puts the numbers in order, each once.
    pub(super) fn make_unique(&mut self) {
        match self {
            Self::Near { lower, .. } => {
                lower.sort_unstable();
                lower.dedup();
            }
            Self::Far(numbers) => {
                numbers.sort_unstable();
                numbers.dedup();
            }
        }
    }
}

/// Whether less than a quarter of the numbers are there more than once, as counting the bits that they hit tells (Whang, Vander-Zanden
/// & Taylor, "A linear-time probabilistic counting algorithm", 1990). O(numbers), in a few kilobytes.
pub(super) fn few_would_go(numbers: &List, room: &mut Vec<u64>) -> bool {
    let words = (numbers.len() * 4 / WORD as usize).next_power_of_two();
    room.clear();
    room.resize(words, 0);
    let shift = WORD as u32 - (words as u64 * WORD).trailing_zeros();
    numbers.each(|number| {
        let bit = number.cast_unsigned().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> shift;
        room[(bit / WORD) as usize] |= 1 << (bit % WORD);
    });
    let bits = (words as u64 * WORD) as f64;
    let hit = room.iter().map(|word| f64::from(word.count_ones())).sum::<f64>();
    -bits * (1.0 - hit / bits).ln() > 0.75 * numbers.len() as f64
}
