//! The number types that kernels are written for: `f32` for work, `f64` for gradient checks.

use std::cell::RefCell;

use candle_core::{CpuStorage, WithDType};

use super::matmul::{Panels, Product, Start};

/// A floating-point number with what the kernels need of it.
pub trait Real:
    WithDType
    + Copy
    + Default
    + Send
    + Sync
    + PartialOrd
    + std::fmt::Debug
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
    + std::ops::Neg<Output = Self>
    + std::ops::AddAssign
    + std::ops::MulAssign
    + std::iter::Sum
    + 'static
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// One half.
    const HALF: Self;
    /// From a count or a constant.
    fn of(value: f64) -> Self;
    /// To `f64`.
    fn wide(self) -> f64;
    /// Hyperbolic tangent; the `f32` one is a rational approximation within 1e-6 that compilers vectorise.
    fn tanh(self) -> Self;
    /// Logistic function.
    #[inline(always)]
    fn sigmoid(self) -> Self {
        Self::HALF + Self::HALF * (Self::HALF * self).tanh()
    }
    /// Natural exponential.
    fn exp(self) -> Self;
    /// Natural exponential that compilers vectorise; the `f32` one is within 2e-7 of the result, and 0 below -87.
    fn quick_exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// ln(1 + x).
    fn ln_1p(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Absolute value.
    fn abs(self) -> Self;
    /// The larger one.
    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        if self > other { self } else { other }
    }
    /// The values of a CPU storage, for writing.
    fn storage_mut(storage: &mut CpuStorage) -> Option<&mut Vec<Self>>;
    /// The buffers that this thread keeps for its next step; see [`super::pool`].
    fn with_pool<R>(body: impl FnOnce(&mut Vec<Vec<Self>>) -> R) -> R;
    /// Columns of the narrowest panel of a packed matrix on this machine, and how many of these the widest has.
    fn panel_units() -> (usize, usize);
    /// See [`super::matmul::multiply`].
    ///
    /// # Safety
    /// `a` must be readable for `rows` rows of `lda`, `c` writable for `rows` rows of `ldc`.
    unsafe fn multiply(a: *const Self, lda: usize, rows: usize, b: &Panels<Self>, c: *mut Self, ldc: usize, start: Start<'_, Self>);
    /// `c (+)= a · b` on operands as they lie.
    ///
    /// # Safety
    /// `a` must be readable for `rows · k` numbers at its strides, `b` for `k` rows of `columns`, `c` writable for `rows`
    /// rows of `columns`.
    unsafe fn product(product: Product<Self>);
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const HALF: Self = 0.5;
    #[inline(always)]
    fn of(value: f64) -> Self {
        value as Self
    }
    #[inline(always)]
    fn wide(self) -> f64 {
        f64::from(self)
    }
    /// Eigen's rational approximation: a quotient of odd/even polynomials on ±7.9. Fused by name, so that every
    /// instruction set rounds alike.
    #[inline(always)]
    #[allow(clippy::excessive_precision, reason = "the coefficients as published")]
    fn tanh(self) -> Self {
        const LIMIT: f32 = 7.905_311_107_635_497_98;
        let x = if self > LIMIT { LIMIT } else { self };
        let x = if x < -LIMIT { -LIMIT } else { x };
        let s = x * x;
        let p = -2.760_768_477_423_55e-16;
        let p = s.mul_add(p, 2.000_187_904_824_77e-13);
        let p = s.mul_add(p, -8.604_671_522_137_35e-11);
        let p = s.mul_add(p, 5.122_297_090_371_14e-08);
        let p = s.mul_add(p, 1.485_722_357_179_79e-05);
        let p = s.mul_add(p, 6.372_619_288_754_36e-04);
        let p = s.mul_add(p, 4.893_524_558_917_86e-03);
        let q = 1.198_258_394_667_02e-06;
        let q = s.mul_add(q, 1.185_347_056_866_54e-04);
        let q = s.mul_add(q, 2.268_434_632_439_00e-03);
        let q = s.mul_add(q, 4.893_525_185_543_85e-03);
        x * p / q
    }
    #[inline(always)]
    fn exp(self) -> Self {
        self.exp()
    }
    /// Cephes' `expf`: 2ⁿ times a polynomial on ±½·ln 2.
    #[inline(always)]
    #[allow(clippy::excessive_precision, reason = "the coefficients as published")]
    fn quick_exp(self) -> Self {
        /// Added to a small number, it leaves the nearest integer in the lowest bits.
        const ROUND: f32 = 12_582_912.0;
        let x = if self > 88.0 { 88.0 } else { self };
        let x = if x < -87.0 { -87.0 } else { x };
        let shifted = x * std::f32::consts::LOG2_E + ROUND;
        let n = shifted - ROUND;
        let r = x - n * 0.693_359_375 + n * 2.121_944_4e-4;
        let p = 1.987_569_150_0e-4;
        let p = r.mul_add(p, 1.398_199_950_7e-3);
        let p = r.mul_add(p, 8.333_451_907_3e-3);
        let p = r.mul_add(p, 4.166_579_589_4e-2);
        let p = r.mul_add(p, 1.666_666_545_9e-1);
        let p = r.mul_add(p, 5.000_000_120_1e-1);
        let p = (r * r).mul_add(p, r) + 1.0;
        let power = Self::from_bits(shifted.to_bits().wrapping_add(127) << 23);
        if self < -87.0 { 0.0 } else { p * power }
    }
    #[inline(always)]
    fn ln(self) -> Self {
        self.ln()
    }
    #[inline(always)]
    fn ln_1p(self) -> Self {
        self.ln_1p()
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }
    #[inline(always)]
    fn abs(self) -> Self {
        self.abs()
    }
    fn storage_mut(storage: &mut CpuStorage) -> Option<&mut Vec<Self>> {
        match storage {
            CpuStorage::F32(values) => Some(values),
            _ => None,
        }
    }
    fn with_pool<R>(body: impl FnOnce(&mut Vec<Vec<Self>>) -> R) -> R {
        thread_local! {
            static POOL: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
        }
        POOL.with_borrow_mut(body)
    }
    fn panel_units() -> (usize, usize) {
        super::matmul::panel_units_f32()
    }
    unsafe fn multiply(a: *const Self, lda: usize, rows: usize, b: &Panels<Self>, c: *mut Self, ldc: usize, start: Start<'_, Self>) {
        // SAFETY: the caller's contract is the callee's.
        unsafe { super::matmul::multiply_f32(a, lda, rows, b, c, ldc, start) }
    }
    unsafe fn product(product: Product<Self>) {
        // SAFETY: the caller's contract is the callee's.
        unsafe { super::matmul::product_f32(product) }
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const HALF: Self = 0.5;
    #[inline(always)]
    fn of(value: f64) -> Self {
        value
    }
    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }
    #[inline(always)]
    fn tanh(self) -> Self {
        self.tanh()
    }
    #[inline(always)]
    fn exp(self) -> Self {
        self.exp()
    }
    #[inline(always)]
    fn quick_exp(self) -> Self {
        self.exp()
    }
    #[inline(always)]
    fn ln(self) -> Self {
        self.ln()
    }
    #[inline(always)]
    fn ln_1p(self) -> Self {
        self.ln_1p()
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }
    #[inline(always)]
    fn abs(self) -> Self {
        self.abs()
    }
    fn storage_mut(storage: &mut CpuStorage) -> Option<&mut Vec<Self>> {
        match storage {
            CpuStorage::F64(values) => Some(values),
            _ => None,
        }
    }
    fn with_pool<R>(body: impl FnOnce(&mut Vec<Vec<Self>>) -> R) -> R {
        thread_local! {
            static POOL: RefCell<Vec<Vec<f64>>> = const { RefCell::new(Vec::new()) };
        }
        POOL.with_borrow_mut(body)
    }
    fn panel_units() -> (usize, usize) {
        (super::matmul::PORTABLE_WIDTH, 1)
    }
    unsafe fn multiply(a: *const Self, lda: usize, rows: usize, b: &Panels<Self>, c: *mut Self, ldc: usize, start: Start<'_, Self>) {
        // SAFETY: the caller's contract is the callee's.
        unsafe { super::matmul::multiply_generic::<Self>(a, lda, rows, b, c, ldc, start) }
    }
    unsafe fn product(product: Product<Self>) {
        // SAFETY: the caller's contract is the callee's.
        unsafe { super::matmul::product_generic::<Self>(product) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f32_tanh_and_sigmoid_are_close() {
        let mut x = -12.0f32;
        while x < 12.0 {
            assert!((Real::tanh(x).wide() - f64::from(x).tanh()).abs() < 1e-6, "tanh({x})");
            assert!((Real::sigmoid(x).wide() - 1.0 / (1.0 + (-f64::from(x)).exp())).abs() < 1e-6, "sigmoid({x})");
            x += 0.001;
        }
    }

    #[test]
    fn f32_quick_exp_is_close() {
        let mut x = -90.0f32;
        while x < 88.0 {
            let (got, expected) = (x.quick_exp().wide(), f64::from(x).exp());
            assert!((got - expected).abs() <= 2e-7 * expected.max(1e-30), "exp({x}): {got} instead of {expected}");
            x += 0.01;
        }
        assert_eq!((Real::quick_exp(-200f32), Real::quick_exp(0f32)), (0.0, 1.0));
    }
}
