//! The `f32` kernels of [`super::matmul`] in AVX-512 and AVX2.
//!
//! One kernel each: a tile of the result stays in registers while the inner dimension runs, one fused multiply-add per
//! element and step, in order. `a` is read element by element and broadcast, `b` in rows of the tile's width.

use std::arch::x86_64::{
    __m256, __m256i, __m512, __mmask16, _mm256_add_ps, _mm256_cmpgt_epi32, _mm256_fmadd_ps, _mm256_maskload_ps, _mm256_maskstore_ps,
    _mm256_set1_epi32, _mm256_set1_ps, _mm256_setr_epi32, _mm256_setzero_ps, _mm512_add_ps, _mm512_fmadd_ps, _mm512_mask_storeu_ps,
    _mm512_maskz_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
};

use super::matmul::{Panels, Product};

/// Where a tile's operands lie.
#[derive(Clone, Copy)]
struct Tile {
    /// Length of the inner dimension.
    k: usize,
    a: *const f32,
    /// From one row of `a` to the next.
    a_row: usize,
    /// From one step of the inner dimension to the next in `a`.
    a_step: usize,
    b: *const f32,
    /// From one step of the inner dimension to the next in `b`.
    b_step: usize,
    c: *mut f32,
    /// From one row of `c` to the next.
    c_row: usize,
    /// Columns in use.
    columns: usize,
    accumulate: bool,
}

impl Tile {
    /// The same tile, `rows` rows further down.
    unsafe fn down(self, rows: usize) -> Self {
        // SAFETY: the caller stays within the rows it vouches for.
        unsafe { Self { a: self.a.add(rows * self.a_row), c: self.c.add(rows * self.c_row), ..self } }
    }
}

/// Cuts `rows` into tiles of `$max` and one of the rest.
macro_rules! row_tiles {
    ($kernel:ident, $max:literal, $rows:expr, $tile:expr, [$($rest:literal),*]) => {{
        let mut row = 0;
        while $rows - row >= $max {
            $kernel::<$max>($tile.down(row));
            row += $max;
        }
        match $rows - row {
            $($rest => $kernel::<$rest>($tile.down(row)),)*
            _ => {}
        }
    }};
}

#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2,fma")]
unsafe fn tiles_avx512(rows: usize, tile: Tile) {
    // SAFETY: the caller vouches for `rows` rows.
    unsafe { row_tiles!(kernel_avx512, 12, rows, tile, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn tiles_avx2(rows: usize, tile: Tile) {
    // SAFETY: the caller vouches for `rows` rows.
    unsafe { row_tiles!(kernel_avx2, 6, rows, tile, [1, 2, 3, 4, 5]) }
}

/// # Safety
/// As [`super::real::Real::multiply`], on a machine with AVX-512.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2,fma")]
pub(super) unsafe fn multiply_avx512(a: *const f32, lda: usize, rows: usize, b: &Panels<f32>, c: *mut f32, ldc: usize, accumulate: bool) {
    for panel in 0..b.count() {
        let first = panel * 32;
        // SAFETY: rows and columns stay inside what the caller vouches for; masked lanes are not touched.
        unsafe {
            let (b_at, c) = (b.panel(panel).as_ptr(), c.add(first));
            let columns = 32.min(b.n - first);
            tiles_avx512(rows, Tile { k: b.k, a, a_row: lda, a_step: 1, b: b_at, b_step: 32, c, c_row: ldc, columns, accumulate });
        }
    }
}

/// # Safety
/// As [`super::real::Real::product`], on a machine with AVX-512.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2,fma")]
pub(super) unsafe fn product_avx512(product: Product<f32>) {
    let Product { rows, k, columns, a, a_row, a_step, b, b_step, c, c_row, accumulate } = product;
    for first in (0..columns).step_by(32) {
        // SAFETY: rows and columns stay inside what the caller vouches for; masked lanes are not touched.
        unsafe {
            let (b, c) = (b.add(first), c.add(first));
            tiles_avx512(rows, Tile { k, a, a_row, a_step, b, b_step, c, c_row, columns: 32.min(columns - first), accumulate });
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2,fma")]
unsafe fn kernel_avx512<const ROWS: usize>(tile: Tile) {
    let mask = if tile.columns >= 32 { u32::MAX } else { (1u32 << tile.columns) - 1 };
    let (low, high) = (mask as __mmask16, (mask >> 16) as __mmask16);
    let mut sums: [[__m512; 2]; ROWS] = [[_mm512_setzero_ps(); 2]; ROWS];
    let (mut a, mut b) = (tile.a, tile.b);
    // SAFETY: `a` has ROWS rows of k steps, `b` k rows and `c` ROWS rows of the masked columns.
    unsafe {
        for _ in 0..tile.k {
            let w = [_mm512_maskz_loadu_ps(low, b), _mm512_maskz_loadu_ps(high, b.wrapping_add(16))];
            for row in 0..ROWS {
                let x = _mm512_set1_ps(*a.add(row * tile.a_row));
                sums[row][0] = _mm512_fmadd_ps(x, w[0], sums[row][0]);
                sums[row][1] = _mm512_fmadd_ps(x, w[1], sums[row][1]);
            }
            a = a.wrapping_add(tile.a_step);
            b = b.wrapping_add(tile.b_step);
        }
        for (row, sums) in sums.iter().enumerate() {
            let at = tile.c.add(row * tile.c_row);
            for (mask, at, sum) in [(low, at, sums[0]), (high, at.wrapping_add(16), sums[1])] {
                let sum = if tile.accumulate { _mm512_add_ps(_mm512_maskz_loadu_ps(mask, at), sum) } else { sum };
                _mm512_mask_storeu_ps(at, mask, sum);
            }
        }
    }
}

/// # Safety
/// As [`super::real::Real::multiply`], on a machine with AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn multiply_avx2(a: *const f32, lda: usize, rows: usize, b: &Panels<f32>, c: *mut f32, ldc: usize, accumulate: bool) {
    for panel in 0..b.count() {
        let first = panel * 16;
        // SAFETY: rows and columns stay inside what the caller vouches for; masked lanes are not touched.
        unsafe {
            let (b_at, c) = (b.panel(panel).as_ptr(), c.add(first));
            let columns = 16.min(b.n - first);
            tiles_avx2(rows, Tile { k: b.k, a, a_row: lda, a_step: 1, b: b_at, b_step: 16, c, c_row: ldc, columns, accumulate });
        }
    }
}

/// # Safety
/// As [`super::real::Real::product`], on a machine with AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn product_avx2(product: Product<f32>) {
    let Product { rows, k, columns, a, a_row, a_step, b, b_step, c, c_row, accumulate } = product;
    for first in (0..columns).step_by(16) {
        // SAFETY: rows and columns stay inside what the caller vouches for; masked lanes are not touched.
        unsafe {
            let (b, c) = (b.add(first), c.add(first));
            tiles_avx2(rows, Tile { k, a, a_row, a_step, b, b_step, c, c_row, columns: 16.min(columns - first), accumulate });
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn mask_avx2(columns: usize) -> [__m256i; 2] {
    let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    let in_use = |count: usize| _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), lanes);
    [in_use(columns.min(8)), in_use(columns.saturating_sub(8))]
}

#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn kernel_avx2<const ROWS: usize>(tile: Tile) {
    let masks = mask_avx2(tile.columns);
    let mut sums: [[__m256; 2]; ROWS] = [[_mm256_setzero_ps(); 2]; ROWS];
    let (mut a, mut b) = (tile.a, tile.b);
    // SAFETY: `a` has ROWS rows of k steps, `b` k rows and `c` ROWS rows of the masked columns.
    unsafe {
        for _ in 0..tile.k {
            let w = [_mm256_maskload_ps(b, masks[0]), _mm256_maskload_ps(b.wrapping_add(8), masks[1])];
            for row in 0..ROWS {
                let x = _mm256_set1_ps(*a.add(row * tile.a_row));
                sums[row][0] = _mm256_fmadd_ps(x, w[0], sums[row][0]);
                sums[row][1] = _mm256_fmadd_ps(x, w[1], sums[row][1]);
            }
            a = a.wrapping_add(tile.a_step);
            b = b.wrapping_add(tile.b_step);
        }
        for (row, sums) in sums.iter().enumerate() {
            let at = tile.c.add(row * tile.c_row);
            for (mask, at, sum) in [(masks[0], at, sums[0]), (masks[1], at.wrapping_add(8), sums[1])] {
                let sum = if tile.accumulate { _mm256_add_ps(_mm256_maskload_ps(at, mask), sum) } else { sum };
                _mm256_maskstore_ps(at, mask, sum);
            }
        }
    }
}
