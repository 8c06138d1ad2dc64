//! FTRL-Proximal (McMahan et al., "Ad click prediction: a view from the trenches", 2013): per-coordinate steps that leave
//! the weights of what occurs rarely and says little at exactly zero. What linear models of many sparse features learn by.
//!
//! The state is `z`, the sum of the gradients less what they would have moved, and `n`, the sum of their squares; a weight is
//! a function of both.

use super::vectorise::vectorise;

/// Parameters whose names begin so are learned by it, whatever the rule of the others: the wide part of wide and deep
/// networks (Cheng et al., 2016).
pub const FTRL_PREFIX: &str = "wide.";

/// Step size of the rule over that of the others, whose gradients are scaled.
const RATE: f64 = 50.0;
/// Keeps the first steps small.
const BETA: f64 = 1.0;
/// What a weight's gradients must come to before it leaves zero.
const L1: f64 = 5e-3;
/// Pull towards zero.
const L2: f64 = 1e-3;

vectorise! {
    /// One step; `T` is always `f32`. `c`: clip, 1/step size, β/step size + λ₂, λ₁.
    fn ftrl<T>(w: &mut [T], g: &[T], z: &mut [T], n: &mut [T], c: [T; 4]) {
        let count = w.len();
        let (g, z, n) = (&g[..count], &mut z[..count], &mut n[..count]);
        let [clip, slow, pull, l1] = c;
        for i in 0..count {
            let gradient = g[i] * clip;
            let before = T::sqrt(n[i]);
            n[i] += gradient * gradient;
            let after = T::sqrt(n[i]);
            z[i] += gradient - (after - before) * slow * w[i];
            let beyond = (T::abs(z[i]) - l1).larger(T::ZERO);
            let towards = if z[i] < T::ZERO { beyond } else { -beyond };
            w[i] = towards / (after * slow + pull);
        }
    }
}

/// One step of `weights` by `gradient · clip`; `z` and `n` are empty before the first one.
pub(super) fn step(weights: &mut [f32], gradient: &[f32], z: &mut Vec<f32>, n: &mut Vec<f32>, clip: f64, learning_rate: f64) {
    // A rate of zero is a step of nothing, not a division by it.
    let slow = 1.0 / (RATE * learning_rate).max(1e-12);
    let pull = BETA * slow + L2;
    if z.is_empty() {
        // The state whose weights these are: a start from given weights keeps them.
        z.extend(weights.iter().map(|w| if *w == 0.0 { 0.0 } else { -(w * pull as f32) - w.signum() * L1 as f32 }));
    }
    n.resize(gradient.len(), 0.0);
    ftrl(weights, gradient, z, n, [clip, slow, pull, L1].map(|value| value as f32));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published algorithm, one coordinate in double precision.
    fn reference(gradients: &[f64], alpha: f64) -> f64 {
        let (mut w, mut z, mut n) = (0f64, 0f64, 0f64);
        for g in gradients {
            let sigma = ((n + g * g).sqrt() - n.sqrt()) / alpha;
            z += g - sigma * w;
            n += g * g;
            w = if z.abs() <= L1 { 0.0 } else { -(z - z.signum() * L1) / ((BETA + n.sqrt()) / alpha + L2) };
        }
        w
    }

    #[test]
    fn steps_are_the_published_ones() {
        let gradients = [[0.2f32, -0.001, 0.3], [0.1, 0.002, -0.5], [0.4, 0.001, 0.1]];
        let (mut w, mut z, mut n) = (vec![0f32; 3], Vec::new(), Vec::new());
        gradients.iter().for_each(|g| step(&mut w, g, &mut z, &mut n, 0.5, 2e-3));
        for at in 0..3 {
            let own: Vec<f64> = gradients.iter().map(|g| f64::from(g[at]) * 0.5).collect();
            let expected = reference(&own, RATE * 2e-3);
            assert!((f64::from(w[at]) - expected).abs() < 1e-6, "{} instead of {expected}", w[at]);
        }
        // Small gradients of both signs say nothing.
        assert!(w[0] < 0.0 && w[1] == 0.0);
    }

    #[test]
    fn given_weights_stay_where_nothing_pulls() {
        let (mut w, mut z, mut n) = (vec![0.5f32, -2.0, 0.0], Vec::new(), Vec::new());
        step(&mut w, &[0.0; 3], &mut z, &mut n, 1.0, 2e-3);
        assert!((w[0] - 0.5).abs() < 1e-5 && (w[1] + 2.0).abs() < 1e-5 && w[2] == 0.0, "{w:?}");
    }
}
