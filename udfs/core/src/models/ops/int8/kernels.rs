//! The kernels, written once over [`Simd`] and compiled for each instruction set: products of quantised rows with packed
//! weights, and one step of a recurrent layer from the products to the new state.

use super::panels::Panels8;
use super::rows::Rows8;
use super::simd::{LANES, Portable, Simd};
#[cfg(target_arch = "x86_64")]
use super::x86::{Avx2, Avx512Vnni, AvxVnni};
use crate::models::ops::activation::Activation;

/// The instruction sets that there are kernels for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Isa {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
}

impl Isa {
    /// Those of this machine, the best last.
    pub(super) fn all() -> Vec<Self> {
        #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut, reason = "one more elsewhere"))]
        let mut all = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            all.push(Self::Avx2);
            if is_x86_feature_detected!("avxvnni") {
                all.push(Self::AvxVnni);
            }
            if is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512vl") && is_x86_feature_detected!("avx512f") {
                all.push(Self::Avx512Vnni);
            }
        }
        all
    }

    /// The best of this machine.
    pub(super) fn best() -> Self {
        static BEST: std::sync::LazyLock<Isa> = std::sync::LazyLock::new(|| *Isa::all().last().unwrap_or(&Isa::Portable));
        *BEST
    }
}

/// Defines a function that runs the generic `$body` compiled for an instruction set.
macro_rules! on_each {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($isa:ident, $($arg:ident: $type:ty),* $(,)?) => $body:ident) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments, reason = "one step of a layer has many parts")]
        $vis unsafe fn $name($isa: Isa, $($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2($($arg: $type),*) {
                // SAFETY: the caller's contract.
                unsafe { $body::<Avx2, 2>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,avxvnni")]
            unsafe fn avx_vnni($($arg: $type),*) {
                // SAFETY: the caller's contract.
                unsafe { $body::<AvxVnni, 2>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,avx512f,avx512vl,avx512vnni")]
            unsafe fn avx512_vnni($($arg: $type),*) {
                // SAFETY: the caller's contract.
                unsafe { $body::<Avx512Vnni, 4>($($arg),*) }
            }
            // SAFETY: the features were detected; the rest is the caller's contract.
            unsafe {
                match $isa {
                    Isa::Portable => $body::<Portable, 1>($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2 => avx2($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    Isa::AvxVnni => avx_vnni($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512Vnni => avx512_vnni($($arg),*),
                }
            }
        }
    };
}

/// What a product's result begins with.
#[derive(Debug, Clone, Copy)]
pub(super) enum Begin<'a> {
    /// Nothing: the result takes the place of what is there.
    Zero,
    /// What is there: the product is added to it.
    Held,
    /// One row, as long as the panels are wide, added to every row of the product.
    Bias(&'a [f32]),
}

/// `out [count, columns] = start + x [count, k] · w`, for rows `first ..` of `x`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Product<'a> {
    pub(super) x: &'a Rows8,
    pub(super) first: usize,
    pub(super) count: usize,
    pub(super) w: &'a Panels8,
    pub(super) out: *mut f32,
    /// From one row of `out` to the next.
    pub(super) stride: usize,
    pub(super) begin: Begin<'a>,
}

/// One step of a recurrent layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step<'a> {
    /// Rows of the input, and where this step's begin.
    pub(super) x: &'a Rows8,
    pub(super) first: usize,
    /// The state before, quantised; `None` at the first step, where it is zero.
    pub(super) before: Option<&'a Rows8>,
    /// Rows that are running.
    pub(super) count: usize,
    pub(super) input: &'a Panels8,
    pub(super) recurrent: &'a Panels8,
    /// In the order of the panels: of the input's product, and where a layer keeps them apart of the state's.
    pub(super) biases: (&'a [f32], &'a [f32]),
    /// The state `[count, stride]`: in the one before, out the next.
    pub(super) h: *mut f32,
    /// The cell `[count, stride]`, for the lstm.
    pub(super) c: *mut f32,
    pub(super) stride: usize,
    pub(super) activation: Activation,
}

/// Vectors of a panel of a plain product.
pub(super) const VECTORS: usize = 4;

/// Rows `row ..` of `x` times panel `panel`, in integers; `−zero · Σ w` makes products of bytes products of signed numbers.
///
/// Here and below loops take the place of closures: only what is written out is compiled for the instruction set.
#[inline(always)]
unsafe fn sums<S: Simd, const R: usize, const V: usize>(x: &Rows8, row: usize, w: &Panels8, panel: usize) -> [[S::I; V]; R] {
    // SAFETY: the caller vouches for the rows and the panel, which has `V · LANES` sums.
    unsafe {
        let weights = w.sums(panel);
        let mut sums = [[S::load_i(weights); V]; R];
        for (r, sums) in sums.iter_mut().enumerate() {
            let zero = x.zero(row + r);
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = S::negative_times(zero, S::load_i(weights.add(v * LANES)));
            }
        }
        S::tile::<R, V>(x.row(row), x.stride(), w.values(panel), w.groups(), &mut sums);
        sums
    }
}

/// The same as floats, added to `values`.
#[inline(always)]
unsafe fn add_scaled<S: Simd, const R: usize, const V: usize>(
    sums: &[[S::I; V]; R],
    x: &Rows8,
    row: usize,
    w: &Panels8,
    panel: usize,
    values: &mut [[S::F; V]; R],
) {
    let scales = w.scales(panel);
    for r in 0..R {
        let step = S::splat(x.scale(row + r));
        for v in 0..V {
            // SAFETY: a panel has `V · LANES` scales.
            let scale = S::mul(step, unsafe { S::load(scales.add(v * LANES)) });
            values[r][v] = S::fma(S::float(sums[r][v]), scale, values[r][v]);
        }
    }
}

/// `V` vectors from `from` on, for each of `R` rows.
#[inline(always)]
unsafe fn rows_of<S: Simd, const R: usize, const V: usize>(from: *const f32) -> [[S::F; V]; R] {
    let mut row = [S::splat(0.0); V];
    for (v, value) in row.iter_mut().enumerate() {
        // SAFETY: the caller vouches for the vectors.
        *value = unsafe { S::load(from.add(v * LANES)) };
    }
    [row; R]
}

#[inline(always)]
unsafe fn product_tile<S: Simd, const R: usize>(p: &Product<'_>, panel: usize, row: usize) {
    const WIDTH: usize = VECTORS * LANES;
    let (first, columns) = (panel * WIDTH, WIDTH.min(p.w.columns() - panel * WIDTH));
    // SAFETY: the caller vouches for `count` rows of `out`; at the right edge a buffer takes its place.
    unsafe {
        let out = p.out.add(row * p.stride + first);
        let sums = sums::<S, R, VECTORS>(p.x, p.first + row, p.w, panel);
        let mut edge = [[0f32; WIDTH]; R];
        let (to, stride) = if columns == WIDTH { (out, p.stride) } else { (edge.as_mut_ptr().cast::<f32>(), WIDTH) };
        let mut values = [[S::splat(0.0); VECTORS]; R];
        match p.begin {
            Begin::Zero => {}
            Begin::Bias(bias) => values = rows_of::<S, R, VECTORS>(bias.as_ptr().add(first)),
            Begin::Held => {
                for r in 0..R {
                    if columns < WIDTH {
                        std::ptr::copy_nonoverlapping(out.add(r * p.stride), to.add(r * stride), columns);
                    }
                    for v in 0..VECTORS {
                        values[r][v] = S::load(to.add(r * stride + v * LANES));
                    }
                }
            }
        }
        add_scaled::<S, R, VECTORS>(&sums, p.x, p.first + row, p.w, panel, &mut values);
        for r in 0..R {
            for v in 0..VECTORS {
                S::store(values[r][v], to.add(r * stride + v * LANES));
            }
            if columns < WIDTH {
                std::ptr::copy_nonoverlapping(to.add(r * stride), out.add(r * p.stride), columns);
            }
        }
    }
}

#[inline(always)]
unsafe fn product_body<S: Simd, const R: usize>(p: Product<'_>) {
    for panel in 0..p.w.count() {
        let mut row = 0;
        // SAFETY: rows below `count` and panels that exist.
        unsafe {
            while row + R <= p.count {
                product_tile::<S, R>(&p, panel, row);
                row += R;
            }
            while row < p.count {
                product_tile::<S, 1>(&p, panel, row);
                row += 1;
            }
        }
    }
}

on_each! {
    /// See [`Product`].
    ///
    /// # Safety
    /// `out` must be writable for `count` rows of the panels' columns, `x` must hold rows `first .. first + count` of the
    /// panels' inputs, and a bias as many numbers as the panels are wide.
    pub(super) fn product(isa, p: Product<'_>) => product_body
}

/// Arguments beyond it have a hyperbolic tangent of 1 within 1e-4.
const TANH_LIMIT: f32 = 5.0;

/// Numerator and denominator of a rational approximation of the hyperbolic tangent, within 1.4e-4: far below the steps of a
/// quantised state. Apart, so that products of several functions share a division, which costs as much as all the rest.
/// Coefficients: smallest largest error on ±5 for degrees 5 over 4.
#[inline(always)]
fn tanh_parts<S: Simd>(x: S::F) -> (S::F, S::F) {
    let x = S::min(S::max(x, S::splat(-TANH_LIMIT)), S::splat(TANH_LIMIT));
    let s = S::mul(x, x);
    let p = S::fma(S::fma(S::splat(6.549_423e-4), s, S::splat(1.017_230_8e-1)), s, S::splat(9.998_101_4e-1));
    let q = S::fma(S::fma(S::splat(1.263_916_4e-2), s, S::splat(4.345_04e-1)), s, S::splat(1.0));
    (S::mul(x, p), q)
}

/// `σ(2x) = (q + p) / 2q` for `tanh x = p / q`: the scales of such gates hold the half.
#[inline(always)]
fn lstm_cell<S: Simd>([i, f, g, o]: [S::F; 4], before: Option<S::F>) -> (S::F, S::F) {
    let ((pi, qi), (pg, qg), (po, qo)) = (tanh_parts::<S>(i), tanh_parts::<S>(g), tanh_parts::<S>(o));
    let two = S::splat(2.0);
    let (entry, under) = (S::mul(S::add(qi, pi), pg), S::mul(qi, qg));
    let c = match before {
        None => S::div(entry, S::mul(two, under)),
        Some(before) => {
            let (pf, qf) = tanh_parts::<S>(f);
            let kept = S::mul(S::mul(S::add(qf, pf), before), under);
            S::div(S::fma(entry, qf, kept), S::mul(two, S::mul(qf, under)))
        }
    };
    let (pc, qc) = tanh_parts::<S>(c);
    (c, S::div(S::mul(S::add(qo, po), pc), S::mul(two, S::mul(qo, qc))))
}

#[inline(always)]
unsafe fn lstm_tile<S: Simd, const R: usize>(p: &Step<'_>, panel: usize, row: usize) {
    // SAFETY: the caller vouches for the rows and the panel.
    unsafe {
        let input = sums::<S, R, 4>(p.x, p.first + row, p.input, panel);
        let mut gates = rows_of::<S, R, 4>(p.biases.0.as_ptr().add(panel * 4 * LANES));
        add_scaled::<S, R, 4>(&input, p.x, p.first + row, p.input, panel, &mut gates);
        if let Some(before) = p.before {
            let state = sums::<S, R, 4>(before, row, p.recurrent, panel);
            add_scaled::<S, R, 4>(&state, before, row, p.recurrent, panel, &mut gates);
        }
        for (r, gates) in gates.into_iter().enumerate() {
            let at = (row + r) * p.stride + panel * LANES;
            let before = if p.before.is_some() { Some(S::load(p.c.add(at))) } else { None };
            let (c, h) = lstm_cell::<S>(gates, before);
            S::store(c, p.c.add(at));
            S::store(h, p.h.add(at));
        }
    }
}

#[inline(always)]
unsafe fn gru_tile<S: Simd, const R: usize>(p: &Step<'_>, panel: usize, row: usize) {
    // SAFETY: the caller vouches for the rows and the panel.
    unsafe {
        let sums_x = sums::<S, R, 3>(p.x, p.first + row, p.input, panel);
        let mut input = rows_of::<S, R, 3>(p.biases.0.as_ptr().add(panel * 3 * LANES));
        add_scaled::<S, R, 3>(&sums_x, p.x, p.first + row, p.input, panel, &mut input);
        let mut state = rows_of::<S, R, 3>(p.biases.1.as_ptr().add(panel * 3 * LANES));
        if let Some(before) = p.before {
            let sums_h = sums::<S, R, 3>(before, row, p.recurrent, panel);
            add_scaled::<S, R, 3>(&sums_h, before, row, p.recurrent, panel, &mut state);
        }
        for (r, ([gr, gz, gn], [hr, hz, hn])) in input.into_iter().zip(state).enumerate() {
            let at = (row + r) * p.stride + panel * LANES;
            let ((pr, qr), (pz, qz)) = (tanh_parts::<S>(S::add(gr, hr)), tanh_parts::<S>(S::add(gz, hz)));
            let two = S::splat(2.0);
            let reset = S::div(S::add(qr, pr), S::mul(two, qr));
            let (pn, qn) = tanh_parts::<S>(S::fma(reset, hn, gn));
            let (entry, under) = (S::mul(pn, S::sub(qz, pz)), S::mul(two, S::mul(qz, qn)));
            let all = match p.before {
                Some(_) => S::fma(S::mul(S::add(qz, pz), S::load(p.h.add(at))), qn, entry),
                None => entry,
            };
            S::store(S::div(all, under), p.h.add(at));
        }
    }
}

#[inline(always)]
unsafe fn rnn_tile<S: Simd, const R: usize>(p: &Step<'_>, panel: usize, row: usize) {
    // SAFETY: the caller vouches for the rows and the panel.
    unsafe {
        let input = sums::<S, R, VECTORS>(p.x, p.first + row, p.input, panel);
        let mut sum = rows_of::<S, R, VECTORS>(p.biases.0.as_ptr().add(panel * VECTORS * LANES));
        add_scaled::<S, R, VECTORS>(&input, p.x, p.first + row, p.input, panel, &mut sum);
        if let Some(before) = p.before {
            let state = sums::<S, R, VECTORS>(before, row, p.recurrent, panel);
            add_scaled::<S, R, VECTORS>(&state, before, row, p.recurrent, panel, &mut sum);
        }
        for (r, sum) in sum.into_iter().enumerate() {
            for (v, sum) in sum.into_iter().enumerate() {
                let h = if p.activation == Activation::Relu {
                    S::max(sum, S::splat(0.0))
                } else {
                    let (p, q) = tanh_parts::<S>(sum);
                    S::div(p, q)
                };
                S::store(h, p.h.add((row + r) * p.stride + (panel * VECTORS + v) * LANES));
            }
        }
    }
}

/// Defines a step over all panels and rows from the tile of one.
macro_rules! step {
    ($body:ident, $tile:ident) => {
        #[inline(always)]
        unsafe fn $body<S: Simd, const R: usize>(p: Step<'_>) {
            for panel in 0..p.input.count() {
                let mut row = 0;
                // SAFETY: rows below `count` and panels that exist.
                unsafe {
                    while row + R <= p.count {
                        $tile::<S, R>(&p, panel, row);
                        row += R;
                    }
                    while row < p.count {
                        $tile::<S, 1>(&p, panel, row);
                        row += 1;
                    }
                }
            }
        }
    };
}
step!(lstm_body, lstm_tile);
step!(gru_body, gru_tile);
step!(rnn_body, rnn_tile);

on_each! {
    /// One LSTM step; see [`Step`].
    ///
    /// # Safety
    /// State and cell must be writable for `count` rows of the panels' units, the rows must hold what they say, and the
    /// panels be packed by gates; so for the other steps.
    pub(super) fn lstm_step(isa, p: Step<'_>) => lstm_body
}
on_each! {
    /// One GRU step.
    ///
    /// # Safety
    /// As [`lstm_step`].
    pub(super) fn gru_step(isa, p: Step<'_>) => gru_body
}
on_each! {
    /// One step of an Elman layer, whose panels are those of a plain product.
    ///
    /// # Safety
    /// As [`lstm_step`].
    pub(super) fn rnn_step(isa, p: Step<'_>) => rnn_body
}

/// Rows of floats to quantise, and where their bytes, scales and zeros go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quantise {
    pub(super) x: *const f32,
    /// From one row of floats to the next.
    pub(super) x_stride: usize,
    pub(super) k: usize,
    pub(super) rows: usize,
    pub(super) to: *mut u8,
    pub(super) stride: usize,
    pub(super) scales: *mut f32,
    pub(super) zeros: *mut i32,
}

#[inline(always)]
unsafe fn quantise_body<S: Simd, const R: usize>(q: Quantise) {
    for row in 0..q.rows {
        // SAFETY: the caller vouches for `rows` rows of each.
        unsafe {
            let (scale, zero) = S::quantise(q.x.add(row * q.x_stride), q.k, q.to.add(row * q.stride));
            *q.scales.add(row) = scale;
            *q.zeros.add(row) = zero;
        }
    }
}

on_each! {
    /// Quantises rows, each by its own range.
    ///
    /// # Safety
    /// Pointers must hold for `rows` rows, of `k` floats and of `stride ≥ k` bytes.
    pub(super) fn quantise(isa, q: Quantise) => quantise_body
}
