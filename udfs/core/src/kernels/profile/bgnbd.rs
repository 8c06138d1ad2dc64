//! Life-time value of customers who come and go unseen: BG/NBD (Fader, Hardie & Lee, "Counting Your Customers the Easy Way", 2005)
//! for how often they buy and whether they are still there, Gamma-Gamma (Fader & Hardie, 2013) for how much they spend.
//!
//! Fitting is Newton's method on the logarithms of the parameters with analytic gradients, from the customary starting point; the
//! customers are summed in the order given, so equal inputs give equal parameters.

use crate::kernels::stats::special::{digamma, hypergeometric, ln_beta, ln_gamma};

/// A customer's purchases: repeat purchases, time of the last one and of observation, both since the first, in any unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Customer {
    /// Repeat purchases.
    pub frequency: f64,
    /// From the first purchase to the last.
    pub recency: f64,
    /// From the first purchase to the end of observation.
    pub age: f64,
}

/// The parameters of BG/NBD.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BgNbd {
    /// Shape of the purchase rate.
    pub r: f64,
    /// Scale of the purchase rate.
    pub alpha: f64,
    /// First shape of the dropout probability.
    pub a: f64,
    /// Second shape of the dropout probability.
    pub b: f64,
}

/// The parameters of Gamma-Gamma.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GammaGamma {
    /// Shape of a purchase's value.
    pub p: f64,
    /// Shape of its scale.
    pub q: f64,
    /// Scale of its scale.
    pub v: f64,
}

/// Why nothing could be fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FitError {
    /// No customers with repeat purchases, or none at all.
    TooFew,
    /// The likelihood has no inner maximum, or it was not reached.
    NotFound,
    /// The caller asked to stop.
    Cancelled,
}

/// Steps of Newton's method, at most.
const STEPS_MAX: usize = 500;

impl BgNbd {
    /// Fits the parameters to customers; also the log-likelihood. `stop` is asked once per pass over the customers.
    ///
    /// # Errors
    /// As [`FitError`] says.
    pub fn fit(customers: &[Customer], stop: &dyn Fn() -> bool) -> Result<(Self, f64), FitError> {
        if !customers.iter().any(|customer| customer.frequency > 0.0) {
            return Err(FitError::TooFew);
        }
        // The scale of time goes into the starting point, so that any unit finds its way.
        let mean_age = customers.iter().map(|customer| customer.age).sum::<f64>() / customers.len() as f64;
        let start = [1.0, mean_age.max(f64::MIN_POSITIVE), 1.0, 1.0];
        let (found, likelihood) = maximise(start, stop, |x| {
            let model = Self { r: x[0], alpha: x[1], a: x[2], b: x[3] };
            let (mut sum, mut gradient) = (0.0, [0.0; 4]);
            for customer in customers {
                let (value, slope) = model.likelihood(customer);
                sum += value;
                gradient.iter_mut().zip(slope).for_each(|(total, slope)| *total += slope);
            }
            (sum, gradient)
        })?;
        Ok((Self { r: found[0], alpha: found[1], a: found[2], b: found[3] }, likelihood))
    }

    /// One customer's log-likelihood and its derivatives by r, α, a, b.
    fn likelihood(&self, customer: &Customer) -> (f64, [f64; 4]) {
        let Self { r, alpha, a, b } = *self;
        let Customer { frequency: x, recency, age } = *customer;
        let (alive_time, gone_time) = ((alpha + age).ln(), (alpha + recency).ln());
        let common = ln_gamma(r + x) - ln_gamma(r) + r * alpha.ln() + ln_beta(a, b + x) - ln_beta(a, b);
        let alive = -(r + x) * alive_time;
        // P(gone after the last purchase), relative to the common factor; a customer who never came back is alive.
        let gone = if x > 0.0 { a.ln() - (b + x - 1.0).ln() - (r + x) * gone_time } else { f64::NEG_INFINITY };
        let top = alive.max(gone);
        let (alive_part, gone_part) = ((alive - top).exp(), (gone - top).exp());
        let value = common + top + (alive_part + gone_part).ln();
        let share = gone_part / (alive_part + gone_part);
        let slopes = [
            digamma(r + x) - digamma(r) + alpha.ln() - (1.0 - share) * alive_time - share * gone_time,
            r / alpha - (r + x) * ((1.0 - share) / (alpha + age) + share / (alpha + recency)),
            digamma(a + b) - digamma(a + b + x) + share / a,
            digamma(b + x) - digamma(b) + digamma(a + b) - digamma(a + b + x) - if x > 0.0 { share / (b + x - 1.0) } else { 0.0 },
        ];
        (value, slopes)
    }

    /// The probability that the customer is still one.
    #[must_use]
    pub fn alive(&self, customer: &Customer) -> f64 {
        let Self { r, alpha, a, b } = *self;
        let Customer { frequency: x, recency, age } = *customer;
        if x == 0.0 {
            return 1.0;
        }
        let odds = a.ln() - (b + x - 1.0).ln() + (r + x) * ((alpha + age) / (alpha + recency)).ln();
        1.0 / (1.0 + odds.exp())
    }

    /// Purchases expected within `horizon` from now.
    #[must_use]
    pub fn expected_purchases(&self, customer: &Customer, horizon: f64) -> f64 {
        let Self { r, alpha, a, b } = *self;
        let Customer { frequency: x, age, .. } = *customer;
        let z = horizon / (alpha + age + horizon);
        let series = hypergeometric(r + x, b + x, a + b + x - 1.0, z);
        let shrink = ((alpha + age) / (alpha + age + horizon)).ln() * (r + x);
        (a + b + x - 1.0) / (a - 1.0) * (1.0 - shrink.exp() * series) * self.alive(customer)
    }
}

impl GammaGamma {
    /// Fits the parameters to (purchases, mean value) of customers who came back and spent something.
    ///
    /// # Errors
    /// As [`FitError`] says.
    pub fn fit(spends: &[(f64, f64)], stop: &dyn Fn() -> bool) -> Result<(Self, f64), FitError> {
        if spends.len() < 2 {
            return Err(FitError::TooFew);
        }
        let mean = spends.iter().map(|(_, value)| value).sum::<f64>() / spends.len() as f64;
        let (found, likelihood) = maximise([2.0, 2.0, mean], stop, |x| {
            let [p, q, v] = *x;
            let (mut sum, mut gradient) = (0.0, [0.0; 3]);
            for (count, value) in spends {
                let (shape, scale) = (p * count, v + count * value);
                sum += -ln_beta(shape, q) + q * v.ln() + (shape - 1.0) * value.ln() + shape * count.ln() - (shape + q) * scale.ln();
                let both = digamma(shape + q);
                gradient[0] += count * (both - digamma(shape) + value.ln() + count.ln() - scale.ln());
                gradient[1] += both - digamma(q) + v.ln() - scale.ln();
                gradient[2] += q / v - (shape + q) / scale;
            }
            (sum, gradient)
        })?;
        Ok((Self { p: found[0], q: found[1], v: found[2] }, likelihood))
    }

    /// The value expected of a purchase of a customer with `count` purchases of a mean value.
    #[must_use]
    pub fn expected_value(&self, count: f64, mean: f64) -> f64 {
        let Self { p, q, v } = *self;
        p * (v + count * mean) / (p * count + q - 1.0)
    }
}

/// What a parameter's logarithm costs at a distance of 1 from its start where the likelihood alone has no inner maximum: far
/// less than one customer says, enough to end a slope that rises forever (nobody ever drops out, everybody buys alike).
const RIDGE: f64 = 0.01;

/// Maximises a likelihood over positive parameters; where it rises towards 0 or infinity, with the faint preference [`RIDGE`]
/// for the start. Also the likelihood there.
fn maximise<const N: usize>(
    start: [f64; N],
    stop: &dyn Fn() -> bool,
    likelihood: impl Fn(&[f64; N]) -> (f64, [f64; N]),
) -> Result<([f64; N], f64), FitError> {
    match climb(start, stop, 0.0, &likelihood) {
        Err(FitError::NotFound) => {
            let (found, _) = climb(start, stop, RIDGE, &likelihood)?;
            Ok((found, likelihood(&found).0))
        }
        other => other,
    }
}

/// BFGS on the logarithms of the parameters with backtracking (Nocedal & Wright, 2006, ch. 6).
fn climb<const N: usize>(
    start: [f64; N],
    stop: &dyn Fn() -> bool,
    ridge: f64,
    likelihood: &impl Fn(&[f64; N]) -> (f64, [f64; N]),
) -> Result<([f64; N], f64), FitError> {
    // Of the logarithms, and as a cost.
    let cost = |log: &[f64; N]| {
        let x = log.map(f64::exp);
        let (value, slope) = likelihood(&x);
        let (mut gradient, mut cost) = ([0.0; N], -value);
        for i in 0..N {
            let away = log[i] - start[i].ln();
            cost += ridge * away * away;
            gradient[i] = 2.0 * ridge * away - slope[i] * x[i];
        }
        (cost, gradient)
    };
    let mut log = start.map(f64::ln);
    let (mut value, mut gradient) = cost(&log);
    let mut inverse = identity::<N>(1.0 / norm(&gradient).max(1.0));
    for _ in 0..STEPS_MAX {
        if stop() {
            return Err(FitError::Cancelled);
        }
        let mut step = times(&inverse, &gradient).map(|value| -value);
        let mut slope = dot(&step, &gradient);
        if slope >= 0.0 || slope.is_nan() {
            inverse = identity(1.0 / norm(&gradient).max(1.0));
            step = times(&inverse, &gradient).map(|value| -value);
            slope = dot(&step, &gradient);
        }
        // What rounding leaves of the gradient of a sum of this size.
        if -slope <= 1e-15 * value.abs().max(1.0) {
            let found = log.map(f64::exp);
            return if found.iter().all(|x| x.is_finite() && *x > 1e-12 && *x < 1e12) {
                Ok((found, -value))
            } else {
                Err(FitError::NotFound)
            };
        }
        // Steps are at most e² in any parameter.
        let longest = step.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
        let mut size = if longest > 2.0 { 2.0 / longest } else { 1.0 };
        let (next, next_value, next_gradient) = loop {
            let mut next = log;
            (0..N).for_each(|i| next[i] += size * step[i]);
            let (next_value, next_gradient) = cost(&next);
            if next_value <= value + 1e-4 * size * slope {
                break (next, next_value, next_gradient);
            }
            size *= 0.5;
            if size < 1e-12 {
                // Nothing better is within reach of a double.
                let found = log.map(f64::exp);
                let flat = norm(&gradient) <= 1e-5 * value.abs().max(1.0);
                return if flat { Ok((found, -value)) } else { Err(FitError::NotFound) };
            }
        };
        let (mut moved, mut turned) = ([0.0; N], [0.0; N]);
        (0..N).for_each(|i| (moved[i], turned[i]) = (next[i] - log[i], next_gradient[i] - gradient[i]));
        update(&mut inverse, &moved, &turned);
        (log, value, gradient) = (next, next_value, next_gradient);
    }
    Err(FitError::NotFound)
}

type Matrix<const N: usize> = [[f64; N]; N];

fn identity<const N: usize>(scale: f64) -> Matrix<N> {
    let mut matrix = [[0.0; N]; N];
    (0..N).for_each(|i| matrix[i][i] = scale);
    matrix
}

fn dot<const N: usize>(a: &[f64; N], b: &[f64; N]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm<const N: usize>(a: &[f64; N]) -> f64 {
    dot(a, a).sqrt()
}

fn times<const N: usize>(matrix: &Matrix<N>, vector: &[f64; N]) -> [f64; N] {
    std::array::from_fn(|i| dot(&matrix[i], vector))
}

/// The BFGS update of the inverse Hessian; left alone where the curvature is not positive.
fn update<const N: usize>(inverse: &mut Matrix<N>, moved: &[f64; N], turned: &[f64; N]) {
    let curvature = dot(moved, turned);
    if curvature <= 1e-14 * norm(moved) * norm(turned) || curvature.is_nan() {
        return;
    }
    let bent = times(inverse, turned);
    let factor = 1.0 + dot(turned, &bent) / curvature;
    for i in 0..N {
        for j in 0..N {
            inverse[i][j] += (factor * moved[i] * moved[j] - bent[i] * moved[j] - moved[i] * bent[j]) / curvature;
        }
    }
}

#[cfg(test)]
mod tests;
