//! Bitmaps as bytes: the portable 64-bit roaring format.
//!
//! A 64-bit count of buckets, then for each the 32-bit high half of its ids and a 32-bit roaring bitmap in the portable format
//! (github.com/RoaringBitmap/RoaringFormatSpec, "extension for 64-bit implementations"); all little-endian, the high halves
//! ascending. No id is 8 zero bytes. ClickHouse's `AggregateFunction(groupBitmap, UInt64)` holds the same bytes behind a byte 1
//! and their length as a variable-length integer, once it has more than 32 members.
//!
//! Writing chooses the smallest form for every container (array, bitmap, runs), a function of the members alone.

use std::fmt;

use roaring::RoaringBitmap;

use super::set::Bitmap;

/// What is wrong with bytes that should be a bitmap or an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Malformed {
    /// They end too early.
    Short,
    /// Something follows the end.
    Long(usize),
    /// The high halves of ids do not ascend.
    Order,
    /// A 32-bit bitmap breaks its format.
    Bucket(String),
    /// They do not begin as an index does.
    NotAnIndex,
    /// An index has this many slices.
    Slices(u8),
    /// A slice has ids that the index does not have.
    Stray,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => f.write_str("the bytes end too early"),
            Self::Long(bytes) => write!(f, "{bytes} bytes follow its end"),
            Self::Order => f.write_str("its parts are not in ascending order"),
            Self::Bucket(what) => f.write_str(what),
            Self::NotAnIndex => f.write_str("the bytes do not begin as those of an index do"),
            Self::Slices(count) => write!(f, "it has {count} slices, not 1 to 64"),
            Self::Stray => f.write_str("a slice has ids that the index does not have"),
        }
    }
}

impl std::error::Error for Malformed {}

/// The next 8 bytes as a number.
pub(super) fn take_u64(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let (first, rest) = bytes.split_first_chunk::<8>().ok_or(Malformed::Short)?;
    *bytes = rest;
    Ok(u64::from_le_bytes(*first))
}

impl Bitmap {
    /// Reads a bitmap that is all of `bytes`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut rest = bytes;
        let count = take_u64(&mut rest)?;
        let mut buckets: Vec<(u32, RoaringBitmap)> = Vec::new();
        let mut last = None;
        for _ in 0..count {
            let (key, after) = rest.split_first_chunk::<4>().ok_or(Malformed::Short)?;
            rest = after;
            let key = u32::from_le_bytes(*key);
            if last.replace(key).is_some_and(|last| last >= key) {
                return Err(Malformed::Order);
            }
            let bucket = RoaringBitmap::deserialize_from(&mut rest).map_err(|error| match error.kind() {
                std::io::ErrorKind::UnexpectedEof => Malformed::Short,
                _ => Malformed::Bucket(error.to_string()),
            })?;
            if !bucket.is_empty() {
                buckets.push((key, bucket));
            }
        }
        if rest.is_empty() { Ok(Self::from_buckets(buckets)) } else { Err(Malformed::Long(rest.len())) }
    }

    /// How many bytes [`write`](Self::write) appends to a compact set.
    #[must_use]
    pub fn written_bytes(&self) -> usize {
        8 + self.buckets().iter().map(|(_, bucket)| 4 + bucket.serialized_size()).sum::<usize>()
    }

    /// Appends the bytes. The set becomes [`compact`](Self::compact) first: equal sets have equal bytes.
    pub fn write(&mut self, out: &mut Vec<u8>) {
        self.compact();
        out.reserve(self.written_bytes());
        out.extend_from_slice(&(self.buckets().len() as u64).to_le_bytes());
        for (key, bucket) in self.buckets() {
            out.extend_from_slice(&key.to_le_bytes());
            // Writing into a vector does not fail.
            let _ = bucket.serialize_into(&mut *out);
        }
    }

    /// The bytes of the set.
    #[must_use]
    pub fn to_bytes(mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }
}
