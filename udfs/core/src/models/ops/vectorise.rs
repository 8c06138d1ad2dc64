//! One body, compiled for each instruction set, chosen at run time.

use super::real::Real;

/// Defines a function whose body is compiled for AVX-512, AVX2 and the baseline. Element-wise code only: the results
/// are the same on each, because no operation is fused or reordered.
macro_rules! vectorise {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$T:ident>($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        $vis fn $name<$T: $crate::models::ops::real::Real>($($arg: $type),*) {
            #[inline(always)]
            fn body<$T: $crate::models::ops::real::Real>($($arg: $type),*) $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2,fma")]
            fn avx512<$T: $crate::models::ops::real::Real>($($arg: $type),*) {
                body::<$T>($($arg),*);
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2<$T: $crate::models::ops::real::Real>($($arg: $type),*) {
                body::<$T>($($arg),*);
            }
            match $crate::models::ops::matmul::isa() {
                $crate::models::ops::matmul::Isa::Portable => body::<$T>($($arg),*),
                // SAFETY: the features were detected.
                #[cfg(target_arch = "x86_64")]
                $crate::models::ops::matmul::Isa::Avx2 => unsafe { avx2::<$T>($($arg),*) },
                // SAFETY: the features were detected.
                #[cfg(target_arch = "x86_64")]
                $crate::models::ops::matmul::Isa::Avx512 => unsafe { avx512::<$T>($($arg),*) },
            }
        }
    };
}
pub(super) use vectorise;

vectorise! {
    /// `sums += values`.
    pub(in crate::models) fn add_to<T>(values: &[T], sums: &mut [T]) {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += *value;
        }
    }
}

/// Chains that a reduction runs side by side: one AVX-512 register of `f32`.
const LANES: usize = 16;

/// `Σ term(i)` for `i < count`, in sixteen chains that are joined in order: it vectorises, and every instruction set adds
/// in the same order.
#[inline(always)]
pub(super) fn sum_lanes<T: Real>(count: usize, term: impl Fn(usize) -> T) -> T {
    let mut lanes = [T::ZERO; LANES];
    let whole = count - count % LANES;
    let mut at = 0;
    while at < whole {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += term(at + lane);
        }
        at += LANES;
    }
    for i in whole..count {
        lanes[i - whole] += term(i);
    }
    lanes.iter().fold(T::ZERO, |total, lane| total + *lane)
}

/// The largest of `values`, which must not be empty.
#[inline(always)]
pub(super) fn largest<T: Real>(values: &[T]) -> T {
    let mut lanes = [values[0]; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = value.larger(*lane);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane = value.larger(*lane);
    }
    lanes.iter().fold(values[0], |most, lane| lane.larger(most))
}
