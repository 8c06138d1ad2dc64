//! [`Simd`] in AVX2, and with the byte products of VNNI.

use std::arch::x86_64::{
    __m256, __m256i, _mm_max_ps, _mm_min_ps, _mm_movehl_ps, _mm_shuffle_ps, _mm_storel_epi64, _mm256_add_epi16, _mm256_add_epi32,
    _mm256_add_ps, _mm256_castps256_ps128, _mm256_castsi256_si128, _mm256_cvtepi32_ps, _mm256_cvtps_epi32, _mm256_div_ps,
    _mm256_dpbusd_avx_epi32, _mm256_dpbusd_epi32, _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256,
    _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_max_ps, _mm256_min_epu8, _mm256_min_ps, _mm256_mul_ps, _mm256_mullo_epi32,
    _mm256_packs_epi32, _mm256_packus_epi16, _mm256_permutevar8x32_epi32, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32,
    _mm256_set1_ps, _mm256_setr_epi32, _mm256_setzero_ps, _mm256_storeu_ps, _mm256_storeu_si256, _mm256_sub_ps,
};

use super::simd::{ACTIVATION_MAX, GROUP, LANES, Simd, byte, step_of};

/// The four bytes at `from`, eight times.
#[inline(always)]
unsafe fn word(from: *const u8) -> __m256i {
    // SAFETY: the caller vouches for four bytes; the callers run on machines with AVX2.
    unsafe { _mm256_set1_epi32(from.cast::<i32>().read_unaligned()) }
}

/// Smallest and largest of `x[0..k]` and 0.
#[inline(always)]
unsafe fn range(x: *const f32, k: usize) -> (f32, f32) {
    // SAFETY: the caller vouches for `k` floats and AVX2.
    unsafe {
        let (mut low, mut high) = (_mm256_setzero_ps(), _mm256_setzero_ps());
        let whole = k - k % LANES;
        for at in (0..whole).step_by(LANES) {
            let x = _mm256_loadu_ps(x.add(at));
            low = _mm256_min_ps(x, low);
            high = _mm256_max_ps(x, high);
        }
        let low = _mm_min_ps(_mm256_castps256_ps128(low), _mm256_extractf128_ps::<1>(low));
        let high = _mm_max_ps(_mm256_castps256_ps128(high), _mm256_extractf128_ps::<1>(high));
        let (low, high) = (_mm_min_ps(low, _mm_movehl_ps(low, low)), _mm_max_ps(high, _mm_movehl_ps(high, high)));
        let low = _mm_min_ps(low, _mm_shuffle_ps::<1>(low, low));
        let high = _mm_max_ps(high, _mm_shuffle_ps::<1>(high, high));
        let (mut low, mut high) = (std::arch::x86_64::_mm_cvtss_f32(low), std::arch::x86_64::_mm_cvtss_f32(high));
        for at in whole..k {
            let x = *x.add(at);
            low = if x < low { x } else { low };
            high = if x > high { x } else { high };
        }
        (low, high)
    }
}

#[inline(always)]
unsafe fn quantise(x: *const f32, k: usize, to: *mut u8) -> (f32, i32) {
    // SAFETY: the caller vouches for `k` floats, `k` bytes and AVX2.
    unsafe {
        let (low, high) = range(x, k);
        let (step, inverse, zero) = step_of(low, high);
        let (factor, add, most) = (_mm256_set1_ps(inverse), _mm256_set1_epi32(zero), _mm256_set1_epi8(ACTIVATION_MAX as i8));
        let eight = |at: usize| _mm256_add_epi32(_mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x.add(at)), factor)), add);
        let mut at = 0;
        while at + 4 * LANES <= k {
            let (a, b) = (_mm256_packs_epi32(eight(at), eight(at + 8)), _mm256_packs_epi32(eight(at + 16), eight(at + 24)));
            let bytes = _mm256_min_epu8(_mm256_packus_epi16(a, b), most);
            // Packing works within halves: the words come back into order.
            let bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
            _mm256_storeu_si256(to.add(at).cast(), bytes);
            at += 4 * LANES;
        }
        while at + LANES <= k {
            let words = _mm256_packs_epi32(eight(at), eight(at));
            let bytes = _mm256_min_epu8(_mm256_packus_epi16(words, words), most);
            let bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 0, 4, 0, 4, 0, 4));
            _mm_storel_epi64(to.add(at).cast(), _mm256_castsi256_si128(bytes));
            at += LANES;
        }
        for at in at..k {
            *to.add(at) = byte(*x.add(at), inverse, zero);
        }
        (step, zero)
    }
}

/// What the instruction sets share: everything but the products of bytes.
macro_rules! simd {
    ($(#[$meta:meta])* $name:ident, |$sum:ident, $x0:ident, $x1:ident, $w0:ident, $w1:ident| $dot:expr) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy)]
        pub(super) struct $name;

        // SAFETY of every block: a value of this type is used on machines with its instructions only, which the dispatch in
        // `kernels` looks at; pointers are the caller's contract.
        impl Simd for $name {
            type F = __m256;
            type I = __m256i;

            #[inline(always)]
            unsafe fn load(from: *const f32) -> __m256 {
                // SAFETY: as above.
                unsafe { _mm256_loadu_ps(from) }
            }
            #[inline(always)]
            unsafe fn store(value: __m256, to: *mut f32) {
                // SAFETY: as above.
                unsafe { _mm256_storeu_ps(to, value) }
            }
            #[inline(always)]
            fn splat(value: f32) -> __m256 {
                // SAFETY: as above.
                unsafe { _mm256_set1_ps(value) }
            }
            #[inline(always)]
            fn add(a: __m256, b: __m256) -> __m256 {
                // SAFETY: as above.
                unsafe { _mm256_add_ps(a, b) }
            }
            #[inline(always)]
            fn sub(a: __m256, b: __m256) -> __m256 {
                // SAFETY: as above.
                unsafe { _mm256_sub_ps(a, b) }
            }
            #[inline(always)]
            fn mul(a: __m256, b: __m256) -> __m256 {
                // SAFETY: as above.
                unsafe { _mm256_mul_ps(a, b) }
            }
            #[inline(always)]
            fn div(a: __m256, b: __m256) -> __m256 {
                // SAFETY: as above.
                unsafe { _mm256_div_ps(a, b) }
            }
            #[inline(always)]
            fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
                // SAFETY: as above.
                unsafe { _mm256_fmadd_ps(a, b, c) }
            }
            #[inline(always)]
            fn min(a: __m256, b: __m256) -> __m256 {
                // SAFETY: as above.
                unsafe { _mm256_min_ps(a, b) }
            }
            #[inline(always)]
            fn max(a: __m256, b: __m256) -> __m256 {
                // SAFETY: as above.
                unsafe { _mm256_max_ps(a, b) }
            }
            #[inline(always)]
            fn float(value: __m256i) -> __m256 {
                // SAFETY: as above.
                unsafe { _mm256_cvtepi32_ps(value) }
            }
            #[inline(always)]
            unsafe fn load_i(from: *const i32) -> __m256i {
                // SAFETY: as above.
                unsafe { _mm256_loadu_si256(from.cast()) }
            }
            #[inline(always)]
            fn negative_times(factor: i32, value: __m256i) -> __m256i {
                // SAFETY: as above.
                unsafe { _mm256_mullo_epi32(_mm256_set1_epi32(-factor), value) }
            }
            #[inline(always)]
            unsafe fn tile<const R: usize, const V: usize>(
                x: *const u8,
                stride: usize,
                w: *const i8,
                groups: usize,
                sums: &mut [[__m256i; V]; R],
            ) {
                let mut own = *sums;
                // SAFETY: as above.
                unsafe {
                    let mut w = w.cast::<__m256i>();
                    let mut x = x;
                    for _ in 0..groups {
                        for r in 0..R {
                            let from = x.add(r * stride);
                            let ($x0, $x1) = (word(from), word(from.add(4)));
                            for v in 0..V {
                                let ($w0, $w1) = (_mm256_loadu_si256(w.add(2 * v)), _mm256_loadu_si256(w.add(2 * v + 1)));
                                let $sum = own[r][v];
                                own[r][v] = $dot;
                            }
                        }
                        x = x.add(GROUP);
                        w = w.add(2 * V);
                    }
                }
                *sums = own;
            }
            #[inline(always)]
            unsafe fn quantise(x: *const f32, k: usize, to: *mut u8) -> (f32, i32) {
                // SAFETY: as above.
                unsafe { quantise(x, k, to) }
            }
        }
    };
}

simd! {
    /// Products of bytes in pairs and their sums in 16 bits: two pairs are added before they are widened, which saves a
    /// quarter of the work. That no sum leaves 16 bits is what [weights](super::weights) promise.
    Avx2, |sum, x0, x1, w0, w1| {
        let pairs = _mm256_add_epi16(_mm256_maddubs_epi16(x0, w0), _mm256_maddubs_epi16(x1, w1));
        _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }
}

simd! {
    /// Four products of bytes and their sum in one instruction.
    AvxVnni, |sum, x0, x1, w0, w1| _mm256_dpbusd_avx_epi32(_mm256_dpbusd_avx_epi32(sum, x0, w0), x1, w1)
}

simd! {
    /// The same, in AVX-512's encoding with its 32 registers.
    Avx512Vnni, |sum, x0, x1, w0, w1| _mm256_dpbusd_epi32(_mm256_dpbusd_epi32(sum, x0, w0), x1, w1)
}
