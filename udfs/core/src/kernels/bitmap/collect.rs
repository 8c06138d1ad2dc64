//! Ids that arrive in any order, one or many, become a set.

use super::format::Malformed;
use super::set::Bitmap;

/// A set that grows. A few ids are a short list, which is what millions of small groups have; more of them are sorted and
/// joined to a bitmap in batches that grow with it, so that n ids cost O(n log n) whatever their order, and O(n) in order.
#[derive(Debug, Clone, Default)]
pub struct Collector {
    set: Bitmap,
    /// Of `set` alone, as of the last join.
    set_bytes: usize,
    waiting: Vec<u64>,
    /// How many may wait.
    limit: usize,
}

/// Ids that wait while the set is small.
const FEW: usize = 256;
/// The longest list that waits: 8 MiB.
const MANY: usize = 1 << 20;

impl Collector {
    /// Adds an id.
    pub fn insert(&mut self, id: u64) {
        if self.waiting.last() == Some(&id) {
            return;
        }
        if self.waiting.len() >= self.limit.max(FEW) {
            self.join();
        }
        self.waiting.push(id);
    }

    /// Adds a set.
    pub fn insert_all(&mut self, set: Bitmap) {
        self.set.add(set);
        self.measure();
    }

    /// Adds what another has collected.
    pub fn merge(&mut self, other: Self) {
        if !other.set.is_empty() {
            self.insert_all(other.set);
        }
        for id in other.waiting {
            self.insert(id);
        }
    }

    fn join(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let members = std::mem::take(&mut self.waiting);
        self.set.add(Bitmap::from_ids(members));
        self.measure();
    }

    fn measure(&mut self) {
        self.set_bytes = self.set.heap_bytes();
        self.limit = usize::try_from(self.set.len() / 2).unwrap_or(MANY).clamp(FEW, MANY);
    }

    /// The set so far.
    pub fn set(&mut self) -> &mut Bitmap {
        self.join();
        &mut self.set
    }

    /// How many ids there are so far.
    pub fn count(&mut self) -> u64 {
        if self.set.is_empty() {
            self.waiting.sort_unstable();
            self.waiting.dedup();
            return self.waiting.len() as u64;
        }
        self.set().len()
    }

    /// Bytes on the heap; O(1).
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.set_bytes + self.waiting.capacity() * size_of::<u64>()
    }

    /// Appends the state's bytes: the set's length and bytes, then the ids that wait.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let at = out.len();
        out.extend_from_slice(&[0; 8]);
        if !self.set.is_empty() {
            self.set.clone().write(out);
        }
        let length = (out.len() - at - 8) as u64;
        out[at..at + 8].copy_from_slice(&length.to_le_bytes());
        for id in &self.waiting {
            out.extend_from_slice(&id.to_le_bytes());
        }
    }

    /// Reads what [`encode`](Self::encode) wrote, all of `bytes`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, Malformed> {
        let length = usize::try_from(super::format::take_u64(&mut bytes)?).unwrap_or(usize::MAX);
        let (set, waiting) = bytes.split_at_checked(length).ok_or(Malformed::Short)?;
        let mut found = Self::default();
        if !set.is_empty() {
            found.insert_all(Bitmap::read(set)?);
        }
        let (waiting, rest) = waiting.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(Malformed::Short);
        }
        found.waiting = waiting.iter().map(|id| u64::from_le_bytes(*id)).collect();
        Ok(found)
    }
}
