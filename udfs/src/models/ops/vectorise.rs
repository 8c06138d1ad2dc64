//! One body, compiled for each instruction set, chosen at run time.

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
