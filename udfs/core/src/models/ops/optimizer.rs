//! Fused optimizer steps over named parameters, with the gradient's global norm clipped. The state can be taken out and
//! put back, so that a stopped training goes on to the bit.
//!
//! A large table of which a step read few rows is updated lazily: only those rows, their moments and their weights move,
//! and each row counts its own steps for the bias correction (as LazyAdam and `torch.optim.SparseAdam` do, which count the
//! table's). So a step costs what it read, whatever the size of the table. What differs from a dense step: moments of
//! rows that were not read do not fade, and weight decay reaches a row only when it is read.
//!
//! The wide part of a network has [a rule of its own](super::ftrl).

use std::collections::BTreeMap;
use std::sync::Mutex;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::ftrl::{self, FTRL_PREFIX};
use super::parallel;
use super::storage::{modify, read};
use super::tape::RowSums;
use super::vectorise::vectorise;
use crate::error::{Error, Result};

/// Which update rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerKind {
    /// Momentum; weight decay joins the gradient.
    Sgd,
    /// Kingma & Ba, 2015; weight decay joins the gradient.
    Adam,
    /// Loshchilov & Hutter, 2019; weight decay apart from the gradient.
    Adamw,
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum StepOutcome {
    /// Weights moved; the gradient's norm before clipping.
    Done(f64),
    /// The gradient was not finite: nothing was changed.
    NotFinite,
}

/// One parameter's gradient and treatment.
#[derive(Debug)]
pub struct Update<'a> {
    /// Its name: the key of its moments.
    pub name: &'a str,
    /// The weights, changed in place.
    pub weights: &'a Tensor,
    /// Their gradient.
    pub gradient: &'a Tensor,
    /// Whether weight decay applies.
    pub decays: bool,
}

/// One table's gradient in the rows that were read, and its treatment.
#[derive(Debug)]
pub struct RowUpdate<'a> {
    /// Its name: the key of its moments.
    pub name: &'a str,
    /// The table `[rows, width]` or `[rows]`, changed in place.
    pub weights: &'a Tensor,
    /// The gradient.
    pub gradient: &'a RowSums,
    /// Whether weight decay applies.
    pub decays: bool,
}

/// Decay of the moments of Adam and AdamW: PyTorch's defaults.
const BETAS: [f64; 2] = [0.9, 0.999];
const EPSILON: f64 = 1e-8;

/// How steps are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// Which update rule.
    pub kind: OptimizerKind,
    /// Weight decay: apart from the gradient (AdamW) or joined to it (the others).
    pub weight_decay: f64,
    /// Largest norm of the whole gradient; `None` = as it is.
    pub clip_norm: Option<f64>,
    /// Share of the last step that goes on (SGD).
    pub momentum: f64,
    /// Whether momentum looks ahead (SGD; Sutskever et al., 2013, in PyTorch's form).
    pub nesterov: bool,
}

impl Rule {
    /// Momentum 0.9 where the rule has one.
    #[must_use]
    pub const fn usual(kind: OptimizerKind, weight_decay: f64, clip_norm: Option<f64>) -> Self {
        Self { kind, weight_decay, clip_norm, momentum: 0.9, nesterov: false }
    }
}

/// First and second moments of one parameter; the second is empty for SGD.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Moments {
    /// Running mean of the gradient, or the velocity.
    pub first: Vec<f32>,
    /// Running mean of its square.
    pub second: Vec<f32>,
    /// Steps that each row of a lazily updated table has taken; empty for others.
    pub taken: Vec<u32>,
}

/// Everything that a stopped optimizer needs to go on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OptimizerState {
    /// Steps taken.
    pub steps: i32,
    /// By parameter name.
    pub moments: BTreeMap<String, Moments>,
}

/// Keeps the moments of every parameter between steps.
#[derive(Debug)]
pub struct Optimizer {
    rule: Rule,
    betas: [f64; 2],
    state: OptimizerState,
}

vectorise! {
    /// Adam and AdamW; `T` is always `f32`. `c`: clip, decay into the gradient, decay of the weights, step size, 1/√(1 − β₂ᵗ);
    /// `betas`: β₁, β₂, 1 − β₁, 1 − β₂.
    fn adam<T>(w: &mut [T], g: &[T], m: &mut [T], v: &mut [T], c: [T; 5], betas: [T; 4]) {
        let count = w.len();
        let (g, m, v) = (&g[..count], &mut m[..count], &mut v[..count]);
        let [clip, l2, shrink, step, root] = c;
        let ([b1, b2, a1, a2], epsilon) = (betas, T::of(EPSILON));
        for i in 0..count {
            let gradient = g[i] * clip + w[i] * l2;
            m[i] = m[i] * b1 + gradient * a1;
            v[i] = v[i] * b2 + gradient * gradient * a2;
            w[i] = w[i] * shrink - m[i] * step / (T::sqrt(v[i]) * root + epsilon);
        }
    }
}

vectorise! {
    /// Momentum; `c`: clip, decay into the gradient, learning rate, momentum, share of the gradient that is seen ahead.
    fn sgd<T>(w: &mut [T], g: &[T], m: &mut [T], c: [T; 5]) {
        let count = w.len();
        let (g, m) = (&g[..count], &mut m[..count]);
        let [clip, l2, rate, momentum, ahead] = c;
        for i in 0..count {
            m[i] = m[i] * momentum + g[i] * clip + w[i] * l2;
            if ahead > T::ZERO {
                w[i] = w[i] - (g[i] * clip + w[i] * l2 + m[i] * momentum) * rate;
            } else {
                w[i] -= m[i] * rate;
            }
        }
    }
}

impl Optimizer {
    /// A new start.
    pub fn new(rule: Rule) -> Self {
        Self::resume(rule, OptimizerState::default())
    }

    /// Goes on from `state`.
    pub fn resume(rule: Rule, state: OptimizerState) -> Self {
        Self { rule, betas: BETAS, state }
    }

    /// With another decay of the moments of Adam and AdamW.
    #[must_use]
    pub fn with_betas(self, betas: [f64; 2]) -> Self {
        Self { betas, ..self }
    }

    /// What it needs to go on.
    pub fn state(&self) -> &OptimizerState {
        &self.state
    }

    /// One step. Parameters are independent of each other except for the common clipping.
    ///
    /// # Errors
    /// `Internal` when a gradient does not have its parameter's shape.
    pub fn step(&mut self, updates: &[Update<'_>], learning_rate: f64) -> Result<StepOutcome> {
        self.step_with_rows(updates, &[], learning_rate)
    }

    /// [`step`](Self::step), of which some tables move in the rows of their gradients only.
    ///
    /// # Errors
    /// `Internal` when a gradient does not fit its parameter.
    pub fn step_with_rows(&mut self, updates: &[Update<'_>], rows: &[RowUpdate<'_>], learning_rate: f64) -> Result<StepOutcome> {
        let mut squares = 0f64;
        for update in updates {
            squares += sum_of_squares(read(update.gradient)?.slice::<f32>()?);
        }
        squares += rows.iter().map(|update| sum_of_squares(&update.gradient.values)).sum::<f64>();
        let norm = squares.sqrt();
        if !norm.is_finite() {
            return Ok(StepOutcome::NotFinite);
        }
        self.state.steps += 1;
        let clip = self.rule.clip_norm.map_or(1.0, |limit| (limit / (norm + 1e-6)).min(1.0));
        let taken: Vec<Mutex<Moments>> =
            updates.iter().map(|update| Mutex::new(self.state.moments.remove(update.name).unwrap_or_default())).collect();
        let results = parallel::map(updates.len(), |at| {
            let mut moments = taken[at].lock().map_err(|_| Error::internal("an optimizer step panicked"))?;
            self.update_one(&updates[at], &mut moments, clip, learning_rate)
        });
        for (update, moments) in updates.iter().zip(taken) {
            let moments = moments.into_inner().map_err(|_| Error::internal("an optimizer step panicked"))?;
            self.state.moments.insert(update.name.to_owned(), moments);
        }
        results.into_iter().collect::<Result<Vec<()>>>()?;
        for update in rows {
            let mut moments = self.state.moments.remove(update.name).unwrap_or_default();
            let done = self.update_rows(update, &mut moments, clip, learning_rate);
            self.state.moments.insert(update.name.to_owned(), moments);
            done?;
        }
        Ok(StepOutcome::Done(norm))
    }

    /// The rows of one table; the calling thread alone, since they are few.
    fn update_rows(&self, update: &RowUpdate<'_>, moments: &mut Moments, clip: f64, learning_rate: f64) -> Result<()> {
        let RowSums { ids, width, values } = update.gradient;
        let (width, total) = (*width, update.weights.elem_count());
        let rows = total / width.max(1);
        if rows * width != total || values.len() != ids.len() * width || ids.iter().any(|id| *id as usize >= rows) {
            return Err(Error::internal(format!("gradient of rows of \"{}\" does not fit", update.name)));
        }
        if update.name.starts_with(FTRL_PREFIX) {
            // A coordinate without a gradient stays where it is, so the dense step is the same.
            let mut dense = vec![0f32; total];
            for (id, gradient) in ids.iter().zip(values.chunks_exact(width)) {
                dense[*id as usize * width..][..width].copy_from_slice(gradient);
            }
            let Moments { first, second, .. } = moments;
            return modify::<f32>(update.weights, |weights| ftrl::step(weights, &dense, first, second, clip, learning_rate));
        }
        let decay = if update.decays { self.rule.weight_decay } else { 0.0 };
        moments.taken.resize(rows, 0);
        moments.first.resize(total, 0.0);
        if self.rule.kind != OptimizerKind::Sgd {
            moments.second.resize(total, 0.0);
        }
        let betas = self.shares();
        modify::<f32>(update.weights, |weights| {
            for (id, gradient) in ids.iter().zip(values.chunks_exact(width)) {
                let (row, at) = (*id as usize, *id as usize * width..(*id as usize + 1) * width);
                moments.taken[row] = moments.taken[row].saturating_add(1);
                let (weights, first) = (&mut weights[at.clone()], &mut moments.first[at.clone()]);
                if self.rule.kind == OptimizerKind::Sgd {
                    sgd(weights, gradient, first, self.sgd_constants(clip, decay, learning_rate));
                } else {
                    let steps = i32::try_from(moments.taken[row]).unwrap_or(i32::MAX);
                    let constants = self.adam_constants(clip, decay, learning_rate, steps);
                    adam(weights, gradient, first, &mut moments.second[at], constants, betas);
                }
            }
        })
    }

    /// β₁, β₂ and what is left of them to 1.
    fn shares(&self) -> [f32; 4] {
        let [first, second] = self.betas;
        [first, second, 1.0 - first, 1.0 - second].map(|value| value as f32)
    }

    fn sgd_constants(&self, clip: f64, decay: f64, learning_rate: f64) -> [f32; 5] {
        let ahead = if self.rule.nesterov { 1.0 } else { 0.0 };
        [clip, decay, learning_rate, self.rule.momentum, ahead].map(|value| value as f32)
    }

    /// After `steps` steps, this one included.
    fn adam_constants(&self, clip: f64, decay: f64, learning_rate: f64, steps: i32) -> [f32; 5] {
        let adamw = self.rule.kind == OptimizerKind::Adamw;
        let (l2, shrink) = if adamw { (0.0, 1.0 - learning_rate * decay) } else { (decay, 1.0) };
        let step = learning_rate / (1.0 - self.betas[0].powi(steps));
        let root = 1.0 / (1.0 - self.betas[1].powi(steps)).sqrt();
        [clip, l2, shrink, step, root].map(|value| value as f32)
    }

    fn update_one(&self, update: &Update<'_>, moments: &mut Moments, clip: f64, learning_rate: f64) -> Result<()> {
        let guard = read(update.gradient)?;
        let gradient = guard.slice::<f32>()?;
        if gradient.len() != update.weights.elem_count() {
            return Err(Error::internal(format!("gradient of \"{}\" has another shape", update.name)));
        }
        if update.name.starts_with(FTRL_PREFIX) {
            let Moments { first, second, .. } = moments;
            return modify::<f32>(update.weights, |weights| ftrl::step(weights, gradient, first, second, clip, learning_rate));
        }
        let rule = &self.rule;
        let decay = if update.decays { rule.weight_decay } else { 0.0 };
        moments.first.resize(gradient.len(), 0.0);
        if rule.kind == OptimizerKind::Sgd {
            let constants = self.sgd_constants(clip, decay, learning_rate);
            return modify::<f32>(update.weights, |weights| sgd(weights, gradient, &mut moments.first, constants));
        }
        moments.second.resize(gradient.len(), 0.0);
        let constants = self.adam_constants(clip, decay, learning_rate, self.state.steps);
        let betas = self.shares();
        modify::<f32>(update.weights, |weights| adam(weights, gradient, &mut moments.first, &mut moments.second, constants, betas))
    }
}

/// Sixteen chains in `f64`: quick, and the same order every time.
fn sum_of_squares(values: &[f32]) -> f64 {
    let mut sums = [0f64; 16];
    for chunk in values.chunks(16) {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(*value) * f64::from(*value);
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::super::storage::{tensor, to_vec};
    use super::*;

    const KINDS: [OptimizerKind; 3] = [OptimizerKind::Adamw, OptimizerKind::Adam, OptimizerKind::Sgd];

    fn rule(kind: OptimizerKind) -> Rule {
        Rule::usual(kind, 0.1, Some(1.0))
    }

    fn gradient(step: usize) -> candle_core::Tensor {
        tensor(vec![0.5f32, -0.25 * (step as f32 + 1.0), 2.0], &[3]).unwrap()
    }

    /// `stop`: takes the state out after so many steps and goes on with another optimizer.
    fn run(rule: Rule, steps: usize, stop: Option<usize>) -> Vec<f32> {
        let weights = tensor(vec![1f32, -2.0, 3.0], &[3]).unwrap();
        let mut optimizer = Optimizer::new(rule);
        for step in 0..steps {
            if stop == Some(step) {
                optimizer = Optimizer::resume(rule, optimizer.state().clone());
            }
            let gradient = gradient(step);
            let update = Update { name: "w", weights: &weights, gradient: &gradient, decays: true };
            assert!(matches!(optimizer.step(&[update], 0.01).unwrap(), StepOutcome::Done(_)));
        }
        to_vec(&weights).unwrap()
    }

    fn close(got: &[f32], expected: [f32; 3]) {
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() < 2e-6, "{got} instead of {expected}");
        }
    }

    /// Expected values: `torch.optim` 2.x with `clip_grad_norm_(…, 1.0)`, three steps.
    #[test]
    fn steps_are_those_of_pytorch() {
        close(&run(rule(OptimizerKind::Adamw), 3, None), ADAMW);
        close(&run(rule(OptimizerKind::Adam), 3, None), ADAM);
        close(&run(rule(OptimizerKind::Sgd), 3, None), [0.981_123_86, -1.977_636_9, 2.930_100_4]);
    }

    const ADAMW: [f32; 3] = [0.967_060_74, -1.964_732_8, 2.961_067];
    const ADAM: [f32; 3] = [0.970_022_26, -1.970_070_7, 2.970_021_5];

    #[test]
    fn going_on_from_a_state_changes_no_bit() {
        for kind in KINDS {
            for stop in 0..5 {
                assert_eq!(run(rule(kind), 5, Some(stop)), run(rule(kind), 5, None), "{kind:?} at {stop}");
            }
        }
    }

    /// Expected values: `torch.optim.SGD` 2.x, weight decay 0.1, learning rate 0.01, `clip_grad_norm_(…, 1.0)`, five steps.
    #[test]
    fn momentum_is_that_of_pytorch() {
        for (momentum, nesterov, expected) in SGD {
            let got = run(Rule { momentum: *momentum, nesterov: *nesterov, ..rule(OptimizerKind::Sgd) }, 5, None);
            assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 2e-6), "{momentum} {nesterov}: {got:?}");
        }
    }

    const SGD: &[(f64, bool, [f32; 3])] = &[
        (0.9, false, [0.956_598, -1.938_055, 2.839_505]),
        (0.9, true, [0.944_774, -1.917_889, 2.795_858]),
        (0.5, true, [0.970_554, -1.953_296, 2.891_219]),
        (0.0, false, [0.983_733, -1.973_514, 2.939_924]),
    ];

    #[test]
    fn a_gradient_that_is_not_finite_changes_nothing() {
        let weights = tensor(vec![1f32], &[1]).unwrap();
        let gradient = tensor(vec![f32::NAN], &[1]).unwrap();
        let mut optimizer = Optimizer::new(Rule::usual(OptimizerKind::Adamw, 0.1, None));
        let update = Update { name: "w", weights: &weights, gradient: &gradient, decays: true };
        assert_eq!(optimizer.step(&[update], 0.1).unwrap(), StepOutcome::NotFinite);
        assert_eq!(to_vec::<f32>(&weights).unwrap(), [1.0]);
    }

    /// Ten rows of two numbers, of which a step reads rows 7 and 2.
    fn lazily(rule: Rule, steps: usize, lazy: bool) -> Vec<f32> {
        let weights = tensor((0..20).map(|i| 0.1 * i as f32 - 0.73).collect(), &[10, 2]).unwrap();
        let mut optimizer = Optimizer::new(rule);
        for step in 0..steps {
            let rows = RowSums { ids: vec![2, 7], width: 2, values: vec![0.5, -0.25 * (step as f32 + 1.0), 2.0, 1e-3] };
            let mut dense = vec![0f32; 20];
            dense[4..6].copy_from_slice(&rows.values[..2]);
            dense[14..16].copy_from_slice(&rows.values[2..]);
            let dense = tensor(dense, &[10, 2]).unwrap();
            let row_update = RowUpdate { name: "w", weights: &weights, gradient: &rows, decays: true };
            let update = Update { name: "w", weights: &weights, gradient: &dense, decays: true };
            let done = if lazy { optimizer.step_with_rows(&[], &[row_update], 0.01) } else { optimizer.step(&[update], 0.01) };
            assert!(matches!(done.unwrap(), StepOutcome::Done(_)));
        }
        to_vec(&weights).unwrap()
    }

    #[test]
    fn rows_that_are_read_move_as_in_a_dense_step() {
        for kind in KINDS {
            // Rows read at every step never differ from a dense step, to the bit; the others stay where they are.
            for steps in [1, 4] {
                let (lazy, dense, before) =
                    (lazily(rule(kind), steps, true), lazily(rule(kind), steps, false), lazily(rule(kind), 0, true));
                for at in 0..20 {
                    let read = matches!(at / 2, 2 | 7);
                    assert_eq!(lazy[at], if read { dense[at] } else { before[at] }, "{kind:?} {at}");
                    assert_ne!(lazy[at], if read { before[at] } else { dense[at] }, "{kind:?} {at}");
                }
            }
        }
    }

    #[test]
    fn a_row_counts_its_own_steps() {
        let weights = tensor(vec![0f32; 4], &[4, 1]).unwrap();
        let mut optimizer = Optimizer::new(Rule::usual(OptimizerKind::Adam, 0.0, None));
        for id in [0, 0, 3] {
            let rows = RowSums { ids: vec![id], width: 1, values: vec![5.0] };
            optimizer.step_with_rows(&[], &[RowUpdate { name: "w", weights: &weights, gradient: &rows, decays: false }], 0.1).unwrap();
        }
        // A first step is as long as the learning rate, whenever it comes.
        let moved = to_vec::<f32>(&weights).unwrap();
        assert!((moved[3] + 0.1).abs() < 1e-6 && (moved[0] + 0.2).abs() < 1e-6, "{moved:?}");
        assert_eq!(optimizer.state().moments["w"].taken, [2, 0, 0, 1]);
        let bad = RowSums { ids: vec![4], width: 1, values: vec![5.0] };
        let update = RowUpdate { name: "w", weights: &weights, gradient: &bad, decays: false };
        assert!(optimizer.step_with_rows(&[], &[update], 0.1).is_err());
    }
}
