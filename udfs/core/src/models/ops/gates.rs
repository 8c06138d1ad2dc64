//! The element-wise halves of the recurrent cells, row by row over `[rows, gates · hidden]`.

use super::vectorise::vectorise;

vectorise! {
    /// One LSTM step. `gates [rows, 4·hidden]` (i, f, g, o) before activation become activated in place;
    /// `c_before` is empty at the first step.
    pub(super) fn lstm_forward<T>(hidden: usize, gates: &mut [T], c_before: &[T], c: &mut [T], h: &mut [T]) {
        for (row, gates) in gates.chunks_exact_mut(4 * hidden).enumerate() {
            let (gi, rest) = gates.split_at_mut(hidden);
            let (gf, rest) = rest.split_at_mut(hidden);
            let (gg, go) = rest.split_at_mut(hidden);
            let own = row * hidden..(row + 1) * hidden;
            let (c, h) = (&mut c[own.clone()], &mut h[own.clone()]);
            for j in 0..hidden {
                gi[j] = gi[j].sigmoid();
                gf[j] = gf[j].sigmoid();
                gg[j] = T::tanh(gg[j]);
                go[j] = go[j].sigmoid();
            }
            if c_before.is_empty() {
                for j in 0..hidden {
                    c[j] = gi[j] * gg[j];
                }
            } else {
                let before = &c_before[own];
                for j in 0..hidden {
                    c[j] = gf[j] * before[j] + gi[j] * gg[j];
                }
            }
            for j in 0..hidden {
                h[j] = go[j] * T::tanh(c[j]);
            }
        }
    }
}

vectorise! {
    /// One LSTM step back. Activated `gates` become the gradients before activation; `d_c` (in: from the step after,
    /// out: for the step before); `d_h` from the step after and `d_out` from above are added.
    pub(super) fn lstm_backward<T>(
        hidden: usize, gates: &mut [T], c: &[T], c_before: &[T], d_h: &[T], d_out: &[T], d_c: &mut [T], first: bool,
    ) {
        for (row, gates) in gates.chunks_exact_mut(4 * hidden).enumerate() {
            let (gi, rest) = gates.split_at_mut(hidden);
            let (gf, rest) = rest.split_at_mut(hidden);
            let (gg, go) = rest.split_at_mut(hidden);
            let own = row * hidden..(row + 1) * hidden;
            let (c, d_h, d_out, d_c) = (&c[own.clone()], &d_h[own.clone()], &d_out[own.clone()], &mut d_c[own.clone()]);
            for j in 0..hidden {
                let tanh_c = T::tanh(c[j]);
                let d = d_h[j] + d_out[j];
                let d_cell = d_c[j] + d * go[j] * (T::ONE - tanh_c * tanh_c);
                let (i, f, g, o) = (gi[j], gf[j], gg[j], go[j]);
                gi[j] = d_cell * g * i * (T::ONE - i);
                gg[j] = d_cell * i * (T::ONE - g * g);
                go[j] = d * tanh_c * o * (T::ONE - o);
                d_c[j] = d_cell * f;
                gf[j] = d_cell * f * (T::ONE - f);
            }
            if first {
                gf.iter_mut().for_each(|value| *value = T::ZERO);
            } else {
                for (gf, before) in gf.iter_mut().zip(&c_before[own]) {
                    *gf *= *before;
                }
            }
        }
    }
}

vectorise! {
    /// One GRU step. `gates [rows, 3·hidden]` (r, z, n): the input's share before activation, activated in place;
    /// `recurrent [rows, 3·hidden]`: the state's share with its bias; its n part stays as it is for the way back.
    /// `h_before` is empty at the first step.
    pub(super) fn gru_forward<T>(hidden: usize, gates: &mut [T], recurrent: &[T], h_before: &[T], h: &mut [T]) {
        for (row, gates) in gates.chunks_exact_mut(3 * hidden).enumerate() {
            let (gr, rest) = gates.split_at_mut(hidden);
            let (gz, gn) = rest.split_at_mut(hidden);
            let recurrent = &recurrent[row * 3 * hidden..(row + 1) * 3 * hidden];
            let (hr, rest) = recurrent.split_at(hidden);
            let (hz, hn) = rest.split_at(hidden);
            let own = row * hidden..(row + 1) * hidden;
            let h = &mut h[own.clone()];
            for j in 0..hidden {
                gr[j] = (gr[j] + hr[j]).sigmoid();
                gz[j] = (gz[j] + hz[j]).sigmoid();
                gn[j] = T::tanh(gn[j] + gr[j] * hn[j]);
            }
            if h_before.is_empty() {
                for j in 0..hidden {
                    h[j] = gn[j] - gz[j] * gn[j];
                }
            } else {
                let before = &h_before[own];
                for j in 0..hidden {
                    h[j] = gn[j] + gz[j] * (before[j] - gn[j]);
                }
            }
        }
    }
}

vectorise! {
    /// One GRU step back. Activated `gates` become the gradients of the input's share, `recurrent` (in: the state's
    /// share of n in its last third) those of the state's share; `d_h` (in: from the step after) becomes the part for
    /// the step before that does not go through the weights.
    pub(super) fn gru_backward<T>(
        hidden: usize, gates: &mut [T], recurrent: &mut [T], h_before: &[T], d_out: &[T], d_h: &mut [T], first: bool,
    ) {
        for (row, gates) in gates.chunks_exact_mut(3 * hidden).enumerate() {
            let (gr, rest) = gates.split_at_mut(hidden);
            let (gz, gn) = rest.split_at_mut(hidden);
            let recurrent = &mut recurrent[row * 3 * hidden..(row + 1) * 3 * hidden];
            let (hr, rest) = recurrent.split_at_mut(hidden);
            let (hz, hn) = rest.split_at_mut(hidden);
            let own = row * hidden..(row + 1) * hidden;
            let (d_out, d_h) = (&d_out[own.clone()], &mut d_h[own.clone()]);
            for j in 0..hidden {
                let before = if first { T::ZERO } else { h_before[row * hidden + j] };
                let d = d_h[j] + d_out[j];
                let (r, z, n) = (gr[j], gz[j], gn[j]);
                let d_n = d * (T::ONE - z) * (T::ONE - n * n);
                let d_z = d * (before - n) * z * (T::ONE - z);
                let d_r = d_n * hn[j] * r * (T::ONE - r);
                gr[j] = d_r;
                gz[j] = d_z;
                gn[j] = d_n;
                hr[j] = d_r;
                hz[j] = d_z;
                hn[j] = d_n * r;
                d_h[j] = d * z;
            }
        }
    }
}
