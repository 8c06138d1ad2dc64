//! Work cut into chunks. Chunks depend on shapes only, never on the number of threads.

use rayon::prelude::*;

/// Runs `body(0) … body(count - 1)`, side by side when the caller runs inside a rayon pool of its own, else one after
/// the other on the calling thread: a query thread never waits for a pool that others use.
pub fn for_each(count: usize, body: impl Fn(usize) + Sync + Send) {
    if count > 1 && rayon::current_thread_index().is_some() {
        (0..count).into_par_iter().for_each(body);
    } else {
        (0..count).for_each(body);
    }
}

/// Like [`for_each`], collecting results in order.
pub fn map<R: Send>(count: usize, body: impl Fn(usize) -> R + Sync + Send) -> Vec<R> {
    if count > 1 && rayon::current_thread_index().is_some() {
        (0..count).into_par_iter().map(body).collect()
    } else {
        (0..count).map(body).collect()
    }
}

/// A buffer that several chunks write to at once, each its own disjoint part.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shared<T>(*mut T, usize);

// SAFETY: every user hands out disjoint ranges to the threads (the contract of `slice`).
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(super) fn new(values: &mut [T]) -> Self {
        Self(values.as_mut_ptr(), values.len())
    }

    /// The part `start..start + len`.
    ///
    /// # Safety
    /// No two live slices of one buffer may overlap.
    #[allow(clippy::mut_from_ref, reason = "disjointness is the caller's contract")]
    pub(super) unsafe fn slice(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start + len <= self.1);
        // SAFETY: in bounds (asserted) and disjoint (contract).
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), len) }
    }
}
