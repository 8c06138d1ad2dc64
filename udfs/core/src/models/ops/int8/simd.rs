//! Eight numbers at a time: what the kernels of [`super::kernels`] need of an instruction set, and the version of it that
//! every machine has.
//!
//! Integer sums are exact, and the few float operations are the same ones in the same order, fused where named so: every
//! instruction set gives the same bits.

/// Numbers side by side.
pub(super) const LANES: usize = 8;
/// Inputs of one step of a tile: two words of four bytes for each column.
pub(super) const GROUP: usize = 8;
/// Largest quantised activation: 7 bits, so that two products of bytes, and four where [weights](super::weights) keep
/// their promise, fit 16 bits.
pub(super) const ACTIVATION_MAX: f32 = 127.0;
/// Rows whose values span less are taken as zeros: their step would be too small a divisor.
pub(super) const SPAN_MIN: f32 = 1e-30;

/// An instruction set.
pub(super) trait Simd: Copy {
    /// Eight floats.
    type F: Copy;
    /// Eight 32-bit integers.
    type I: Copy;

    /// Reads eight floats.
    ///
    /// # Safety
    /// They must be there, as for the loads and stores below.
    unsafe fn load(from: *const f32) -> Self::F;
    /// Writes eight floats.
    unsafe fn store(value: Self::F, to: *mut f32);
    /// Eight times the same.
    fn splat(value: f32) -> Self::F;
    /// `a + b`.
    fn add(a: Self::F, b: Self::F) -> Self::F;
    /// `a − b`.
    fn sub(a: Self::F, b: Self::F) -> Self::F;
    /// `a · b`.
    fn mul(a: Self::F, b: Self::F) -> Self::F;
    /// `a / b`.
    fn div(a: Self::F, b: Self::F) -> Self::F;
    /// `a · b + c`, rounded once.
    fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// The smaller ones.
    fn min(a: Self::F, b: Self::F) -> Self::F;
    /// The larger ones.
    fn max(a: Self::F, b: Self::F) -> Self::F;
    /// Floats of integers.
    fn float(value: Self::I) -> Self::F;
    /// Reads eight integers.
    unsafe fn load_i(from: *const i32) -> Self::I;
    /// `−factor · value`.
    fn negative_times(factor: i32, value: Self::I) -> Self::I;
    /// `sums[r][v] += Σ x[r][i] · w[v][i]` over `groups` groups of [`GROUP`] inputs; rows of `x` are `stride` bytes apart, and
    /// `w` holds for each group and vector two times eight columns of four bytes.
    unsafe fn tile<const R: usize, const V: usize>(x: *const u8, stride: usize, w: *const i8, groups: usize, sums: &mut [[Self::I; V]; R]);
    /// `x[0..k]` as `0..=127`: `x ≈ scale · (byte − zero)`; returns scale and zero.
    unsafe fn quantise(x: *const f32, k: usize, to: *mut u8) -> (f32, i32);
}

/// Step and zero of a row whose values lie between `low ≤ 0` and `high ≥ 0`; a step of 0 says that all are 0.
#[inline(always)]
pub(super) fn step_of(low: f32, high: f32) -> (f32, f32, i32) {
    let span = high - low;
    if !(span >= SPAN_MIN && span.is_finite()) {
        return (0.0, 0.0, 0);
    }
    let (step, inverse) = (span / ACTIVATION_MAX, ACTIVATION_MAX / span);
    (step, inverse, (-low * inverse).round_ties_even() as i32)
}

/// A byte of a row.
#[inline(always)]
pub(super) fn byte(value: f32, inverse: f32, zero: i32) -> u8 {
    ((value * inverse).round_ties_even() as i32 + zero).clamp(0, ACTIVATION_MAX as i32) as u8
}

/// Plain Rust; compilers make vectors of it where they can.
#[derive(Debug, Clone, Copy)]
pub(super) struct Portable;

type F = [f32; LANES];
type I = [i32; LANES];

#[inline(always)]
fn each(a: F, b: F, f: impl Fn(f32, f32) -> f32) -> F {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Simd for Portable {
    type F = F;
    type I = I;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> F {
        // SAFETY: the caller's contract.
        unsafe { from.cast::<F>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(value: F, to: *mut f32) {
        // SAFETY: the caller's contract.
        unsafe { to.cast::<F>().write_unaligned(value) }
    }
    #[inline(always)]
    fn splat(value: f32) -> F {
        [value; LANES]
    }
    #[inline(always)]
    fn add(a: F, b: F) -> F {
        each(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(a: F, b: F) -> F {
        each(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(a: F, b: F) -> F {
        each(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(a: F, b: F) -> F {
        each(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn fma(a: F, b: F, c: F) -> F {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    fn min(a: F, b: F) -> F {
        each(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn max(a: F, b: F) -> F {
        each(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn float(value: I) -> F {
        value.map(|value| value as f32)
    }
    #[inline(always)]
    unsafe fn load_i(from: *const i32) -> I {
        // SAFETY: the caller's contract.
        unsafe { from.cast::<I>().read_unaligned() }
    }
    #[inline(always)]
    fn negative_times(factor: i32, value: I) -> I {
        value.map(|value| -factor * value)
    }
    #[inline(always)]
    unsafe fn tile<const R: usize, const V: usize>(x: *const u8, stride: usize, w: *const i8, groups: usize, sums: &mut [[I; V]; R]) {
        for group in 0..groups {
            for (r, sums) in sums.iter_mut().enumerate() {
                for (v, sums) in sums.iter_mut().enumerate() {
                    for half in 0..2 {
                        // SAFETY: the caller vouches for `groups` groups of each row and vector.
                        let (x, w) = unsafe {
                            let x = x.add(r * stride + group * GROUP + half * 4).cast::<[u8; 4]>().read_unaligned();
                            (x, w.add(((group * V + v) * 2 + half) * 4 * LANES).cast::<[[i8; 4]; LANES]>().read_unaligned())
                        };
                        for (sum, w) in sums.iter_mut().zip(w) {
                            *sum += (0..4).map(|i| i32::from(x[i]) * i32::from(w[i])).sum::<i32>();
                        }
                    }
                }
            }
        }
    }
    #[inline(always)]
    unsafe fn quantise(x: *const f32, k: usize, to: *mut u8) -> (f32, i32) {
        // SAFETY: the caller's contract.
        let (x, to) = unsafe { (std::slice::from_raw_parts(x, k), std::slice::from_raw_parts_mut(to, k)) };
        let low = x.iter().fold(0f32, |low, x| if *x < low { *x } else { low });
        let high = x.iter().fold(0f32, |high, x| if *x > high { *x } else { high });
        let (step, inverse, zero) = step_of(low, high);
        for (to, x) in to.iter_mut().zip(x) {
            *to = byte(*x, inverse, zero);
        }
        (step, zero)
    }
}
