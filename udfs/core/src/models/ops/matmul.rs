//! Matrix products on the CPU.
//!
//! Forward products and input gradients run on our own kernel: the weight matrix is packed once into [`Panels`], the
//! other operand is read where it lies, and every element of the result is one chain of multiply-adds in order of `k`.
//! So a row's result never depends on how many rows surround it. Weight gradients (a long inner dimension) run on the
//! same kernel, block by block, with both operands packed as they are met.

use std::ops::Range;
use std::sync::LazyLock;

use super::parallel::{self, Shared};
use super::pool;
use super::real::Real;
use super::vectorise::vectorise;
#[cfg(target_arch = "x86_64")]
use super::x86;

/// Columns of a panel where there are no special instructions.
pub(super) const PORTABLE_WIDTH: usize = 8;
/// Rows of one unit of work of a dense layer.
pub(super) const ROW_CHUNK: usize = 96;
/// Result rows of one unit of work of a weight gradient.
const GRADIENT_CHUNK: usize = 96;
/// Operand rows that a weight gradient packs and takes in at a time: the packed block stays in the first-level cache.
const GRADIENT_ROWS: usize = 128;
/// Result rows that a weight gradient packs at a time: whole tiles of every kernel.
const STRIP: usize = 24;
/// Rows of a block of a transposing copy.
const TURN: usize = 16;

/// What a product's result begins with.
#[derive(Debug, Clone, Copy)]
pub enum Start<'a, T> {
    /// Nothing: the result takes the place of what is there.
    Zero,
    /// What is there: the product is added to it.
    Held,
    /// One row, added to every row of the product.
    Bias(&'a [T]),
}

/// The columns `0..n` in panels of one to `most` units, as (first, width): as few as possible, and none of one unit next
/// to others, which would keep a vector unit waiting. The last may reach beyond `n`.
pub(super) fn cuts(n: usize, unit: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let units = n.div_ceil(unit);
    let mut at = 0;
    std::iter::from_fn(move || {
        let take = match units - at {
            0 => return None,
            left @ 1..=2 => left.min(most),
            4 => most.min(2),
            _ => most,
        };
        at += take;
        Some(((at - take) * unit, take * unit))
    })
}

/// Bytes that the kernels like their packed operands to begin at a multiple of: a cache line.
const ALIGNMENT: usize = 64;

/// The part of a buffer of `len + ALIGNMENT` numbers that begins at a cache line.
fn aligned<T>(buffer: &mut [T], len: usize) -> &mut [T] {
    let skip = buffer.as_ptr().align_offset(ALIGNMENT).min(buffer.len() - len);
    &mut buffer[skip..skip + len]
}

/// A matrix `[k, n]` cut into panels of a few columns, each stored row after row and padded with zeros.
#[derive(Debug)]
pub struct Panels<T> {
    pub(super) k: usize,
    pub(super) n: usize,
    /// First column and width.
    cuts: Vec<(usize, usize)>,
    values: Vec<T>,
    /// Where the first panel begins in `values`.
    skip: usize,
}

impl<T: Real> Panels<T> {
    /// Packs the matrix whose element `(row, column)` is `source[row * row_stride + column * column_stride]`.
    pub(super) fn pack(source: &[T], k: usize, n: usize, row_stride: usize, column_stride: usize) -> Self {
        let (unit, most) = T::panel_units();
        let cuts: Vec<_> = cuts(n, unit, most).collect();
        let len = cuts.last().map_or(0, |(first, width)| (first + width) * k);
        let mut values = vec![T::ZERO; len + ALIGNMENT];
        let skip = values.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        for &(first, width) in &cuts {
            let columns = width.min(n - first);
            let target = &mut values[skip + first * k..skip + (first + width) * k];
            if column_stride == 1 {
                for (row, target) in target.chunks_exact_mut(width).enumerate() {
                    target[..columns].copy_from_slice(&source[row * row_stride + first..][..columns]);
                }
                continue;
            }
            // A few rows at a time, so that what is written stays in cache until its line is full.
            for (block, target) in target.chunks_mut(TURN * width).enumerate() {
                for column in 0..columns {
                    let from = (first + column) * column_stride + block * TURN * row_stride;
                    for (row, target) in target.chunks_exact_mut(width).enumerate() {
                        target[column] = source[from + row * row_stride];
                    }
                }
            }
        }
        Self { k, n, cuts, values, skip }
    }

    /// Packs `weight` `[out, in]` for products `x · weightᵀ`.
    pub(super) fn transposed(weight: &[T], outputs: usize, inputs: usize) -> Self {
        Self::pack(weight, inputs, outputs, 1, inputs)
    }

    /// Packs `weight` `[out, in]` for products `dy · weight`.
    pub(super) fn straight(weight: &[T], outputs: usize, inputs: usize) -> Self {
        Self::pack(weight, outputs, inputs, inputs, 1)
    }

    /// First column, width and numbers of each panel.
    pub(super) fn panels(&self) -> impl Iterator<Item = (usize, usize, &[T])> {
        let values = &self.values[self.skip..];
        self.cuts.iter().map(move |&(first, width)| (first, width, &values[first * self.k..(first + width) * self.k]))
    }
}

/// `c[rows, n] = start + a[rows, k] · b`, where rows of `a` are `lda` and rows of `c` are `ldc` numbers apart.
pub(super) fn multiply<T: Real>(a: &[T], lda: usize, rows: usize, b: &Panels<T>, c: &mut [T], ldc: usize, start: Start<'_, T>) {
    if rows == 0 || b.n == 0 {
        return;
    }
    assert!((rows - 1) * lda + b.k <= a.len() && (rows - 1) * ldc + b.n <= c.len());
    if let Start::Bias(bias) = start {
        assert!(bias.len() >= b.n);
    }
    // SAFETY: both ends are inside their slices (asserted).
    unsafe { T::multiply(a.as_ptr(), lda, rows, b, c.as_mut_ptr(), ldc, start) }
}

/// `y[rows, n] = x[rows, k] · b + bias`, in parallel; then `finish(first_row, chunk)` on each finished chunk.
pub(super) fn affine<T: Real>(
    x: &[T],
    rows: usize,
    b: &Panels<T>,
    bias: Option<&[T]>,
    finish: impl Fn(usize, &mut [T]) + Sync + Send,
) -> Vec<T> {
    let mut y = vec![T::ZERO; rows * b.n];
    let shared = Shared::new(&mut y);
    parallel::for_each(rows.div_ceil(ROW_CHUNK), |chunk| {
        let first = chunk * ROW_CHUNK;
        let count = ROW_CHUNK.min(rows - first);
        // SAFETY: chunks are disjoint.
        let out = unsafe { shared.slice(first * b.n, count * b.n) };
        multiply(&x[first * b.k..(first + count) * b.k], b.k, count, b, out, b.n, bias.map_or(Start::Zero, Start::Bias));
        finish(first, out);
    });
    y
}

/// Where the operands of `c[rows, columns] (+)= a[rows, k] · b[k, columns]` lie; nothing is packed.
#[derive(Debug, Clone, Copy)]
pub struct Product<T> {
    pub(super) rows: usize,
    pub(super) k: usize,
    pub(super) columns: usize,
    pub(super) a: *const T,
    /// From one row of `a` to the next.
    pub(super) a_row: usize,
    /// From one step of the inner dimension to the next in `a`.
    pub(super) a_step: usize,
    pub(super) b: *const T,
    /// From one step of the inner dimension to the next in `b`, whose rows are contiguous.
    pub(super) b_step: usize,
    pub(super) c: *mut T,
    /// From one row of `c` to the next.
    pub(super) c_row: usize,
    /// Whether to add to what `c` holds.
    pub(super) accumulate: bool,
}

/// A matrix as it lies in a slice; a transposed one has its strides swapped.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strided<'a, T> {
    pub(super) values: &'a [T],
    /// From one row to the next.
    pub(super) row: usize,
    /// From one column to the next.
    pub(super) column: usize,
}

/// `c[rows, columns] (+)= a[rows, k] · b[k, columns]` for `size` = rows, k, columns; rows of `b` are `b_row` and rows of
/// `c` are `c_row` numbers apart. For operands that are used once, where packing would cost more than it saves.
pub(super) fn product<T: Real>(size: [usize; 3], a: Strided<'_, T>, b: &[T], b_row: usize, c: &mut [T], c_row: usize, accumulate: bool) {
    let [rows, k, columns] = size;
    if rows == 0 || columns == 0 || (k == 0 && accumulate) {
        return;
    }
    assert!(k == 0 || (rows - 1) * a.row + (k - 1) * a.column < a.values.len());
    assert!(k == 0 || (k - 1) * b_row + columns <= b.len());
    assert!((rows - 1) * c_row + columns <= c.len());
    let (a_row, a_step, a, b, c) = (a.row, a.column, a.values.as_ptr(), b.as_ptr(), c.as_mut_ptr());
    // SAFETY: the far corners of all three are inside their slices (asserted).
    unsafe { T::product(Product { rows, k, columns, a, a_row, a_step, b, b_step: b_row, c, c_row, accumulate }) }
}

/// `dyᵀ · x`: `[outputs, inputs]` from `dy [rows, outputs]` and `x [rows, inputs]`, in parallel over outputs.
pub(super) fn weight_gradient<T: Real>(dy: &[T], x: &[T], rows: usize, outputs: usize, inputs: usize) -> Vec<T> {
    let mut gradient = vec![T::ZERO; outputs * inputs];
    let shared = Shared::new(&mut gradient);
    parallel::for_each(outputs.div_ceil(GRADIENT_CHUNK), |chunk| {
        let first = chunk * GRADIENT_CHUNK;
        let count = GRADIENT_CHUNK.min(outputs - first);
        // SAFETY: chunks are disjoint.
        let out = unsafe { shared.slice(first * inputs, count * inputs) };
        add_gradient_columns(dy, outputs, first..first + count, x, inputs, rows, out);
    });
    gradient
}

/// `gradient [outputs, inputs] += dyᵀ · x` on the calling thread, for rows that were just computed: they are in cache.
pub(super) fn add_gradient<T: Real>(dy: &[T], outputs: usize, x: &[T], inputs: usize, rows: usize, gradient: &mut [T]) {
    add_gradient_columns(dy, outputs, 0..outputs, x, inputs, rows, gradient);
}

/// [`add_gradient`] for some of the outputs; `out [columns, inputs]`.
fn add_gradient_columns<T: Real>(dy: &[T], outputs: usize, columns: Range<usize>, x: &[T], inputs: usize, rows: usize, out: &mut [T]) {
    if columns.is_empty() || inputs == 0 {
        return;
    }
    assert!(dy.len() >= rows * outputs && x.len() >= rows * inputs && out.len() >= columns.len() * inputs);
    let (unit, most) = T::panel_units();
    let [mut packed_x, mut strip] = [inputs, STRIP].map(|width| pool::take::<T>(GRADIENT_ROWS * width + ALIGNMENT));
    let (packed, strip_of) = (aligned(&mut packed_x, GRADIENT_ROWS * inputs), aligned(&mut strip, GRADIENT_ROWS * STRIP));
    for start in (0..rows).step_by(GRADIENT_ROWS) {
        let steps = GRADIENT_ROWS.min(rows - start);
        pack_columns(&x[start * inputs..(start + steps) * inputs], inputs, cuts(inputs, unit, most), packed);
        for first in columns.clone().step_by(STRIP) {
            let count = STRIP.min(columns.end - first);
            copy_columns(&dy[start * outputs..(start + steps) * outputs], outputs, first, count, strip_of);
            let out = &mut out[(first - columns.start) * inputs..][..count * inputs];
            for (at, width) in cuts(inputs, unit, most) {
                let width = width.min(inputs - at);
                let b = &packed[at * steps..(at + width) * steps];
                let (a, c, c_row) = (&strip_of[..steps * count], out[at..].as_mut_ptr(), inputs);
                assert!(out.len() >= (count - 1) * inputs + at + width);
                // SAFETY: both operands hold `steps` rows and `out` has `count` rows of `inputs` (asserted).
                unsafe {
                    T::product(Product {
                        rows: count,
                        k: steps,
                        columns: width,
                        a: a.as_ptr(),
                        a_row: 1,
                        a_step: count,
                        b: b.as_ptr(),
                        b_step: width,
                        c,
                        c_row,
                        accumulate: true,
                    });
                }
            }
        }
    }
    pool::give(packed_x);
    pool::give(strip);
}

/// Rows of `x` cut into blocks of columns, each stored row after row.
fn pack_columns<T: Real>(x: &[T], columns: usize, cuts: impl Iterator<Item = (usize, usize)>, packed: &mut [T]) {
    let rows = x.len() / columns;
    for (first, width) in cuts {
        let width = width.min(columns - first);
        copy_columns(x, columns, first, width, &mut packed[first * rows..(first + width) * rows]);
    }
}

/// Columns `first .. first + width` of a matrix, row after row.
fn copy_columns<T: Real>(from: &[T], columns: usize, first: usize, width: usize, to: &mut [T]) {
    /// A copy of known length is a few vector moves instead of a call.
    fn copy<T: Real, const WIDTH: usize>(from: &[T], columns: usize, first: usize, to: &mut [T]) {
        for (to, row) in to.as_chunks_mut::<WIDTH>().0.iter_mut().zip(from.chunks_exact(columns)) {
            if let Some(row) = row[first..].first_chunk::<WIDTH>() {
                *to = *row;
            }
        }
    }
    match width {
        16 => copy::<T, 16>(from, columns, first, to),
        24 => copy::<T, 24>(from, columns, first, to),
        32 => copy::<T, 32>(from, columns, first, to),
        48 => copy::<T, 48>(from, columns, first, to),
        _ => {
            to.chunks_exact_mut(width).zip(from.chunks_exact(columns)).for_each(|(to, row)| to.copy_from_slice(&row[first..first + width]))
        }
    }
}

vectorise! {
    /// `sums += Σ rows` of `values [rows, sums.len()]`, in row order.
    pub(super) fn add_columns<T>(values: &[T], sums: &mut [T]) {
        for row in values.chunks_exact(sums.len().max(1)) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += *value;
            }
        }
    }
}

/// Sums of the columns of `values [rows, columns]`, in row order.
pub(super) fn column_sums<T: Real>(values: &[T], columns: usize) -> Vec<T> {
    let mut sums = vec![T::ZERO; columns];
    add_columns(values, &mut sums);
    sums
}

/// What the machine can do, looked at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Isa {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

static ISA: LazyLock<Isa> = LazyLock::new(|| {
    #[cfg(target_arch = "x86_64")]
    {
        let fma = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        if fma && is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq") && is_x86_feature_detected!("avx512vl") {
            return Isa::Avx512;
        }
        if fma {
            return Isa::Avx2;
        }
    }
    Isa::Portable
});

/// The instruction set in use.
pub(super) fn isa() -> Isa {
    *ISA
}

/// Columns of the smallest `f32` panel, and how many of these the widest has.
pub(super) fn panel_units_f32() -> (usize, usize) {
    match isa() {
        Isa::Portable => (PORTABLE_WIDTH, 1),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => (16, 1),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => (16, 3),
    }
}

/// [`multiply`] for `f32` with the best kernel of this machine.
///
/// # Safety
/// As [`Real::multiply`].
pub(super) unsafe fn multiply_f32(a: *const f32, lda: usize, rows: usize, b: &Panels<f32>, c: *mut f32, ldc: usize, start: Start<'_, f32>) {
    // SAFETY: features were detected; pointers are the caller's contract.
    unsafe {
        match isa() {
            Isa::Portable => multiply_generic::<f32>(a, lda, rows, b, c, ldc, start),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => x86::multiply_avx2(a, lda, rows, b, c, ldc, start),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => x86::multiply_avx512(a, lda, rows, b, c, ldc, start),
        }
    }
}

/// [`Real::product`] for `f32` with the best kernel of this machine.
///
/// # Safety
/// As [`Real::product`].
pub(super) unsafe fn product_f32(product: Product<f32>) {
    // SAFETY: features were detected; pointers are the caller's contract.
    unsafe {
        match isa() {
            Isa::Portable => product_generic::<f32>(product),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => x86::product_avx2(product),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => x86::product_avx512(product),
        }
    }
}

/// [`multiply`] without special instructions.
///
/// # Safety
/// As [`Real::multiply`].
pub(super) unsafe fn multiply_generic<T: Real>(
    a: *const T,
    lda: usize,
    rows: usize,
    b: &Panels<T>,
    c: *mut T,
    ldc: usize,
    start: Start<'_, T>,
) {
    const WIDTH: usize = PORTABLE_WIDTH;
    for (first, width, values) in b.panels() {
        assert_eq!(width, WIDTH);
        let columns = WIDTH.min(b.n - first);
        for row in 0..rows {
            // SAFETY: the caller vouches for `rows` rows of `a` and `c`.
            let (a, c) = unsafe {
                (std::slice::from_raw_parts(a.add(row * lda), b.k), std::slice::from_raw_parts_mut(c.add(row * ldc + first), columns))
            };
            let mut sums = [T::ZERO; WIDTH];
            for (x, w) in a.iter().zip(values.chunks_exact(WIDTH)) {
                for (sum, w) in sums.iter_mut().zip(w) {
                    *sum += *x * *w;
                }
            }
            match start {
                Start::Zero => c.copy_from_slice(&sums[..columns]),
                Start::Held => c.iter_mut().zip(sums).for_each(|(c, sum)| *c += sum),
                Start::Bias(bias) => {
                    for ((c, sum), bias) in c.iter_mut().zip(sums).zip(&bias[first..]) {
                        *c = *bias + sum;
                    }
                }
            }
        }
    }
}

/// [`Real::product`] without special instructions.
///
/// # Safety
/// As [`Real::product`].
pub(super) unsafe fn product_generic<T: Real>(product: Product<T>) {
    let Product { rows, k, columns, a, a_row, a_step, b, b_step, c, c_row, accumulate } = product;
    for row in 0..rows {
        // SAFETY: the caller vouches for `rows` rows of `c`.
        let c = unsafe { std::slice::from_raw_parts_mut(c.add(row * c_row), columns) };
        if !accumulate {
            c.fill(T::ZERO);
        }
        for step in 0..k {
            // SAFETY: the caller vouches for `rows · k` numbers of `a` and `k` rows of `b`.
            let (x, b) = unsafe { (*a.add(row * a_row + step * a_step), std::slice::from_raw_parts(b.add(step * b_step), columns)) };
            for (c, b) in c.iter_mut().zip(b) {
                *c += x * *b;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::philox::Philox;
    use super::*;

    fn random<T: Real>(count: usize, stream: u32) -> Vec<T> {
        let random = Philox::new(3, stream);
        (0..count).map(|i| T::of(random.normal(i as u64))).collect()
    }

    fn check<T: Real>(rows: usize, k: usize, n: usize, tolerance: f64) {
        let (x, w, bias) = (random::<T>(rows * k, 0), random::<T>(n * k, 1), random::<T>(n, 2));
        let expected =
            |row: usize, column: usize| bias[column].wide() + (0..k).map(|i| x[row * k + i].wide() * w[column * k + i].wide()).sum::<f64>();
        let y = affine(&x, rows, &Panels::transposed(&w, n, k), Some(&bias), |_, _| {});
        for row in 0..rows {
            for column in 0..n {
                assert!((y[row * n + column].wide() - expected(row, column)).abs() < tolerance, "{rows} {k} {n} at {row},{column}");
            }
        }
        let gradient = weight_gradient(&y, &x, rows, n, k);
        for (column, i) in [(0, 0), (n - 1, k - 1)] {
            let expected: f64 = (0..rows).map(|row| y[row * n + column].wide() * x[row * k + i].wide()).sum();
            assert!((gradient[column * k + i].wide() - expected).abs() < tolerance * rows as f64);
        }
    }

    #[test]
    fn products_are_right_at_every_edge() {
        for rows in [1, 2, 5, 6, 7, 11, 12, 13, 30, 97, 130] {
            for (k, n) in [(1, 1), (3, 2), (17, 31), (8, 32), (33, 33), (40, 65), (5, 96), (9, 129)] {
                check::<f32>(rows, k, n, 1e-4);
                check::<f64>(rows, k, n, 1e-12);
            }
        }
    }

    fn check_unpacked<T: Real>([rows, k, columns]: [usize; 3], tolerance: f64) {
        let (a, b) = (random::<T>(rows * k, 0), random::<T>(k * columns, 1));
        let turned: Vec<T> = (0..rows * k).map(|i| a[i % rows * k + i / rows]).collect();
        for (values, row, column) in [(&a, k, 1), (&turned, 1, rows)] {
            // Rows of `c` are further apart than they are wide: what lies between is left alone.
            let mut c = vec![T::ONE; rows * (columns + 1)];
            for accumulate in [false, true] {
                product([rows, k, columns], Strided { values, row, column }, &b, columns, &mut c, columns + 1, accumulate);
            }
            for (at, c) in c.iter().enumerate() {
                let (row, column) = (at / (columns + 1), at % (columns + 1));
                let sum = |i: usize| 2.0 * a[row * k + i].wide() * b[i * columns + column].wide();
                let expected = if column == columns { 1.0 } else { (0..k).map(sum).sum() };
                assert!((c.wide() - expected).abs() < tolerance, "{rows} {k} {columns} at {row},{column}");
            }
        }
    }

    #[test]
    fn unpacked_products_are_right_at_every_edge() {
        for rows in [1, 2, 6, 7, 12, 13] {
            for (k, columns) in [(1, 1), (0, 3), (17, 31), (8, 32), (33, 33), (3, 65)] {
                check_unpacked::<f32>([rows, k, columns], 1e-4);
                check_unpacked::<f64>([rows, k, columns], 1e-12);
            }
        }
    }

    #[test]
    fn cuts_have_no_single_unit_next_to_others() {
        for (n, expected) in [
            (0, vec![]),
            (5, vec![(0, 16)]),
            (33, vec![(0, 48)]),
            (64, vec![(0, 32), (32, 32)]),
            (65, vec![(0, 48), (48, 32)]),
            (112, vec![(0, 48), (48, 32), (80, 32)]),
        ] {
            assert_eq!(cuts(n, 16, 3).collect::<Vec<_>>(), expected);
        }
        assert_eq!(cuts(33, 16, 1).collect::<Vec<_>>(), [(0, 16), (16, 16), (32, 16)]);
    }

    #[test]
    fn a_row_does_not_depend_on_its_neighbours() {
        let (k, n) = (37, 45);
        let (x, w) = (random::<f32>(25 * k, 0), random::<f32>(n * k, 1));
        let panels = Panels::transposed(&w, n, k);
        let all = affine(&x, 25, &panels, None, |_, _| {});
        for row in 0..25 {
            let alone = affine(&x[row * k..(row + 1) * k], 1, &panels, None, |_, _| {});
            assert_eq!(alone, all[row * n..(row + 1) * n]);
        }
    }
}
