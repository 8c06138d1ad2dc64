//! Bit-sliced indexes: one 64-bit number per id, as bitmaps (O'Neil and Quass, 1997).
//!
//! Numbers are in two's complement, no wider than the widest needs: slice `i` has the ids whose bit `i` is one, the last slice
//! is the sign. So zero and negative numbers are numbers like others, and equal indexes have equal bytes. An id without a
//! number is not in the index, which is not the same as zero.
//!
//! As bytes: `BSI`, a byte 1 (the version), a byte with the number of slices (1 to 64), then the ids and each slice, the lowest
//! bit first: a 64-bit little-endian length and a bitmap as [`format`](mod@super::format) writes it. Without ids there is one
//! empty slice.

use super::format::{Malformed, take_u64};
use super::set::Bitmap;

/// One number for each id.
#[derive(Debug, Clone, PartialEq)]
pub struct Bsi {
    ids: Bitmap,
    /// At least the sign.
    slices: Vec<Bitmap>,
}

/// Ids by how their numbers compare with a given one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Order {
    /// Below it.
    pub less: Bitmap,
    /// The same.
    pub equal: Bitmap,
    /// Above it.
    pub greater: Bitmap,
}

const MAGIC: &[u8; 4] = b"BSI\x01";

impl Default for Bsi {
    fn default() -> Self {
        Self { ids: Bitmap::default(), slices: vec![Bitmap::default()] }
    }
}

/// The bits that a number needs, its sign included.
const fn width(value: i64) -> usize {
    let magnitude = if value < 0 { !value } else { value };
    65 - magnitude.leading_zeros() as usize
}

impl Bsi {
    /// The index of numbers whose ids ascend strictly.
    #[must_use]
    pub fn from_ascending(pairs: &[(u64, i64)]) -> Self {
        let ids: Vec<u64> = pairs.iter().map(|(id, _)| *id).collect();
        let bits = pairs.iter().map(|(_, value)| width(*value)).max().unwrap_or(1);
        let mut slice = Vec::new();
        let mut slices = Vec::with_capacity(bits);
        for bit in 0..bits {
            slice.clear();
            slice.extend(pairs.iter().filter(|(_, value)| value >> bit & 1 == 1).map(|(id, _)| *id));
            slices.push(Bitmap::from_ascending(&slice));
        }
        Self { ids: Bitmap::from_ascending(&ids), slices }
    }

    /// The ids that have a number.
    #[must_use]
    pub fn ids(&self) -> &Bitmap {
        &self.ids
    }

    /// The ids themselves, and nothing else of the index.
    #[must_use]
    pub fn into_ids(self) -> Bitmap {
        self.ids
    }

    /// The number of an id.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<i64> {
        if !self.ids.contains(id) {
            return None;
        }
        let bit = |at: usize| i64::from(self.slice(at).contains(id)) << at;
        Some((0..64).map(bit).fold(0, |sum, bit| sum | bit))
    }

    /// The slice of a bit; bits above the sign are the sign.
    fn slice(&self, bit: usize) -> &Bitmap {
        &self.slices[bit.min(self.slices.len() - 1)]
    }

    /// The ids that have a one where the numbers are ordered as unsigned: the sign turned round.
    fn ordered(&self, bit: usize, among: &Bitmap) -> Bitmap {
        if bit + 1 == self.slices.len() { among.and_not(self.slice(bit)) } else { among.and(self.slice(bit)) }
    }

    /// The index of the ids that are in `crowd` too.
    #[must_use]
    pub fn restrict(&self, crowd: &Bitmap) -> Self {
        let slices = self.slices.iter().map(|slice| slice.and(crowd)).collect();
        Self { ids: self.ids.and(crowd), slices }.trimmed()
    }

    fn trimmed(mut self) -> Self {
        while let [.., last, sign] = self.slices.as_slice() {
            if last != sign {
                break;
            }
            self.slices.pop();
        }
        self
    }

    /// Adds the numbers of two indexes; an id that one of them has alone keeps its number. `None` when a sum does not fit 64 bits.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Option<Self> {
        let bits = self.slices.len().max(other.slices.len()) + 1;
        let mut carry = Bitmap::default();
        let mut slices = Vec::with_capacity(bits);
        for bit in 0..bits {
            let (a, b) = (self.slice(bit), other.slice(bit));
            let one = a.xor(b);
            slices.push(one.xor(&carry));
            carry = a.and(b).or(&carry.and(&one));
        }
        let sum = Self { ids: self.ids.or(&other.ids), slices }.trimmed();
        (sum.slices.len() <= 64).then_some(sum)
    }

    /// How the numbers compare with `value`.
    #[must_use]
    pub fn compare(&self, value: i64) -> Order {
        let mut order = Order { equal: self.ids.clone(), ..Order::default() };
        if width(value) > self.slices.len() {
            let all = std::mem::take(&mut order.equal);
            return if value < 0 { Order { greater: all, ..order } } else { Order { less: all, ..order } };
        }
        let top = self.slices.len() - 1;
        for bit in (0..=top).rev() {
            let ones = self.ordered(bit, &order.equal);
            if (value >> bit & 1 == 1) != (bit == top) {
                order.less = order.less.or(&order.equal.and_not(&ones));
                order.equal = ones;
            } else {
                order.equal = order.equal.and_not(&ones);
                order.greater = order.greater.or(&ones);
            }
        }
        order
    }

    /// The sum of the numbers of those ids that are in `crowd`, or of all.
    #[must_use]
    pub fn sum(&self, crowd: Option<&Bitmap>) -> i128 {
        let ones = |slice: &Bitmap| i128::from(crowd.map_or_else(|| slice.len(), |crowd| slice.and_len(crowd)));
        let top = self.slices.len() - 1;
        let weighed = |(bit, slice): (usize, &Bitmap)| (if bit == top { -ones(slice) } else { ones(slice) }) << bit;
        self.slices.iter().enumerate().map(weighed).sum()
    }

    /// The greatest number (or the least) of those ids that are in `crowd`, or of all; `None` without ids.
    #[must_use]
    pub fn extreme(&self, greatest: bool, crowd: Option<&Bitmap>) -> Option<i64> {
        let mut best = crowd.map_or_else(|| self.ids.clone(), |crowd| self.ids.and(crowd));
        let mut value = None;
        for bit in (0..self.slices.len()).rev() {
            let ones = self.ordered(bit, &best);
            let wanted = if greatest { ones } else { best.and_not(&ones) };
            if !wanted.is_empty() {
                best = wanted;
            }
            value = best.min();
        }
        value.and_then(|id| self.get(id))
    }

    /// The `k` ids of the greatest numbers among those in `crowd`, or among all; of equal ones the smaller ids. All when there
    /// are not more than `k`.
    #[must_use]
    pub fn top(&self, k: u64, crowd: Option<&Bitmap>) -> Bitmap {
        let mut equal = crowd.map_or_else(|| self.ids.clone(), |crowd| self.ids.and(crowd));
        let (mut sure, mut wanted) = (Bitmap::default(), k);
        for bit in (0..self.slices.len()).rev() {
            let ones = self.ordered(bit, &equal);
            let count = ones.len();
            if count > wanted {
                equal = ones;
            } else {
                equal = equal.and_not(&ones);
                sure = sure.or(&ones);
                wanted -= count;
            }
        }
        sure.or(&equal.page(0, wanted))
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let slices: usize = self.slices.iter().map(Bitmap::heap_bytes).sum();
        self.ids.heap_bytes() + slices + self.slices.capacity() * size_of::<Bitmap>()
    }

    /// Reads an index that is all of `bytes`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut rest = bytes.strip_prefix(MAGIC).ok_or(Malformed::NotAnIndex)?;
        let (count, after) = rest.split_first().ok_or(Malformed::Short)?;
        rest = after;
        if !(1..=64).contains(count) {
            return Err(Malformed::Slices(*count));
        }
        let mut next = || {
            let length = usize::try_from(take_u64(&mut rest)?).map_err(|_| Malformed::Short)?;
            let (bytes, after) = rest.split_at_checked(length).ok_or(Malformed::Short)?;
            rest = after;
            Bitmap::read(bytes)
        };
        let ids = next()?;
        let slices = (0..*count).map(|_| next()).collect::<Result<Vec<_>, _>>()?;
        if !rest.is_empty() {
            return Err(Malformed::Long(rest.len()));
        }
        if slices.iter().any(|slice| !slice.is_within(&ids)) {
            return Err(Malformed::Stray);
        }
        Ok(Self { ids, slices }.trimmed())
    }

    /// The bytes of the index.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        let Self { ids, slices } = self.trimmed();
        let mut out = MAGIC.to_vec();
        out.push(u8::try_from(slices.len()).unwrap_or(64));
        for mut part in std::iter::once(ids).chain(slices) {
            let at = out.len();
            out.extend_from_slice(&[0; 8]);
            part.write(&mut out);
            let length = (out.len() - at - 8) as u64;
            out[at..at + 8].copy_from_slice(&length.to_le_bytes());
        }
        out
    }
}
