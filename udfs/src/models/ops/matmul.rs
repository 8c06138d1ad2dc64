//! Matrix products on the CPU.
//!
//! Forward products and input gradients run on our own kernel: the weight matrix is packed once into [`Panels`], the
//! other operand is read where it lies, and every element of the result is one chain of multiply-adds in order of `k`.
//! So a row's result never depends on how many rows surround it. Weight gradients (a long inner dimension) use `gemm`.

use std::sync::LazyLock;

use super::parallel::{self, Shared};
use super::real::Real;

/// Rows of one unit of work of a dense layer.
pub(super) const ROW_CHUNK: usize = 96;
/// Result rows of one unit of work of a weight gradient.
const GRADIENT_CHUNK: usize = 128;

/// A matrix `[k, n]` cut into panels of a few columns, each stored row after row and padded with zeros.
#[derive(Debug, Clone)]
pub struct Panels<T> {
    k: usize,
    n: usize,
    width: usize,
    values: Vec<T>,
}

impl<T: Real> Panels<T> {
    /// Packs the matrix whose element `(row, column)` is `source[row * row_stride + column * column_stride]`.
    pub(super) fn pack(source: &[T], k: usize, n: usize, row_stride: usize, column_stride: usize) -> Self {
        let width = T::panel_width();
        let panels = n.div_ceil(width);
        let mut values = vec![T::ZERO; panels * k * width];
        for panel in 0..panels {
            let first = panel * width;
            let columns = width.min(n - first);
            let target = &mut values[panel * k * width..(panel + 1) * k * width];
            for column in 0..columns {
                let from = (first + column) * column_stride;
                for row in 0..k {
                    target[row * width + column] = source[from + row * row_stride];
                }
            }
        }
        Self { k, n, width, values }
    }

    /// Packs `weight` `[out, in]` for products `x · weightᵀ`.
    pub(super) fn transposed(weight: &[T], outputs: usize, inputs: usize) -> Self {
        Self::pack(weight, inputs, outputs, 1, inputs)
    }

    /// Packs `weight` `[out, in]` for products `dy · weight`.
    pub(super) fn straight(weight: &[T], outputs: usize, inputs: usize) -> Self {
        Self::pack(weight, outputs, inputs, inputs, 1)
    }

    fn panel(&self, panel: usize) -> &[T] {
        &self.values[panel * self.k * self.width..(panel + 1) * self.k * self.width]
    }

    fn count(&self) -> usize {
        self.n.div_ceil(self.width)
    }
}

/// `c[rows, n] += a[rows, k] · b`, where rows of `a` are `lda` and rows of `c` are `ldc` numbers apart.
pub(super) fn multiply<T: Real>(a: &[T], lda: usize, rows: usize, b: &Panels<T>, c: &mut [T], ldc: usize) {
    if rows == 0 || b.n == 0 || b.k == 0 {
        return;
    }
    assert!((rows - 1) * lda + b.k <= a.len() && (rows - 1) * ldc + b.n <= c.len());
    // SAFETY: both ends are inside their slices (asserted).
    unsafe { T::multiply(a.as_ptr(), lda, rows, b, c.as_mut_ptr(), ldc) }
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
        if let Some(bias) = bias {
            out.chunks_exact_mut(b.n).for_each(|row| row.copy_from_slice(bias));
        }
        multiply(&x[first * b.k..(first + count) * b.k], b.k, count, b, out, b.n);
        finish(first, out);
    });
    y
}

/// `dyᵀ · x`: `[outputs, inputs]` from `dy [rows, outputs]` and `x [rows, inputs]`, in parallel over outputs.
pub(super) fn weight_gradient<T: Real>(dy: &[T], x: &[T], rows: usize, outputs: usize, inputs: usize) -> Vec<T> {
    let mut gradient = vec![T::ZERO; outputs * inputs];
    if rows == 0 || outputs == 0 || inputs == 0 {
        return gradient;
    }
    assert!(dy.len() >= rows * outputs && x.len() >= rows * inputs);
    let shared = Shared::new(&mut gradient);
    parallel::for_each(outputs.div_ceil(GRADIENT_CHUNK), |chunk| {
        let first = chunk * GRADIENT_CHUNK;
        let count = GRADIENT_CHUNK.min(outputs - first);
        // SAFETY: chunks are disjoint; the strides describe the asserted shapes.
        unsafe {
            let out = shared.slice(first * inputs, count * inputs);
            gemm::gemm(
                count,
                inputs,
                rows,
                out.as_mut_ptr(),
                1,
                inputs as isize,
                false,
                dy.as_ptr().add(first),
                outputs as isize,
                1,
                x.as_ptr(),
                1,
                inputs as isize,
                T::ZERO,
                T::ONE,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
    });
    gradient
}

/// Sums of the columns of `values [rows, columns]`, in row order.
pub(super) fn column_sums<T: Real>(values: &[T], columns: usize) -> Vec<T> {
    let mut sums = vec![T::ZERO; columns];
    if columns > 0 {
        for row in values.chunks_exact(columns) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += *value;
            }
        }
    }
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

/// Columns of an `f32` panel.
pub(super) fn panel_width_f32() -> usize {
    match isa() {
        Isa::Portable => 8,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => 16,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => 32,
    }
}

/// [`multiply`] for `f32` with the best kernel of this machine.
///
/// # Safety
/// As [`Real::multiply`].
pub(super) unsafe fn multiply_f32(a: *const f32, lda: usize, rows: usize, b: &Panels<f32>, c: *mut f32, ldc: usize) {
    // SAFETY: features were detected; pointers are the caller's contract.
    unsafe {
        match isa() {
            Isa::Portable => multiply_generic::<f32, 8>(a, lda, rows, b, c, ldc),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => x86::multiply_avx2(a, lda, rows, b, c, ldc),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => x86::multiply_avx512(a, lda, rows, b, c, ldc),
        }
    }
}

/// [`multiply`] without special instructions.
///
/// # Safety
/// As [`Real::multiply`]; `WIDTH` must be the panels' width.
pub(super) unsafe fn multiply_generic<T: Real, const WIDTH: usize>(
    a: *const T,
    lda: usize,
    rows: usize,
    b: &Panels<T>,
    c: *mut T,
    ldc: usize,
) {
    assert_eq!(b.width, WIDTH);
    for panel in 0..b.count() {
        let first = panel * WIDTH;
        let columns = WIDTH.min(b.n - first);
        let values = b.panel(panel);
        for row in 0..rows {
            // SAFETY: the caller vouches for `rows` rows of `a` and `c`.
            let (a, c) =
                unsafe { (std::slice::from_raw_parts(a.add(row * lda), b.k), std::slice::from_raw_parts_mut(c.add(row * ldc + first), columns)) };
            let mut sums = [T::ZERO; WIDTH];
            for (x, w) in a.iter().zip(values.chunks_exact(WIDTH)) {
                for (sum, w) in sums.iter_mut().zip(w) {
                    *sum += *x * *w;
                }
            }
            for (c, sum) in c.iter_mut().zip(sums) {
                *c += sum;
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, __m512, __mmask16, _mm256_add_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps,
        _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
    };

    use super::Panels;

    /// Splits `rows` into blocks of `$max` and the rest, calling the kernel of that height.
    macro_rules! row_blocks {
        ($kernel:ident, $max:literal, $rows:expr, $row:ident => $args:tt, [$($rest:literal),*]) => {{
            let mut $row = 0;
            while $rows - $row >= $max {
                row_blocks!(@call $kernel, $max, $args);
                $row += $max;
            }
            match $rows - $row {
                $($rest => row_blocks!(@call $kernel, $rest, $args),)*
                _ => {}
            }
        }};
        (@call $kernel:ident, $height:literal, ($($arg:expr),*)) => { $kernel::<$height>($($arg),*) };
    }

    /// # Safety
    /// As [`super::Real::multiply`], on a machine with AVX-512.
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2,fma")]
    pub(super) unsafe fn multiply_avx512(a: *const f32, lda: usize, rows: usize, b: &Panels<f32>, c: *mut f32, ldc: usize) {
        for panel in 0..b.count() {
            let first = panel * 32;
            let columns = 32.min(b.n - first);
            let mask = if columns == 32 { u32::MAX } else { (1u32 << columns) - 1 };
            let values = b.panel(panel).as_ptr();
            // SAFETY: rows and columns stay inside what the caller vouches for; masked lanes are not touched.
            unsafe {
                row_blocks!(kernel_avx512, 12, rows, row => (b.k, a.add(row * lda), lda, values, c.add(row * ldc + first), ldc, mask),
                    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2,fma")]
    unsafe fn kernel_avx512<const ROWS: usize>(
        k: usize,
        a: *const f32,
        lda: usize,
        b: *const f32,
        c: *mut f32,
        ldc: usize,
        mask: u32,
    ) {
        let (low, high) = (mask as __mmask16, (mask >> 16) as __mmask16);
        let mut sums: [[__m512; 2]; ROWS] = [[_mm512_setzero_ps(); 2]; ROWS];
        // SAFETY: `a` has ROWS rows of k, `b` k rows of 32, `c` ROWS rows of the masked columns.
        unsafe {
            for step in 0..k {
                let w = [_mm512_loadu_ps(b.add(step * 32)), _mm512_loadu_ps(b.add(step * 32 + 16))];
                for row in 0..ROWS {
                    let x = _mm512_set1_ps(*a.add(row * lda + step));
                    sums[row][0] = _mm512_fmadd_ps(x, w[0], sums[row][0]);
                    sums[row][1] = _mm512_fmadd_ps(x, w[1], sums[row][1]);
                }
            }
            for row in 0..ROWS {
                let at = c.add(row * ldc);
                _mm512_mask_storeu_ps(at, low, _mm512_add_ps(_mm512_maskz_loadu_ps(low, at), sums[row][0]));
                if high != 0 {
                    let at = at.add(16);
                    _mm512_mask_storeu_ps(at, high, _mm512_add_ps(_mm512_maskz_loadu_ps(high, at), sums[row][1]));
                }
            }
        }
    }

    /// # Safety
    /// As [`super::Real::multiply`], on a machine with AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn multiply_avx2(a: *const f32, lda: usize, rows: usize, b: &Panels<f32>, c: *mut f32, ldc: usize) {
        for panel in 0..b.count() {
            let first = panel * 16;
            let columns = 16.min(b.n - first);
            let values = b.panel(panel).as_ptr();
            // SAFETY: rows and columns stay inside what the caller vouches for.
            unsafe {
                row_blocks!(kernel_avx2, 6, rows, row => (b.k, a.add(row * lda), lda, values, c.add(row * ldc + first), ldc, columns),
                    [1, 2, 3, 4, 5]);
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn kernel_avx2<const ROWS: usize>(k: usize, a: *const f32, lda: usize, b: *const f32, c: *mut f32, ldc: usize, columns: usize) {
        let mut sums: [[__m256; 2]; ROWS] = [[_mm256_setzero_ps(); 2]; ROWS];
        // SAFETY: `a` has ROWS rows of k, `b` k rows of 16, `c` ROWS rows of `columns`.
        unsafe {
            for step in 0..k {
                let w = [_mm256_loadu_ps(b.add(step * 16)), _mm256_loadu_ps(b.add(step * 16 + 8))];
                for row in 0..ROWS {
                    let x = _mm256_set1_ps(*a.add(row * lda + step));
                    sums[row][0] = _mm256_fmadd_ps(x, w[0], sums[row][0]);
                    sums[row][1] = _mm256_fmadd_ps(x, w[1], sums[row][1]);
                }
            }
            for row in 0..ROWS {
                let at = c.add(row * ldc);
                if columns == 16 {
                    _mm256_storeu_ps(at, _mm256_add_ps(_mm256_loadu_ps(at), sums[row][0]));
                    _mm256_storeu_ps(at.add(8), _mm256_add_ps(_mm256_loadu_ps(at.add(8)), sums[row][1]));
                } else {
                    let mut all = [0f32; 16];
                    _mm256_storeu_ps(all.as_mut_ptr(), sums[row][0]);
                    _mm256_storeu_ps(all.as_mut_ptr().add(8), sums[row][1]);
                    for (column, sum) in all.iter().enumerate().take(columns) {
                        *at.add(column) += sum;
                    }
                }
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
        let expected = |row: usize, column: usize| {
            bias[column].wide() + (0..k).map(|i| x[row * k + i].wide() * w[column * k + i].wide()).sum::<f64>()
        };
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
        for rows in [1, 2, 5, 6, 7, 11, 12, 13, 30, 97] {
            for (k, n) in [(1, 1), (3, 2), (17, 31), (8, 32), (33, 33), (40, 65)] {
                check::<f32>(rows, k, n, 1e-4);
                check::<f64>(rows, k, n, 1e-12);
            }
        }
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
