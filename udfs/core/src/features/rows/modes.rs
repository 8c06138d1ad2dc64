//! Mode-specific normalisation of a number column (Xu et al., CTGAN, 2019): a value is one of a few modes and a place within
//! it. The modes are a mixture of Gaussians, fitted by expectation maximisation; values that many rows share exactly (zero
//! sales, 40 hours) are modes without spread, and so is NULL (as in CTAB-GAN, Zhao et al., 2021).

use serde::{Deserialize, Serialize};

use crate::kernels::splitmix;

/// Gaussians at most.
const GAUSSIANS_MAX: usize = 10;
/// How many are tried; the one with the best information criterion (Schwarz, 1978) is kept.
const TRIED: [usize; 6] = [1, 2, 3, 5, 7, GAUSSIANS_MAX];
/// Gaussians of a smaller weight are left out.
const WEIGHT_MIN: f64 = 0.005;
/// Values that a fit looks at at most.
const VALUES_MAX: usize = 4000;
/// Turns of a fit at most, and the gain of a turn below which it ends.
const TURNS_MAX: usize = 60;
const GAIN_MIN: f64 = 1e-4;
/// Values that have a mode of their own at most, and the share of the rows that makes one.
const ATOMS_MAX: usize = 5;
const ATOM_SHARE: f64 = 0.05;
/// A place of ±1 is so many deviations from the middle of its mode.
const REACH: f64 = 4.0;
/// Decimal places that are looked for.
const DECIMALS_MAX: i32 = 6;

/// One Gaussian of a mixture.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Gaussian {
    /// Share of the values.
    pub weight: f64,
    /// Middle.
    pub mean: f64,
    /// Standard deviation.
    pub deviation: f64,
}

/// How numbers of a column become a mode and a place, and back. Modes: NULL if it occurs, then exact values, then Gaussians.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NumberModes {
    /// Whether NULL is the first mode.
    pub(super) nulls: bool,
    /// Values shared by many rows.
    pub(super) atoms: Vec<f64>,
    /// The others, in logarithms if `log`.
    pub(super) gaussians: Vec<Gaussian>,
    /// Whether the signed logarithm comes first.
    pub(super) log: bool,
    /// Decimal places of the source; negative: none that is common to all.
    pub(super) decimals: i32,
    /// The smallest and the largest value.
    pub(super) range: (f64, f64),
}

fn logarithm(value: f64) -> f64 {
    value.signum() * value.abs().ln_1p()
}

fn power(value: f64) -> f64 {
    value.signum() * value.abs().exp_m1()
}

impl NumberModes {
    /// Fits the modes to the values of a column; `None` = NULL. `whole`: the column's type has no fractions.
    #[must_use]
    pub fn fit(values: &[Option<f64>], whole: bool) -> Self {
        let mut known: Vec<f64> = values.iter().flatten().copied().collect();
        known.sort_unstable_by(f64::total_cmp);
        let range = known.first().copied().zip(known.last().copied()).unwrap_or((0.0, 0.0));
        let atoms = atoms(&known);
        let mut rest: Vec<f64> = known.iter().copied().filter(|value| !atoms.contains(value)).collect();
        let log = is_heavy_tailed(&rest);
        if log {
            rest.iter_mut().for_each(|value| *value = logarithm(*value));
        }
        let step = rest.len().div_ceil(VALUES_MAX).max(1);
        let sample: Vec<f64> = rest.iter().copied().skip(step / 2).step_by(step).collect();
        Self {
            nulls: known.len() < values.len(),
            atoms,
            gaussians: fit_mixture(&sample),
            log,
            decimals: if whole { 0 } else { decimals(&known) },
            range,
        }
    }

    /// How many modes there are; at least one.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "there is always a mode")]
    pub fn len(&self) -> usize {
        (usize::from(self.nulls) + self.atoms.len() + self.gaussians.len()).max(1)
    }

    /// The mode of a value and its place within it, in ±1. Between overlapping Gaussians `chance`, in `[0, 1)`, decides by
    /// how likely each is.
    #[must_use]
    pub fn encode(&self, value: Option<f64>, chance: f64) -> (u32, f32) {
        let first = usize::from(self.nulls);
        let Some(value) = value else { return (0, 0.0) };
        if let Some(atom) = self.atoms.iter().position(|atom| *atom == value) {
            return ((first + atom) as u32, 0.0);
        }
        let value = if self.log { logarithm(value) } else { value };
        let likely: Vec<f64> = log_likelihoods(&self.gaussians, value).collect();
        let largest = likely.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut left = chance * likely.iter().map(|likely| (likely - largest).exp()).sum::<f64>();
        let mut chosen = likely.len().saturating_sub(1);
        for (at, likely) in likely.iter().enumerate() {
            left -= (likely - largest).exp();
            if left < 0.0 {
                chosen = at;
                break;
            }
        }
        let place = self.gaussians.get(chosen).map_or(0.0, |own| (value - own.mean) / (REACH * own.deviation));
        (((first + self.atoms.len() + chosen).min(self.len() - 1)) as u32, place.clamp(-0.99, 0.99) as f32)
    }

    /// The value of a mode and a place, rounded and held in the range as the source is.
    #[must_use]
    pub fn decode(&self, mode: usize, place: f32) -> Option<f64> {
        let at = mode.checked_sub(usize::from(self.nulls))?;
        if let Some(atom) = self.atoms.get(at) {
            return Some(*atom);
        }
        let value = match self.gaussians.get(at - self.atoms.len()) {
            Some(own) => own.mean + f64::from(place.clamp(-1.0, 1.0)) * REACH * own.deviation,
            // A column of NULLs alone has no other mode.
            None => return Some(self.range.0).filter(|_| !self.nulls),
        };
        let value = if self.log { power(value) } else { value };
        let value = if self.decimals >= 0 {
            let unit = 10f64.powi(self.decimals);
            (value * unit).round() / unit
        } else {
            value
        };
        Some(value.clamp(self.range.0, self.range.1))
    }
}

/// Values that many of the sorted rows share, ascending.
fn atoms(sorted: &[f64]) -> Vec<f64> {
    let least = ((sorted.len() as f64 * ATOM_SHARE).ceil() as usize).max(2);
    let mut runs: Vec<(usize, f64)> = sorted.chunk_by(|a, b| a == b).map(|run| (run.len(), run[0])).filter(|run| run.0 >= least).collect();
    runs.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.total_cmp(&b.1)));
    runs.truncate(ATOMS_MAX);
    let mut atoms: Vec<f64> = runs.into_iter().map(|(_, value)| value).collect();
    atoms.sort_unstable_by(f64::total_cmp);
    atoms
}

/// Decimal places that are enough for every value; −1 when there is no such number.
fn decimals(values: &[f64]) -> i32 {
    let fits = |places: &i32| {
        let unit = 10f64.powi(*places);
        // What is stored as f32 is off by a part in ten million.
        values.iter().all(|value| (value * unit - (value * unit).round()).abs() <= 1e-7 * (value * unit).abs().max(1.0))
    };
    (0..=DECIMALS_MAX).find(fits).unwrap_or(-1)
}

/// Whether the signed logarithm makes a skewed column clearly less skewed.
fn is_heavy_tailed(values: &[f64]) -> bool {
    let skew = |values: &mut dyn Iterator<Item = f64>| {
        let (mut count, mut sums) = (0.0, [0.0f64; 3]);
        for value in values {
            count += 1.0;
            (0..3).for_each(|power| sums[power] += value.powi(power as i32 + 1));
        }
        let [mean, square, cube] = sums.map(|sum| sum / f64::max(count, 1.0));
        let variance = square - mean * mean;
        if variance > 1e-12 { (cube - 3.0 * mean * square + 2.0 * mean.powi(3)) / variance.powf(1.5) } else { 0.0 }
    };
    // About their mean, so that large numbers do not cancel out.
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    let plain = skew(&mut values.iter().map(|value| value - mean)).abs();
    let logs: f64 = values.iter().map(|value| logarithm(*value)).sum::<f64>() / values.len().max(1) as f64;
    plain > 1.5 && skew(&mut values.iter().map(|value| logarithm(*value) - logs)).abs() < 0.75 * plain
}

fn log_likelihoods(gaussians: &[Gaussian], value: f64) -> impl Iterator<Item = f64> {
    gaussians.iter().map(move |own| {
        let distance = (value - own.mean) / own.deviation;
        own.weight.max(1e-300).ln() - own.deviation.ln() - 0.5 * distance * distance
    })
}

/// The mixture of as many Gaussians as the sorted values justify; none without values.
#[must_use]
pub fn fit_mixture(sorted: &[f64]) -> Vec<Gaussian> {
    let count = sorted.len() as f64;
    if sorted.is_empty() {
        return Vec::new();
    }
    let mean = sorted.iter().sum::<f64>() / count;
    let spread = (sorted.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
    if spread <= 1e-12 * mean.abs().max(1.0) {
        return vec![Gaussian { weight: 1.0, mean, deviation: (mean.abs() * 1e-9).max(1e-9) }];
    }
    let mut best: Option<(f64, Vec<Gaussian>)> = None;
    for tried in TRIED.into_iter().filter(|tried| tried * 10 <= sorted.len() || *tried == 1) {
        let (gaussians, likelihood) = expectation_maximisation(sorted, tried, spread);
        let criterion = (3 * tried - 1) as f64 * count.ln() - 2.0 * likelihood;
        if best.as_ref().is_none_or(|(least, _)| criterion < *least) {
            best = Some((criterion, gaussians));
        }
    }
    let mut gaussians = best.map(|(_, gaussians)| gaussians).unwrap_or_default();
    gaussians.retain(|own| own.weight >= WEIGHT_MIN);
    let total: f64 = gaussians.iter().map(|own| own.weight).sum();
    gaussians.iter_mut().for_each(|own| own.weight /= total);
    gaussians
}

/// Dempster, Laird & Rubin, 1977: the mixture and the logarithm of its likelihood but for a constant. It begins with equal
/// parts of the sorted values.
fn expectation_maximisation(sorted: &[f64], count: usize, spread: f64) -> (Vec<Gaussian>, f64) {
    let least = spread * 1e-3;
    let part = |at: usize| &sorted[at * sorted.len() / count..((at + 1) * sorted.len() / count).max(at * sorted.len() / count + 1)];
    let mut gaussians: Vec<Gaussian> = (0..count)
        .map(|at| {
            let own = part(at);
            let mean = own.iter().sum::<f64>() / own.len() as f64;
            let variance = own.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / own.len() as f64;
            Gaussian { weight: 1.0 / count as f64, mean, deviation: variance.sqrt().max(least) }
        })
        .collect();
    let (mut before, mut shares) = (f64::NEG_INFINITY, vec![0.0; count]);
    for _ in 0..TURNS_MAX {
        let mut sums = vec![[0.0f64; 3]; count];
        let mut likelihood = 0.0;
        for value in sorted {
            shares.iter_mut().zip(log_likelihoods(&gaussians, *value)).for_each(|(share, likely)| *share = likely);
            let largest = shares.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            shares.iter_mut().for_each(|share| *share = (*share - largest).exp());
            let total: f64 = shares.iter().sum();
            likelihood += largest + total.ln();
            for ((sums, share), own) in sums.iter_mut().zip(&shares).zip(&gaussians) {
                let (share, distance) = (share / total, value - own.mean);
                sums[0] += share;
                sums[1] += share * distance;
                sums[2] += share * distance * distance;
            }
        }
        for (own, [share, first, second]) in gaussians.iter_mut().zip(sums) {
            if share > 1e-9 {
                let moved = first / share;
                own.mean += moved;
                own.deviation = (second / share - moved * moved).max(0.0).sqrt().max(least);
            }
            own.weight = share / sorted.len() as f64;
        }
        let gain = likelihood - before;
        before = likelihood;
        if gain.abs() < GAIN_MIN * sorted.len() as f64 {
            break;
        }
    }
    (gaussians, before)
}

/// The chance of row `row` in column `column`: a function of them and the seed.
pub(super) fn chance(seed: u64, column: usize, row: usize) -> f64 {
    splitmix::fraction(splitmix::at(seed ^ 0x0DE5, column as u64), row as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uniform(seed: u64, count: usize) -> impl Iterator<Item = f64> {
        (0..count as u64).map(move |at| splitmix::fraction(seed, at))
    }

    /// Standard normal numbers as sums of twelve uniform ones.
    fn normal(seed: u64, count: usize) -> Vec<f64> {
        (0..count).map(|at| uniform(splitmix::at(seed, at as u64), 12).sum::<f64>() - 6.0).collect()
    }

    #[test]
    fn a_mixture_is_taken_apart() {
        let mut values: Vec<f64> = normal(1, 3000).into_iter().map(|x| -5.0 + x).collect();
        values.extend(normal(2, 1000).into_iter().map(|x| 3.0 + 0.2 * x));
        values.sort_unstable_by(f64::total_cmp);
        let mut found = fit_mixture(&values);
        found.sort_by(|a, b| a.mean.total_cmp(&b.mean));
        let (left, right): (Vec<&Gaussian>, Vec<&Gaussian>) = found.iter().partition(|own| own.mean < 0.0);
        let weight = |part: &[&Gaussian]| part.iter().map(|own| own.weight).sum::<f64>();
        assert!((weight(&left) - 0.75).abs() < 0.02 && (weight(&right) - 0.25).abs() < 0.02, "{found:?}");
        assert!(right.iter().all(|own| (own.mean - 3.0).abs() < 0.3 && own.deviation < 0.3), "{found:?}");
        assert!(found.len() <= 3, "{found:?}");
        assert_eq!(fit_mixture(&[]), []);
        assert_eq!(fit_mixture(&[7.0; 30]).len(), 1);
    }

    #[test]
    fn values_come_back() {
        let values: Vec<Option<f64>> = (0..4000)
            .map(|at| match at % 10 {
                0 => None,
                1..=5 => Some(0.0),
                _ => Some((uniform(9, 4000).nth(at).unwrap() * 1e4).round() / 100.0 + 10.0),
            })
            .collect();
        let modes = NumberModes::fit(&values, false);
        assert_eq!((modes.nulls, modes.atoms.clone(), modes.decimals), (true, vec![0.0], 2));
        let mut worst = 0.0f64;
        for (row, value) in values.iter().enumerate() {
            let (mode, place) = modes.encode(*value, chance(1, 0, row));
            match (modes.decode(mode as usize, place), value) {
                (None, None) => {}
                (Some(got), Some(value)) => worst = worst.max((got - value).abs()),
                other => panic!("{other:?}"),
            }
            assert!(place.abs() < 1.0 && (mode as usize) < modes.len());
        }
        assert!(worst < 0.02, "{worst}");
        // Beyond the range and between the decimals nothing is made.
        let last = modes.len() - 1;
        for place in [-1.0, -0.123_456, 0.4, 1.0] {
            let value = modes.decode(last, place).unwrap();
            assert!((10.0..=110.0).contains(&value) && (value * 100.0 - (value * 100.0).round()).abs() < 1e-6);
        }
    }

    #[test]
    fn whole_numbers_constants_and_tails() {
        let whole = NumberModes::fit(&(0..500).map(|x| Some(f64::from(x * x % 499))).collect::<Vec<_>>(), true);
        assert!((0..10).all(|place| whole.decode(0, place as f32 / 10.0).unwrap().fract() == 0.0));
        let constant = NumberModes::fit(&[Some(5.5); 50], false);
        assert_eq!((constant.len(), constant.decode(0, 0.7)), (1, Some(5.5)));
        let nothing = NumberModes::fit(&[None; 5], false);
        assert_eq!((nothing.len(), nothing.decode(0, 0.0), nothing.encode(None, 0.5)), (1, None, (0, 0.0)));
        let tail = NumberModes::fit(&uniform(3, 3000).map(|u| Some((8.0 * u).exp())).collect::<Vec<_>>(), false);
        assert!(tail.log);
        assert_eq!(NumberModes::fit(&[], false).len(), 1);
        assert_eq!(decimals(&[0.5, 0.25, 1.0]), 2);
        assert_eq!(decimals(&[1.0 / 3.0]), -1);
    }
}
