//! Marketing attribution: which touchpoints a conversion is credited to.
//!
//! A conversion is worth [`UNITS`] units, an integer. Each rule gives its touches whole units that add up to it, by largest
//! remainders, so the credits of all channels add up to the conversions exactly. Markov and Shapley look at all
//! paths: [`Journeys`] collects them.

use std::collections::{BTreeMap, HashSet};

/// Units of one conversion: credits are decimals with twelve places.
pub const UNITS: u64 = 1_000_000_000_000;

/// Channels that Markov's model can tell apart: its equations take the cube of their number.
pub const MARKOV_CHANNELS_MAX: usize = 1_000;

/// A touchpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Touch {
    /// When.
    pub time: i64,
    /// Which channel.
    pub channel: u32,
}

/// How a conversion is credited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// All to the first touch.
    First,
    /// All to the last touch.
    Last,
    /// Equal shares for all touches.
    Linear,
    /// A touch counts half as much for every half-life that it is older.
    TimeDecay {
        /// In the unit of the times.
        half_life: u64,
    },
    /// 40 % to the first touch, 40 % to the last, 20 % to those between; halves for two.
    Position,
    /// By how many conversions are lost without the channel, in a first-order Markov chain of all paths.
    Markov,
    /// Shapley values of the game in which a set of channels wins the conversions whose touches all lie in it: equal shares for
    /// the different channels of each path.
    Shapley,
}

impl Model {
    /// All names.
    pub const NAMES: [&'static str; 7] = ["first", "last", "linear", "time_decay", "position", "markov", "shapley"];
}

/// Divides `total` in proportion to `weights` into whole units that add up to it: rounded down, then one more for the largest
/// remainders, ties to the earlier. Equal shares when no weight is positive. O(n log n).
#[must_use]
pub fn divide(total: u64, weights: &[f64]) -> Vec<u64> {
    let sum: f64 = weights.iter().sum();
    let even = !(sum.is_finite() && sum > 0.0);
    let shares = weights.iter().map(|weight| if even { total as f64 / weights.len() as f64 } else { total as f64 * (weight / sum) });
    let shares: Vec<f64> = shares.map(|share| share.clamp(0.0, total as f64)).collect();
    let mut units: Vec<u64> = shares.iter().map(|share| share.floor() as u64).collect();
    let mut order: Vec<usize> = (0..units.len()).collect();
    order.sort_by(|a, b| shares[*b].fract().total_cmp(&shares[*a].fract()).then(a.cmp(b)));
    let given: u64 = units.iter().sum();
    // Rounding of the shares themselves may leave a few units more or less than one each.
    let (mut missing, mut over) = (total.saturating_sub(given), given.saturating_sub(total));
    for place in order.iter().cycle().take(order.len() * 64) {
        if missing == 0 {
            break;
        }
        units[*place] += 1;
        missing -= 1;
    }
    for place in order.iter().rev() {
        let taken = over.min(units[*place]);
        units[*place] -= taken;
        over -= taken;
    }
    if let Some(first) = units.first_mut() {
        *first += missing;
    }
    units
}

/// The paths of all users: conversions with the touches before them, and touches that led nowhere.
#[derive(Debug, Clone)]
pub struct Journeys {
    model: Model,
    /// Units by channel; `None` is a conversion without a touch.
    credits: BTreeMap<Option<u32>, u128>,
    conversions: u64,
    /// Markov: how often one node follows another.
    steps: BTreeMap<(Node, Node), u64>,
}

/// A node of Markov's chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Node {
    Start,
    Channel(u32),
    Conversion,
    Nothing,
}

impl Journeys {
    /// No paths yet.
    #[must_use]
    pub const fn new(model: Model) -> Self {
        Self { model, credits: BTreeMap::new(), conversions: 0, steps: BTreeMap::new() }
    }

    /// A conversion at `time` after `touches`, in order. Calls `credited` with each touch's channel and units, unless the model
    /// needs all paths first. O(touches log touches).
    pub fn converted(&mut self, time: i64, touches: &[Touch], credited: &mut dyn FnMut(Option<u32>, u64)) {
        self.conversions += 1;
        let Some(last) = touches.len().checked_sub(1) else {
            *self.credits.entry(None).or_default() += u128::from(UNITS);
            credited(None, UNITS);
            return;
        };
        if self.model == Model::Markov {
            self.walk(touches, Node::Conversion);
            return;
        }
        let mut channels: Vec<u32> = touches.iter().map(|touch| touch.channel).collect();
        let weights: Vec<f64> = match self.model {
            Model::First => (0..=last).map(|at| f64::from(u8::from(at == 0))).collect(),
            Model::Last => (0..=last).map(|at| f64::from(u8::from(at == last))).collect(),
            Model::TimeDecay { half_life } => touches.iter().map(|touch| decay(touch.time, time, half_life)).collect(),
            Model::Position => (0..=last).map(|at| position(at, last)).collect(),
            Model::Shapley => {
                let mut seen = HashSet::new();
                channels.retain(|channel| seen.insert(*channel));
                vec![1.0; channels.len()]
            }
            Model::Linear | Model::Markov => vec![1.0; touches.len()],
        };
        for (channel, units) in channels.iter().zip(divide(UNITS, &weights)).filter(|(_, units)| *units > 0) {
            *self.credits.entry(Some(*channel)).or_default() += u128::from(units);
            credited(Some(*channel), units);
        }
    }

    /// Touches that no conversion followed; they matter to Markov's chain alone.
    pub fn ended(&mut self, touches: &[Touch]) {
        if self.model == Model::Markov && !touches.is_empty() {
            self.walk(touches, Node::Nothing);
        }
    }

    fn walk(&mut self, touches: &[Touch], end: Node) {
        let mut from = Node::Start;
        for to in touches.iter().map(|touch| Node::Channel(touch.channel)).chain([end]) {
            *self.steps.entry((from, to)).or_default() += 1;
            from = to;
        }
    }

    /// The same paths with other numbers for the channels: `names[old]` is the new one. Credits of equal remainders and sums of
    /// doubles follow the numbers, so give them an order of their own before [`credits`](Self::credits).
    #[must_use]
    pub fn relabelled(&self, names: &[u32]) -> Self {
        let name = |old: u32| names.get(old as usize).copied().unwrap_or(old);
        let node = |node: Node| if let Node::Channel(channel) = node { Node::Channel(name(channel)) } else { node };
        Self {
            model: self.model,
            conversions: self.conversions,
            credits: self.credits.iter().map(|(channel, units)| (channel.map(name), *units)).collect(),
            steps: self.steps.iter().map(|((from, to), count)| ((node(*from), node(*to)), *count)).collect(),
        }
    }

    /// Bytes on the heap, about.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.credits.len() * 64 + self.steps.len() * 64
    }

    /// Conversions so far.
    #[must_use]
    pub const fn conversions(&self) -> u64 {
        self.conversions
    }

    /// Adds the paths of other users.
    pub fn merge(&mut self, other: &Self) {
        self.conversions += other.conversions;
        for (channel, units) in &other.credits {
            *self.credits.entry(*channel).or_default() += units;
        }
        for (step, count) in &other.steps {
            *self.steps.entry(*step).or_default() += count;
        }
    }

    /// Units by channel; they add up to [`UNITS`] times the conversions. `None` when Markov's model has too many channels.
    #[must_use]
    pub fn credits(&self) -> Option<BTreeMap<Option<u32>, u128>> {
        let mut credits = self.credits.clone();
        if self.model == Model::Markov {
            let channels: Vec<u32> = self.channels();
            if channels.len() > MARKOV_CHANNELS_MAX {
                return None;
            }
            let given: u128 = credits.values().sum();
            let rest = u128::from(self.conversions) * u128::from(UNITS) - given;
            for (channel, units) in channels.iter().zip(share_out(rest, &self.removal_effects(&channels))) {
                if units > 0 {
                    *credits.entry(Some(*channel)).or_default() += units;
                }
            }
        }
        Some(credits)
    }

    fn channels(&self) -> Vec<u32> {
        let channel = |(_, to): &(Node, Node)| if let Node::Channel(channel) = to { Some(*channel) } else { None };
        let mut channels: Vec<u32> = self.steps.keys().filter_map(channel).collect();
        channels.sort_unstable();
        channels.dedup();
        channels
    }

    /// For each channel the probability that a path passes it and converts. With `n` channels O(n³).
    ///
    /// With the fundamental matrix `N = (I − Q)⁻¹`, a path from the start meets channel `i` with probability
    /// `(s N)ᵢ / Nᵢᵢ`, and converts from there with `(N r)ᵢ`; without the channel exactly those conversions are lost.
    fn removal_effects(&self, channels: &[u32]) -> Vec<f64> {
        let n = channels.len();
        let place = |node: Node| if let Node::Channel(channel) = node { channels.binary_search(&channel).ok() } else { None };
        let mut totals: BTreeMap<Node, f64> = BTreeMap::new();
        for ((from, _), count) in &self.steps {
            *totals.entry(*from).or_default() += *count as f64;
        }
        let (mut matrix, mut start, mut convert) = (vec![0.0; n * n], vec![0.0; n], vec![0.0; n]);
        (0..n).for_each(|at| matrix[at * n + at] = 1.0);
        for ((from, to), count) in &self.steps {
            let probability = *count as f64 / totals[from];
            match (place(*from), place(*to)) {
                (Some(from), Some(to)) => matrix[from * n + to] -= probability,
                (None, Some(to)) => start[to] += probability,
                (Some(from), None) if *to == Node::Conversion => convert[from] += probability,
                _ => {}
            }
        }
        let inverse = invert(matrix, n);
        let row = |i: usize| &inverse[i * n..(i + 1) * n];
        (0..n)
            .map(|i| {
                let visits: f64 = (0..n).map(|from| start[from] * row(from)[i]).sum();
                let from_there: f64 = row(i).iter().zip(&convert).map(|(visits, convert)| visits * convert).sum();
                let meets = if row(i)[i] > 0.0 { visits / row(i)[i] } else { 0.0 };
                (meets * from_there).max(0.0)
            })
            .collect()
    }
}

/// [`divide`] for totals beyond 64 bits: conversion by conversion would be the same for all, so the quotient is shared.
fn share_out(total: u128, weights: &[f64]) -> Vec<u128> {
    let units = u128::from(UNITS);
    let (whole, rest) = (total / units, total % units);
    let one = divide(UNITS, weights);
    let mut shares: Vec<u128> = one.iter().map(|unit| u128::from(*unit) * whole).collect();
    let last = divide(u64::try_from(rest).unwrap_or(0), weights);
    shares.iter_mut().zip(last).for_each(|(share, more)| *share += u128::from(more));
    shares
}

fn decay(touch: i64, conversion: i64, half_life: u64) -> f64 {
    let age = conversion.abs_diff(touch) as f64;
    (-age / half_life.max(1) as f64).exp2()
}

fn position(at: usize, last: usize) -> f64 {
    match last {
        0 => 1.0,
        1 => 0.5,
        _ if at == 0 || at == last => 0.4,
        _ => 0.2 / (last - 1) as f64,
    }
}

/// The inverse of a matrix with a dominant diagonal: Gauss and Jordan with row pivots.
fn invert(mut matrix: Vec<f64>, n: usize) -> Vec<f64> {
    let mut inverse = vec![0.0; n * n];
    (0..n).for_each(|at| inverse[at * n + at] = 1.0);
    for column in 0..n {
        let by_size = |a: &usize, b: &usize| matrix[a * n + column].abs().total_cmp(&matrix[b * n + column].abs());
        let Some(pivot) = (column..n).max_by(by_size).filter(|row| matrix[row * n + column] != 0.0) else { continue };
        for at in 0..n {
            matrix.swap(column * n + at, pivot * n + at);
            inverse.swap(column * n + at, pivot * n + at);
        }
        let scale = 1.0 / matrix[column * n + column];
        for at in 0..n {
            matrix[column * n + at] *= scale;
            inverse[column * n + at] *= scale;
        }
        let (pivot_row, pivot_inverse) = (matrix[column * n..][..n].to_vec(), inverse[column * n..][..n].to_vec());
        for row in (0..n).filter(|row| *row != column) {
            let factor = matrix[row * n + column];
            if factor != 0.0 {
                for at in 0..n {
                    matrix[row * n + at] -= factor * pivot_row[at];
                    inverse[row * n + at] -= factor * pivot_inverse[at];
                }
            }
        }
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::splitmix;

    fn touches(list: &[(i64, u32)]) -> Vec<Touch> {
        list.iter().map(|(time, channel)| Touch { time: *time, channel: *channel }).collect()
    }

    #[track_caller]
    fn check(model: Model, list: &[(i64, u32)], expected: &[(Option<u32>, f64)]) {
        let mut journeys = Journeys::new(model);
        journeys.converted(100, &touches(list), &mut |_, _| {});
        let credits = journeys.credits().unwrap();
        let shown: Vec<(Option<u32>, f64)> = credits.iter().map(|(channel, units)| (*channel, *units as f64 / UNITS as f64)).collect();
        assert_eq!(shown, expected, "{model:?}");
    }

    #[test]
    fn rules() {
        let path = [(90, 1), (95, 2), (100, 1)];
        check(Model::First, &path, &[(Some(1), 1.0)]);
        check(Model::Last, &[(90, 1), (95, 2)], &[(Some(2), 1.0)]);
        check(Model::Linear, &path, &[(Some(1), 0.666_666_666_667), (Some(2), 0.333_333_333_333)]);
        check(Model::Position, &path, &[(Some(1), 0.8), (Some(2), 0.2)]);
        check(Model::Position, &[(1, 1), (2, 2)], &[(Some(1), 0.5), (Some(2), 0.5)]);
        check(Model::TimeDecay { half_life: 10 }, &[(90, 1), (100, 2)], &[(Some(1), 0.333_333_333_333), (Some(2), 0.666_666_666_667)]);
        check(Model::TimeDecay { half_life: 0 }, &[(i64::MIN, 1), (i64::MIN + 1, 2)], &[(Some(1), 0.5), (Some(2), 0.5)]);
        check(Model::Shapley, &path, &[(Some(1), 0.5), (Some(2), 0.5)]);
        check(Model::Last, &[], &[(None, 1.0)]);
    }

    #[test]
    fn markov_counts_what_is_lost_without_a_channel() {
        // Anderl et al.'s way of counting: paths 1-2 converts, 2 does not, 1 converts.
        // Start goes to 1 with 2/3, to 2 with 1/3; 1 to 2 and to conversion with 1/2 each; 2 to conversion and to nothing with 1/2.
        let mut journeys = Journeys::new(Model::Markov);
        journeys.converted(9, &touches(&[(1, 1), (2, 2)]), &mut |_, _| {});
        journeys.converted(9, &touches(&[(1, 1)]), &mut |_, _| {});
        journeys.ended(&touches(&[(1, 2)]));
        // P(conversion) = 2/3; via 1: 2/3 · 3/4 = 1/2; via 2: (1/3 + 1/3) · 1/2 = 1/3. Shares 3/5 and 2/5 of two conversions.
        let credits = journeys.credits().unwrap();
        assert_eq!(credits.values().sum::<u128>(), 2 * u128::from(UNITS));
        assert!((credits[&Some(1)] as f64 / UNITS as f64 - 1.2).abs() < 1e-9, "{credits:?}");
    }

    #[test]
    fn credits_add_up_to_the_conversions() {
        let models =
            [Model::First, Model::Last, Model::Linear, Model::Position, Model::Markov, Model::Shapley, Model::TimeDecay { half_life: 3 }];
        for (model, seed) in models.into_iter().flat_map(|model| (0..1_500).map(move |seed| (model, seed))) {
            let mut parts = [Journeys::new(model), Journeys::new(model)];
            let mut whole = Journeys::new(model);
            for path in 0..6 {
                let length = splitmix::at(seed, path) % 7;
                let touch = |i| Touch { time: i as i64, channel: (splitmix::at(seed, 100 * path + i) % 4) as u32 };
                let path_touches: Vec<Touch> = (0..length).map(touch).collect();
                for journeys in [&mut parts[(path % 2) as usize], &mut whole] {
                    if splitmix::at(seed, 900 + path).is_multiple_of(3) {
                        journeys.ended(&path_touches);
                    } else {
                        let mut given = 0;
                        journeys.converted(length as i64, &path_touches, &mut |_, units| given += units);
                        assert!(given == UNITS || model == Model::Markov);
                    }
                }
            }
            let [mut left, right] = parts;
            left.merge(&right);
            let credits = whole.credits().unwrap();
            assert_eq!(left.credits().unwrap(), credits);
            assert_eq!(credits.values().sum::<u128>(), u128::from(UNITS) * u128::from(whole.conversions()), "{model:?}");
        }
    }

    #[test]
    fn division_is_exact() {
        for seed in 0..10_000 {
            let weights: Vec<f64> = (0..1 + splitmix::at(seed, 0) % 9)
                .map(|i| splitmix::fraction(seed, i) * 10_f64.powi((splitmix::at(seed, 30 + i) % 40) as i32 - 20))
                .collect();
            let total = splitmix::at(seed, 99) % (UNITS + 1);
            assert_eq!(divide(total, &weights).iter().sum::<u64>(), total, "{weights:?}");
        }
        assert_eq!(divide(10, &[0.0, f64::NAN]).iter().sum::<u64>(), 10);
        assert_eq!(divide(10, &[]), Vec::<u64>::new());
    }
}
