//! The `f32` kernels of [`super::matmul`] in AVX-512 and AVX2.
//!
//! One kernel each: a tile of the result stays in registers while the inner dimension runs, one fused multiply-add per
//! element and step, in order. `a` is read element by element and broadcast, `b` in rows of the tile's width.

use std::arch::x86_64::{
    __m256, __m256i, __m512, __mmask16, _mm_castps_pd, _mm_movehl_ps, _mm_store_ss, _mm_storel_pd, _mm_storeu_ps, _mm256_add_ps,
    _mm256_castps256_ps128, _mm256_cmpgt_epi32, _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_maskload_ps,
    _mm256_set1_epi32, _mm256_set1_ps, _mm256_setr_epi32, _mm256_setzero_ps, _mm256_storeu_ps, _mm512_add_ps, _mm512_fmadd_ps,
    _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
};

use super::matmul::{Panels, Product, Start, cuts};

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
    /// Where the numbers lie that the product is added to, if any.
    held: *const f32,
    /// From one row of them to the next: 0 when all rows begin with the same.
    held_row: usize,
}

impl Tile {
    /// The same tile, `rows` rows further down.
    unsafe fn down(self, rows: usize) -> Self {
        // SAFETY: the caller stays within the rows it vouches for.
        unsafe {
            let held = self.held.wrapping_add(rows * self.held_row);
            Self { a: self.a.add(rows * self.a_row), c: self.c.add(rows * self.c_row), held, ..self }
        }
    }
}

/// Rows of a whole result that are finished before the next panel of `b` is looked at: they and what they need of `a`
/// stay in cache.
const ROW_BLOCK: usize = 96;

/// Cuts `rows` into tiles of at most `$max` rows and of nearly the same height: low tiles do not keep the units busy.
macro_rules! row_tiles {
    ($kernel:ident, $max:literal, $vectors:literal, $rows:expr, $tile:expr, [$($height:literal),*]) => {{
        let tiles = $rows.div_ceil($max);
        let mut row = 0;
        for tile in 0..tiles {
            let height = ($rows - row).div_ceil(tiles - tile);
            match height {
                $($height => $kernel::<$height, $vectors>($tile.down(row)),)*
                _ => {}
            }
            row += height;
        }
    }};
}

/// Where the product's first summand for the column `first` lies.
fn held(start: Start<'_, f32>, c: *const f32, c_row: usize, first: usize) -> (*const f32, usize) {
    match start {
        Start::Zero => (std::ptr::null(), 0),
        Start::Held => (c, c_row),
        Start::Bias(bias) => (bias[first..].as_ptr(), 0),
    }
}

/// Wide tiles are low and narrow ones high, so that the sums always fit the 32 registers.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2,fma")]
unsafe fn tiles_avx512(rows: usize, tile: Tile) {
    // SAFETY: the caller vouches for `rows` rows.
    unsafe {
        match tile.columns {
            0..=16 => row_tiles!(kernel_avx512, 12, 1, rows, tile, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
            17..=32 => row_tiles!(kernel_avx512, 12, 2, rows, tile, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
            _ => row_tiles!(kernel_avx512, 8, 3, rows, tile, [1, 2, 3, 4, 5, 6, 7, 8]),
        }
    }
}

/// Masked moves are slow on some processors: tiles of full width do without.
#[target_feature(enable = "avx2,fma")]
unsafe fn tiles_avx2(rows: usize, tile: Tile) {
    // SAFETY: the caller vouches for `rows` rows.
    unsafe {
        if tile.columns == 16 {
            row_tiles!(full_avx2, 6, 2, rows, tile, [1, 2, 3, 4, 5, 6]);
        } else {
            row_tiles!(kernel_avx2, 6, 2, rows, tile, [1, 2, 3, 4, 5, 6]);
        }
    }
}

/// # Safety
/// As [`super::real::Real::multiply`], on a machine with AVX-512.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2,fma")]
pub(super) unsafe fn multiply_avx512(
    a: *const f32,
    lda: usize,
    rows: usize,
    b: &Panels<f32>,
    c: *mut f32,
    ldc: usize,
    start: Start<'_, f32>,
) {
    for block in (0..rows).step_by(ROW_BLOCK) {
        let count = ROW_BLOCK.min(rows - block);
        for (first, width, panel) in b.panels() {
            // SAFETY: rows and columns stay inside what the caller vouches for; masked lanes are not touched.
            unsafe {
                let (a, c) = (a.add(block * lda), c.add(block * ldc + first));
                let (held, held_row) = held(start, c, ldc, first);
                let columns = width.min(b.n - first);
                let (b, b_step) = (panel.as_ptr(), width);
                tiles_avx512(
                    count,
                    Tile { k: panel.len() / width, a, a_row: lda, a_step: 1, b, b_step, c, c_row: ldc, columns, held, held_row },
                );
            }
        }
    }
}

/// # Safety
/// As [`super::real::Real::product`], on a machine with AVX-512.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2,fma")]
pub(super) unsafe fn product_avx512(product: Product<f32>) {
    let Product { rows, k, columns, a, a_row, a_step, b, b_step, c, c_row, accumulate } = product;
    for (first, width) in cuts(columns, 16, 3) {
        // SAFETY: rows and columns stay inside what the caller vouches for; masked lanes are not touched.
        unsafe {
            let (b, c) = (b.add(first), c.add(first));
            let (held, held_row) = held(if accumulate { Start::Held } else { Start::Zero }, c, c_row, first);
            tiles_avx512(rows, Tile { k, a, a_row, a_step, b, b_step, c, c_row, columns: width.min(columns - first), held, held_row });
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2,fma")]
unsafe fn kernel_avx512<const ROWS: usize, const VECTORS: usize>(tile: Tile) {
    let mut masks: [__mmask16; VECTORS] = [u16::MAX; VECTORS];
    let last = tile.columns - 16 * (VECTORS - 1);
    if last < 16 {
        masks[VECTORS - 1] = (1 << last) - 1;
    }
    let mut sums: [[__m512; VECTORS]; ROWS] = [[_mm512_setzero_ps(); VECTORS]; ROWS];
    let (mut a, mut b) = (tile.a, tile.b);
    // SAFETY: `a` has ROWS rows of k steps, `b` k rows and `c` ROWS rows of the masked columns.
    unsafe {
        for _ in 0..tile.k {
            let mut w = [_mm512_setzero_ps(); VECTORS];
            for (at, w) in w.iter_mut().enumerate() {
                *w = _mm512_maskz_loadu_ps(masks[at], b.wrapping_add(16 * at));
            }
            for row in 0..ROWS {
                let x = _mm512_set1_ps(*a.add(row * tile.a_row));
                for at in 0..VECTORS {
                    sums[row][at] = _mm512_fmadd_ps(x, w[at], sums[row][at]);
                }
            }
            a = a.wrapping_add(tile.a_step);
            b = b.wrapping_add(tile.b_step);
        }
        for (row, sums) in sums.iter().enumerate() {
            for (at, sum) in sums.iter().enumerate() {
                let held = tile.held.wrapping_add(row * tile.held_row + 16 * at);
                let sum = if tile.held.is_null() { *sum } else { _mm512_add_ps(_mm512_maskz_loadu_ps(masks[at], held), *sum) };
                _mm512_mask_storeu_ps(tile.c.add(row * tile.c_row).wrapping_add(16 * at), masks[at], sum);
            }
        }
    }
}

/// # Safety
/// As [`super::real::Real::multiply`], on a machine with AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn multiply_avx2(
    a: *const f32,
    lda: usize,
    rows: usize,
    b: &Panels<f32>,
    c: *mut f32,
    ldc: usize,
    start: Start<'_, f32>,
) {
    for block in (0..rows).step_by(ROW_BLOCK) {
        let count = ROW_BLOCK.min(rows - block);
        for (first, width, panel) in b.panels() {
            // SAFETY: rows and columns stay inside what the caller vouches for; masked lanes are not touched.
            unsafe {
                let (a, b_at, c) = (a.add(block * lda), panel.as_ptr(), c.add(block * ldc + first));
                let columns = width.min(b.n - first);
                let (held, held_row) = held(start, c, ldc, first);
                tiles_avx2(count, Tile { k: b.k, a, a_row: lda, a_step: 1, b: b_at, b_step: 16, c, c_row: ldc, columns, held, held_row });
            }
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
            let (held, held_row) = held(if accumulate { Start::Held } else { Start::Zero }, c, c_row, first);
            tiles_avx2(rows, Tile { k, a, a_row, a_step, b, b_step, c, c_row, columns: 16.min(columns - first), held, held_row });
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

/// The first `count` numbers of `values`, or all of them: masked stores take ten times as long on some processors.
///
/// # Safety
/// `to` must be writable for them.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn store_avx2(mut to: *mut f32, values: __m256, count: usize) {
    // SAFETY: the caller vouches for `count` numbers.
    unsafe {
        if count >= 8 {
            _mm256_storeu_ps(to, values);
            return;
        }
        let mut rest = _mm256_castps256_ps128(values);
        if count & 4 != 0 {
            _mm_storeu_ps(to, rest);
            rest = _mm256_extractf128_ps::<1>(values);
            to = to.add(4);
        }
        if count & 2 != 0 {
            _mm_storel_pd(to.cast(), _mm_castps_pd(rest));
            rest = _mm_movehl_ps(rest, rest);
            to = to.add(2);
        }
        if count & 1 != 0 {
            _mm_store_ss(to, rest);
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn kernel_avx2<const ROWS: usize, const VECTORS: usize>(tile: Tile) {
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
            let held = tile.held.wrapping_add(row * tile.held_row);
            for (half, (mask, sum)) in masks.into_iter().zip(sums).enumerate() {
                let held = held.wrapping_add(8 * half);
                let sum = if tile.held.is_null() { *sum } else { _mm256_add_ps(_mm256_maskload_ps(held, mask), *sum) };
                store_avx2(at.wrapping_add(8 * half), sum, tile.columns.saturating_sub(8 * half));
            }
        }
    }
}

/// [`kernel_avx2`] for tiles of 16 columns.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn full_avx2<const ROWS: usize, const VECTORS: usize>(tile: Tile) {
    let mut sums: [[__m256; 2]; ROWS] = [[_mm256_setzero_ps(); 2]; ROWS];
    let (mut a, mut b) = (tile.a, tile.b);
    // SAFETY: `a` has ROWS rows of k steps, `b` k rows and `c` ROWS rows of 16 columns.
    unsafe {
        for _ in 0..tile.k {
            let w = [_mm256_loadu_ps(b), _mm256_loadu_ps(b.add(8))];
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
            let held = tile.held.wrapping_add(row * tile.held_row);
            for (at, held, sum) in [(at, held, sums[0]), (at.add(8), held.wrapping_add(8), sums[1])] {
                let sum = if tile.held.is_null() { sum } else { _mm256_add_ps(_mm256_loadu_ps(held), sum) };
                _mm256_storeu_ps(at, sum);
            }
        }
    }
}
