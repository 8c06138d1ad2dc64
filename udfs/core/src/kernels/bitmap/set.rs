//! A set of 64-bit ids: 32-bit roaring bitmaps under their high halves, ascending, none of them empty.

use std::cmp::Ordering;

use roaring::RoaringBitmap;

/// A set of ids. Operations between two sets cost their compressed sizes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bitmap {
    buckets: Vec<(u32, RoaringBitmap)>,
}

pub(super) const fn split(id: u64) -> (u32, u32) {
    ((id >> 32) as u32, id as u32)
}

const fn join(high: u32, low: u32) -> u64 {
    ((high as u64) << 32) | low as u64
}

/// What an operation keeps of the ids that only one side has.
#[derive(Clone, Copy)]
struct Keep {
    left: bool,
    right: bool,
}

const INTERSECTION: Keep = Keep { left: false, right: false };
const UNION: Keep = Keep { left: true, right: true };
const DIFFERENCE: Keep = Keep { left: true, right: false };

impl Bitmap {
    /// The set of ids that ascend strictly; anything behind one that does not is left out.
    #[must_use]
    pub fn from_ascending(ids: &[u64]) -> Self {
        let mut buckets = Vec::new();
        let mut rest = ids;
        while let Some(first) = rest.first() {
            let high = split(*first).0;
            let (these, others) = rest.split_at(rest.partition_point(|id| split(*id).0 == high));
            let mut bucket = RoaringBitmap::new();
            let _ = bucket.append(these.iter().map(|id| split(*id).1));
            buckets.push((high, bucket));
            rest = others;
        }
        Self { buckets }
    }

    /// The set of ids in any order.
    #[must_use]
    pub fn from_ids(mut ids: Vec<u64>) -> Self {
        if !ids.is_sorted() {
            ids.sort_unstable();
        }
        ids.dedup();
        Self::from_ascending(&ids)
    }

    /// Buckets as they were read: ascending, none empty.
    pub(super) fn from_buckets(buckets: Vec<(u32, RoaringBitmap)>) -> Self {
        Self { buckets }
    }

    /// The buckets in order.
    pub(super) fn buckets(&self) -> &[(u32, RoaringBitmap)] {
        &self.buckets
    }

    /// How many ids.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.buckets.iter().map(|(_, bucket)| bucket.len()).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// The smallest id.
    #[must_use]
    pub fn min(&self) -> Option<u64> {
        let (high, bucket) = self.buckets.first()?;
        Some(join(*high, bucket.min()?))
    }

    /// The greatest id.
    #[must_use]
    pub fn max(&self) -> Option<u64> {
        let (high, bucket) = self.buckets.last()?;
        Some(join(*high, bucket.max()?))
    }

    /// Whether `id` is a member; O(log n).
    #[must_use]
    pub fn contains(&self, id: u64) -> bool {
        let (high, low) = split(id);
        self.bucket(high).is_some_and(|bucket| bucket.contains(low))
    }

    fn bucket(&self, high: u32) -> Option<&RoaringBitmap> {
        let at = self.buckets.binary_search_by_key(&high, |(key, _)| *key).ok()?;
        Some(&self.buckets[at].1)
    }

    /// The ids, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.buckets.iter().flat_map(|(high, bucket)| bucket.iter().map(move |low| join(*high, low)))
    }

    /// How many ids are below `id`.
    #[must_use]
    pub fn rank(&self, id: u64) -> u64 {
        let (high, low) = split(id);
        let before = self.buckets.iter().take_while(|(key, _)| *key < high).map(|(_, bucket)| bucket.len()).sum::<u64>();
        let within = low.checked_sub(1).and_then(|last| self.bucket(high).map(|bucket| bucket.rank(last)));
        before + within.unwrap_or(0)
    }

    /// The ids from `first` to `last`, both included.
    #[must_use]
    pub fn range(&self, first: u64, last: u64) -> Self {
        if first > last {
            return Self::default();
        }
        let ((from, low), (to, high)) = (split(first), split(last));
        let within = self.buckets.iter().filter(|(key, _)| (from..=to).contains(key));
        let clipped = within.map(|(key, bucket)| {
            let (low, high) = (if *key == from { low } else { 0 }, if *key == to { high } else { u32::MAX });
            (*key, clip(bucket, low, high))
        });
        Self { buckets: clipped.filter(|(_, bucket)| !bucket.is_empty()).collect() }
    }

    /// At most `limit` ids, after the smallest `offset` ones.
    #[must_use]
    pub fn page(&self, offset: u64, limit: u64) -> Self {
        let (mut skip, mut wanted) = (offset, limit);
        let mut buckets = Vec::new();
        for (key, bucket) in &self.buckets {
            let members = bucket.len();
            if wanted == 0 {
                break;
            }
            if skip >= members {
                skip -= members;
                continue;
            }
            let taken = wanted.min(members - skip);
            let place = |rank: u64| u32::try_from(rank).ok().and_then(|rank| bucket.select(rank)).unwrap_or(u32::MAX);
            buckets.push((*key, clip(bucket, place(skip), place(skip + taken - 1))));
            (skip, wanted) = (0, wanted - taken);
        }
        Self { buckets }
    }

    /// At most `limit` ids, the smallest first, from `first` on.
    #[must_use]
    pub fn from(&self, first: u64, limit: u64) -> Self {
        self.page(self.rank(first), limit)
    }

    fn merged(&self, other: &Self, keep: Keep, both: impl Fn(&RoaringBitmap, &RoaringBitmap) -> RoaringBitmap) -> Self {
        let mut buckets = Vec::with_capacity(if keep.right { self.buckets.len().max(other.buckets.len()) } else { 0 });
        pairs(&self.buckets, &other.buckets, |key, left, right| match (left, right) {
            (Some(left), Some(right)) => {
                let bucket = both(left, right);
                if !bucket.is_empty() {
                    buckets.push((key, bucket));
                }
            }
            (Some(left), None) if keep.left => buckets.push((key, left.clone())),
            (None, Some(right)) if keep.right => buckets.push((key, right.clone())),
            _ => {}
        });
        Self { buckets }
    }

    fn counted(&self, other: &Self, keep: Keep, both: impl Fn(&RoaringBitmap, &RoaringBitmap) -> u64) -> u64 {
        let mut count = 0;
        pairs(&self.buckets, &other.buckets, |_, left, right| {
            count += match (left, right) {
                (Some(left), Some(right)) => both(left, right),
                (Some(left), None) if keep.left => left.len(),
                (None, Some(right)) if keep.right => right.len(),
                _ => 0,
            };
        });
        count
    }

    /// The ids of both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        self.merged(other, INTERSECTION, |left, right| left & right)
    }

    /// The ids of either.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        self.merged(other, UNION, |left, right| left | right)
    }

    /// The ids of one of them alone.
    #[must_use]
    pub fn xor(&self, other: &Self) -> Self {
        self.merged(other, UNION, |left, right| left ^ right)
    }

    /// The ids that `other` does not have.
    #[must_use]
    pub fn and_not(&self, other: &Self) -> Self {
        self.merged(other, DIFFERENCE, |left, right| left - right)
    }

    /// How many ids both have; makes no set.
    #[must_use]
    pub fn and_len(&self, other: &Self) -> u64 {
        self.counted(other, INTERSECTION, RoaringBitmap::intersection_len)
    }

    /// How many ids either has.
    #[must_use]
    pub fn or_len(&self, other: &Self) -> u64 {
        self.counted(other, UNION, RoaringBitmap::union_len)
    }

    /// How many ids one of them alone has.
    #[must_use]
    pub fn xor_len(&self, other: &Self) -> u64 {
        self.counted(other, UNION, RoaringBitmap::symmetric_difference_len)
    }

    /// How many ids `other` does not have.
    #[must_use]
    pub fn and_not_len(&self, other: &Self) -> u64 {
        self.counted(other, DIFFERENCE, RoaringBitmap::difference_len)
    }

    /// Whether some id is in both.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        self.buckets.iter().any(|(key, bucket)| other.bucket(*key).is_some_and(|theirs| !bucket.is_disjoint(theirs)))
    }

    /// Whether every id is in `other`.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.buckets.iter().all(|(key, bucket)| other.bucket(*key).is_some_and(|theirs| bucket.is_subset(theirs)))
    }

    /// Adds the ids of `other`.
    pub fn add(&mut self, other: Self) {
        for (key, bucket) in other.buckets {
            match self.buckets.binary_search_by_key(&key, |(key, _)| *key) {
                Ok(at) => join_into(&mut self.buckets[at].1, bucket),
                Err(at) => self.buckets.insert(at, (key, bucket)),
            }
        }
    }

    /// Gives every container the smallest form for its members, and no more memory than that.
    pub fn compact(&mut self) {
        for (_, bucket) in &mut self.buckets {
            bucket.optimize();
        }
    }

    /// Bytes on the heap, from above: arrays that grow have spare room. O(containers).
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        /// A container's place in its bucket, and what the allocator keeps for its members.
        const CONTAINER: u64 = 64;
        let bucket = |bucket: &RoaringBitmap| {
            let found = bucket.statistics();
            // It counts four bytes where a member of an array takes two.
            let arrays = found.n_bytes_array_containers / 2 + 2 * found.n_bytes_run_containers;
            let containers = u64::from(found.n_containers).next_power_of_two().max(4) * CONTAINER;
            arrays + u64::from(found.n_bitset_containers) * 8192 + containers
        };
        let members: u64 = self.buckets.iter().map(|(_, found)| bucket(found)).sum();
        usize::try_from(members).unwrap_or(usize::MAX) + self.buckets.capacity() * size_of::<(u32, RoaringBitmap)>()
    }
}

/// Adds members in place where that moves less memory than a new bitmap: each container that is new moves those behind it.
fn join_into(into: &mut RoaringBitmap, other: RoaringBitmap) {
    const CONTAINER: u64 = 64;
    let containers = |of: &RoaringBitmap| u64::from(of.statistics().n_containers);
    let (ours, theirs) = (containers(into), containers(&other));
    let moved = ours * theirs * (CONTAINER / 2);
    if moved < ours * CONTAINER + into.serialized_size() as u64 {
        *into |= other;
    } else {
        *into = &*into | &other;
    }
}

fn clip(bucket: &RoaringBitmap, low: u32, high: u32) -> RoaringBitmap {
    if low == 0 && high == u32::MAX {
        return bucket.clone();
    }
    let mut window = RoaringBitmap::new();
    window.insert_range(low..=high);
    window & bucket
}

/// Visits the keys of both lists in order.
fn pairs<'a>(
    left: &'a [(u32, RoaringBitmap)],
    right: &'a [(u32, RoaringBitmap)],
    mut visit: impl FnMut(u32, Option<&'a RoaringBitmap>, Option<&'a RoaringBitmap>),
) {
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (Some((a, _)), Some((b, _))) => a.cmp(b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return,
        };
        let ours = if order.is_le() { left.next() } else { None };
        let theirs = if order.is_ge() { right.next() } else { None };
        if let Some((key, _)) = ours.or(theirs) {
            visit(*key, ours.map(|(_, bucket)| bucket), theirs.map(|(_, bucket)| bucket));
        }
    }
}
