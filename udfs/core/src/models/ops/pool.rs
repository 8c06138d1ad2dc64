//! Buffers that training uses again at every step: fresh memory costs a page fault per 4 KiB and a pass of zeros.
//!
//! Each thread has its own few buffers. What [`take`] hands out holds old numbers: for buffers that are written before
//! they are read.

use super::real::Real;

/// Buffers a thread keeps.
const KEPT: usize = 24;
/// Smaller ones are not worth keeping.
const LEN_MIN: usize = 1 << 14;

/// `len` numbers of no meaning.
pub(super) fn take<T: Real>(len: usize) -> Vec<T> {
    let kept = T::with_pool(|pool| {
        let fits = |buffer: &Vec<T>| buffer.len() >= len && buffer.len() <= 2 * len + LEN_MIN;
        pool.iter().position(fits).map(|at| pool.swap_remove(at))
    });
    match kept {
        Some(mut buffer) => {
            buffer.truncate(len);
            buffer
        }
        None => vec![T::ZERO; len],
    }
}

/// Gives a buffer back for later steps of this thread.
pub(super) fn give<T: Real>(buffer: Vec<T>) {
    if buffer.len() >= LEN_MIN {
        T::with_pool(|pool| {
            if pool.len() >= KEPT {
                pool.remove(0);
            }
            pool.push(buffer);
        });
    }
}
