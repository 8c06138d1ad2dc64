//! Rows of activations as bytes, each with a scale and a zero of its own, taken from the row itself.
//!
//! `x ≈ scale · (byte − zero)` with bytes of 7 bits. What a row becomes depends on that row alone, so neither do the scores
//! of its neighbours.

use super::kernels::{self, Isa, Quantise};
use super::simd::GROUP;

/// Some rows of the same length; buffers are used again.
#[derive(Debug)]
pub(in crate::models::ops) struct Rows8 {
    k: usize,
    stride: usize,
    bytes: Vec<u8>,
    scales: Vec<f32>,
    zeros: Vec<i32>,
}

impl Rows8 {
    /// Room for `rows` rows of `k` numbers.
    pub(super) fn new(rows: usize, k: usize) -> Self {
        let stride = k.next_multiple_of(GROUP);
        Self { k, stride, bytes: vec![0; rows * stride], scales: vec![0.0; rows], zeros: vec![0; rows] }
    }

    /// Quantises `rows` rows that lie `stride` numbers apart in `x`.
    pub(super) fn fill(&mut self, isa: Isa, x: &[f32], stride: usize, rows: usize) {
        if rows == 0 {
            return;
        }
        assert!(rows <= self.scales.len() && (rows - 1) * stride + self.k <= x.len());
        let (to, scales, zeros) = (self.bytes.as_mut_ptr(), self.scales.as_mut_ptr(), self.zeros.as_mut_ptr());
        let own = Quantise { x: x.as_ptr(), x_stride: stride, k: self.k, rows, to, stride: self.stride, scales, zeros };
        // SAFETY: the far corners of both are inside (asserted).
        unsafe { kernels::quantise(isa, own) }
    }

    /// Rows there is room for.
    pub(super) fn capacity(&self) -> usize {
        self.scales.len()
    }

    /// Numbers of a row.
    pub(super) fn inputs(&self) -> usize {
        self.k
    }

    #[inline(always)]
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// Where the bytes of a row begin; zeros follow up to the stride.
    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> *const u8 {
        debug_assert!(row < self.scales.len());
        self.bytes.as_ptr().wrapping_add(row * self.stride)
    }

    #[inline(always)]
    pub(super) fn scale(&self, row: usize) -> f32 {
        self.scales[row]
    }

    #[inline(always)]
    pub(super) fn zero(&self, row: usize) -> i32 {
        self.zeros[row]
    }
}
