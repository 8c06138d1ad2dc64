//! The private step of a fit: every user's gradient by itself, clipped, summed, with noise on the sum.
//!
//! A user's rows go through the tape alone, so whatever the network does, their gradient is theirs: nothing has to be
//! known of its operators. The price is that nothing is batched across users. Users are spread over the threads in a
//! number of chunks that depends on the sample only, so the sum does not depend on the threads.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::{Data, Fit};
use crate::error::Result;
use crate::features::events::UserKey;
use crate::models::architecture::Weights;
use crate::models::ops::{Philox, StepOutcome, Tape, Update, parallel, storage};
use crate::models::{Batch, Tensor};
use crate::train::ahead::show_as_unseen;
use crate::train::hyper::Hyper;
use crate::train::privacy::Plan;
use crate::train::privacy::noise::Noise;

/// Partial sums of a step: enough to keep the threads busy, few enough to hold in memory.
const CHUNKS_MAX: usize = 16;
/// Numbers that one stream of noise covers.
const NOISE_CHUNK: usize = 1 << 14;

/// What a private fit has beside an ordinary one.
#[derive(Debug)]
pub(super) struct Private {
    pub(super) plan: Plan,
    /// The training rows of each user.
    users: Vec<Vec<u32>>,
    noise: Noise,
}

/// Sums over some users.
struct Sums {
    loss: f64,
    /// Per learned parameter; empty for those that stay as they are.
    gradients: Vec<Vec<f32>>,
}

/// The training rows user by user, in the order of their first row; of a labelled table each row is a user.
fn users(data: &Data<'_>) -> Vec<Vec<u32>> {
    let (mut places, mut users): (HashMap<&UserKey, usize>, Vec<Vec<u32>>) = (HashMap::new(), Vec::new());
    for row in &data.train {
        let place = match data.users.get(*row as usize).map(|user| places.entry(user)) {
            Some(Entry::Occupied(known)) => *known.get(),
            Some(Entry::Vacant(new)) => *new.insert(users.len()),
            None => users.len(),
        };
        match users.get_mut(place) {
            Some(rows) => rows.push(*row),
            None => users.push(vec![*row]),
        }
    }
    users
}

impl Private {
    /// `None` when `hyper` asks for no privacy.
    ///
    /// # Errors
    /// `InvalidParameter` when no noise keeps the budget.
    pub(super) fn new(data: &Data<'_>, hyper: &Hyper) -> Result<Option<Self>> {
        let Some(options) = &hyper.privacy else { return Ok(None) };
        let users = users(data);
        let sample_rate = (hyper.batch_size as f64 / users.len().max(1) as f64).min(1.0);
        let steps = (steps_of_epoch(sample_rate) * hyper.epochs) as u64;
        let plan = Plan::new(options, users.len(), sample_rate, steps)?;
        Ok(Some(Self { plan, users, noise: Noise::from_system()? }))
    }

    /// The samples of an epoch (from 1): places in the list of users.
    pub(super) fn samples(&self, epoch: usize) -> Vec<Vec<u32>> {
        let rate = self.plan.mechanism.sample_rate;
        let count = steps_of_epoch(rate);
        let sample = |at| self.noise.sample(((epoch - 1) * count + at) as u32, self.users.len(), rate);
        (0..count).map(sample).collect()
    }
}

/// Steps until every user was seen once, on average.
fn steps_of_epoch(sample_rate: f64) -> usize {
    (1.0 / sample_rate).round().max(1.0) as usize
}

impl Fit<'_> {
    /// One noisy step on the users `sample`; their mean loss before it. An empty sample is a step too: all noise.
    pub(super) fn private_step(&mut self, sample: &[u32]) -> Result<Option<f64>> {
        self.steps += 1;
        let rate = self.learning_rate();
        let Some(private) = &self.private else { return Ok(None) };
        let chunks: Vec<&[u32]> = sample.chunks(sample.len().div_ceil(CHUNKS_MAX).max(1)).collect();
        let this = &*self;
        let parts = parallel::map(chunks.len(), |at| this.clipped_sum(private, chunks[at]));
        let mut all = this.no_sums();
        for part in parts {
            all.add(&part?);
        }
        let gradients = this.noisy(private, all.gradients)?;
        let mut updates = Vec::with_capacity(gradients.len());
        for (learned, gradient) in self.learned.iter().zip(&gradients) {
            if learned.trainable {
                updates.push(Update { name: &learned.spec.name, weights: &learned.tensor, gradient, decays: learned.spec.decays });
            }
        }
        Ok(match self.optimizer.step(&updates, rate)? {
            StepOutcome::Done(_) => Some(all.loss / sample.len().max(1) as f64),
            StepOutcome::NotFinite => None,
        })
    }

    fn no_sums(&self) -> Sums {
        let zeros = |learned: &super::Learned| vec![0.0; if learned.trainable { learned.tensor.elem_count() } else { 0 }];
        Sums { loss: 0.0, gradients: self.learned.iter().map(zeros).collect() }
    }

    /// `Σ gᵤ · min(1, C / ‖gᵤ‖)` over some users. A gradient that is not finite counts as none.
    fn clipped_sum(&self, private: &Private, users: &[u32]) -> Result<Sums> {
        let (mut sums, mut batch) = (self.no_sums(), Batch::default());
        for user in users {
            let rows = &private.users[*user as usize];
            let (loss, gradients) = self.gradient_of(rows, *user, &mut batch)?;
            let mut squares = 0f64;
            for gradient in gradients.iter().flatten() {
                let guard = storage::read(gradient)?;
                squares += guard.slice::<f32>()?.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>();
            }
            let weight = self.mean_weight(rows);
            let norm = squares.sqrt() * weight;
            if !norm.is_finite() {
                continue;
            }
            sums.loss += loss;
            let factor = (weight * (private.plan.clip_norm / (norm + 1e-6)).min(1.0)) as f32;
            for (sum, gradient) in sums.gradients.iter_mut().zip(&gradients) {
                let Some(gradient) = gradient else { continue };
                let guard = storage::read(gradient)?;
                sum.iter_mut().zip(guard.slice::<f32>()?).for_each(|(sum, value)| *sum += factor * *value);
            }
        }
        Ok(sums)
    }

    /// The mean loss of a user's rows, and its gradient by parameter.
    fn gradient_of(&self, rows: &[u32], user: u32, batch: &mut Batch) -> Result<(f64, Vec<Option<Tensor>>)> {
        let of_user = |random: Philox| random.at_step(self.steps).fork(user);
        Batch::read(&self.data.inputs, &self.hyper.config.shape, rows, batch)?;
        show_as_unseen(batch, &self.hyper.config.shape, self.hyper.unseen_rate, of_user(self.random("unseen")));
        let tape = Tape::recording(of_user(self.random("step")));
        let mut weights = Weights::default();
        for learned in &self.learned {
            let var = if learned.trainable { tape.leaf(&learned.tensor)? } else { tape.constant(&learned.tensor)? };
            weights.insert(learned.spec.name.clone(), var);
        }
        let forward = self.module.forward(&tape, &weights, batch, false)?;
        let loss = self.data.loss(&tape, &forward, rows, self.hyper)?;
        let value = loss.scalar()?;
        let gradients = tape.backward(&loss)?;
        let of = |learned: &super::Learned| Ok(gradients.get(weights.get(&learned.spec.name)?).cloned());
        Ok((value, self.learned.iter().map(of).collect::<Result<_>>()?))
    }

    /// The loss divides by the weights of its classes, which would make them meaningless for one user: their mean.
    fn mean_weight(&self, rows: &[u32]) -> f64 {
        self.data.weight(rows) / rows.len().max(1) as f64
    }

    /// `(sum + N(0, σ²C²)) / expected users`, added in double precision.
    fn noisy(&self, private: &Private, sums: Vec<Vec<f32>>) -> Result<Vec<Tensor>> {
        let plan = &private.plan;
        let deviation = plan.mechanism.noise_multiplier * plan.clip_norm;
        let expected = plan.mechanism.sample_rate * private.users.len() as f64;
        let mut first = 0u64;
        let mut noisy = Vec::with_capacity(sums.len());
        for (sum, learned) in sums.into_iter().zip(&self.learned) {
            let chunks: Vec<&[f32]> = sum.chunks(NOISE_CHUNK).collect();
            let parts = parallel::map(chunks.len(), |at| {
                let mut stream = private.noise.of_step(self.steps, first + at as u64);
                let value = |sum: &f32| ((f64::from(*sum) + deviation * stream.normal()) / expected) as f32;
                chunks[at].iter().map(value).collect::<Vec<f32>>()
            });
            first += chunks.len() as u64;
            let shape = if learned.trainable { learned.spec.shape.clone() } else { vec![0] };
            noisy.push(storage::tensor(parts.concat(), &shape)?);
        }
        Ok(noisy)
    }
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.loss += other.loss;
        for (sum, part) in self.gradients.iter_mut().zip(&other.gradients) {
            sum.iter_mut().zip(part).for_each(|(sum, value)| *sum += *value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio_util::sync::CancellationToken;

    use std::borrow::Cow;

    use super::super::{Part, Start, Targets, Watch};
    use super::*;
    use crate::features::inputs::{InputShape, Inputs, SequenceShape, Sequences};
    use crate::features::options::{Budget, Freeze, Options, Privacy};
    use crate::models::{Architecture, Parameters, Task};
    use crate::train::hyper;

    const ROWS: usize = 24;
    const ARCHITECTURES: [Architecture; 4] = [Architecture::Logreg, Architecture::Dnn, Architecture::Gru, Architecture::Transformer];

    fn inputs() -> (InputShape, Inputs, Vec<u32>) {
        let random = Philox::new(9, 9);
        let sequence = SequenceShape { fields: vec![5], numeric: 1, max_len: 6 };
        let shape = InputShape { numeric: 2, categorical: vec![4], sequence: Some(sequence), ..InputShape::default() };
        let mut inputs = Inputs { rows: ROWS, ..Inputs::default() };
        let (mut sequences, mut labels) = (Sequences::default(), Vec::new());
        for row in 0..ROWS as u64 {
            let x = [random.normal(row * 2) as f32, random.normal(row * 2 + 1) as f32];
            inputs.numeric.extend(x);
            inputs.categorical.push(random.fork(1).below(row, 3) + 1);
            let len = random.fork(2).below(row, 5) + 1;
            sequences.spans.push((sequences.numeric.len() as u32, len));
            for step in 0..u64::from(len) {
                sequences.tokens.push(random.fork(3).below(row * 8 + step, 4) + 1);
                sequences.numeric.push(random.fork(4).normal(row * 8 + step) as f32);
            }
            labels.push(u32::from(x[0] > 0.2));
        }
        inputs.sequence = Some(sequences);
        (shape, inputs, labels)
    }

    /// A plain hyper-parameter set: no dropout, nothing unseen, nothing decays, one step of size 1 is the gradient.
    fn plain(architecture: Architecture, shape: &InputShape, privacy: Option<Privacy>) -> Hyper {
        let options = Options {
            dropout: Some(0.0),
            hidden_dim: Some(6),
            l2: Some(0.0),
            batch_size: Some(ROWS as u32),
            optimizer: crate::features::options::Optimizer::Sgd,
            learning_rate: Some(1.0),
            ..Options::default()
        };
        let resolved = |architecture| hyper::resolve(architecture, shape, 2, Task::Classification, &options, ROWS);
        // A step size that stays: the transformer's own would rise first.
        let (hyper, schedule) = (resolved(architecture), resolved(Architecture::Gru).schedule);
        let mut config = hyper.config.clone();
        (config.bins, config.members) = (0, if architecture == Architecture::Dnn { 3 } else { 1 });
        Hyper { config, clip_norm: None, unseen_rate: 0.0, schedule, epochs: 3, privacy, ..hyper }
    }

    fn privacy(noise_multiplier: f64, clip_norm: f64) -> Option<Privacy> {
        Some(Privacy { budget: Budget::NoiseMultiplier(noise_multiplier), delta: Some(1e-5), clip_norm })
    }

    fn after(data: &Data<'_>, hyper: &Hyper, epochs: usize) -> Parameters {
        let cancel = CancellationToken::new();
        let watch = Watch {
            cancel: &cancel,
            progress: &|_| {},
            deadline: None,
            keep_partial: false,
            metric: &|_| 0.0,
            part: Part::default(),
            checkpoints: None,
            memory: None,
        };
        let mut fit = Fit::new(data, hyper, Start { warm: None, freeze: &Freeze::AllButHead(false) }).unwrap().0;
        for epoch in 1..=epochs {
            fit.epoch(epoch, &watch).unwrap();
        }
        fit.parameters().unwrap()
    }

    fn data<'a>(inputs: &'a Inputs, labels: &'a [u32], users: &'a [UserKey], train: Vec<u32>) -> Data<'a> {
        Data {
            inputs: Cow::Borrowed(inputs),
            targets: Targets::Classes(Cow::Borrowed(labels)),
            train,
            validation: Vec::new(),
            test: Vec::new(),
            class_weights: None,
            resampled: None,
            users,
            teacher: None,
            catalogue: None,
        }
    }

    fn moved(from: &Parameters, to: &Parameters) -> BTreeMap<String, Vec<f64>> {
        let difference = |name: &String, values: &[f32]| {
            let before = &from.0[name].1;
            values.iter().zip(before).map(|(after, before)| f64::from(*after) - f64::from(*before)).collect()
        };
        to.0.iter().map(|(name, (_, values))| (name.clone(), difference(name, values))).collect()
    }

    fn farthest(a: &BTreeMap<String, Vec<f64>>, b: &BTreeMap<String, Vec<f64>>) -> f64 {
        let pairs = a.iter().flat_map(|(name, values)| values.iter().zip(&b[name]));
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    }

    #[test]
    fn without_noise_and_clipping_it_is_ordinary_descent() {
        let (shape, inputs, labels) = inputs();
        let rows = || (0..ROWS as u32).collect();
        for architecture in ARCHITECTURES {
            let ordinary = Hyper { learning_rate: 0.1, ..plain(architecture, &shape, None) };
            let private = Hyper { learning_rate: 0.1, ..plain(architecture, &shape, privacy(0.0, 1e9)) };
            let start = after(&data(&inputs, &labels, &[], rows()), &ordinary, 0);
            let a = moved(&start, &after(&data(&inputs, &labels, &[], rows()), &ordinary, 3));
            let b = moved(&start, &after(&data(&inputs, &labels, &[], rows()), &private, 3));
            assert!(farthest(&a, &b) < 2e-5, "{architecture}: {}", farthest(&a, &b));
            assert!(a.values().flatten().any(|step| step.abs() > 1e-3), "{architecture}");
        }
    }

    /// Users of one to three rows; each one's gradient is what ordinary descent moves when it sees that user alone.
    #[test]
    fn the_step_is_the_sum_of_each_users_own_clipped_gradient() {
        let (shape, inputs, labels) = inputs();
        let users: Vec<UserKey> = (0..ROWS as i64).map(|row| UserKey::Int64(if row % 4 == 3 { row % 2 } else { row / 3 * 10 })).collect();
        let clip = 0.3;
        for architecture in ARCHITECTURES {
            let ordinary = plain(architecture, &shape, None);
            let all = || data(&inputs, &labels, &users, (0..ROWS as u32).collect());
            let start = after(&all(), &ordinary, 0);
            let names: std::collections::BTreeSet<&UserKey> = users.iter().collect();
            let mut expected = moved(&start, &start);
            let mut clipped = 0;
            for user in &names {
                let rows = (0..ROWS as u32).filter(|row| &users[*row as usize] == *user).collect();
                let own = moved(&start, &after(&data(&inputs, &labels, &users, rows), &ordinary, 1));
                let norm = own.values().flatten().map(|value| value * value).sum::<f64>().sqrt();
                clipped += usize::from(norm > clip);
                for (name, values) in &own {
                    let sums = expected.get_mut(name).unwrap();
                    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value * (clip / norm).min(1.0) / names.len() as f64);
                }
            }
            let got = moved(&start, &after(&all(), &plain(architecture, &shape, privacy(0.0, clip)), 1));
            assert!(farthest(&got, &expected) < 2e-6, "{architecture}: {}", farthest(&got, &expected));
            assert!(clipped > 0, "{architecture}: nothing was clipped");
            let norm = got.values().flatten().map(|value| value * value).sum::<f64>().sqrt();
            assert!(norm <= clip + 1e-6, "{architecture}");
        }
    }

    #[test]
    fn the_noise_has_the_promised_size_and_is_new_each_time() {
        let (shape, inputs, labels) = inputs();
        let all = || data(&inputs, &labels, &[], (0..ROWS as u32).collect());
        let sigma_and_clip = (4.0, 0.5);
        let architecture = Architecture::Gru;
        let still = after(&all(), &plain(architecture, &shape, privacy(0.0, sigma_and_clip.1)), 1);
        let noisy = || after(&all(), &plain(architecture, &shape, privacy(sigma_and_clip.0, sigma_and_clip.1)), 1);
        let (one, two) = (noisy(), noisy());
        assert_ne!(one, two);
        let noise: Vec<f64> = moved(&still, &one).into_values().flatten().collect();
        let deviation = (noise.iter().map(|value| value * value).sum::<f64>() / noise.len() as f64).sqrt();
        let expected = sigma_and_clip.0 * sigma_and_clip.1 / ROWS as f64;
        assert!((deviation / expected - 1.0).abs() < 0.15, "{deviation} instead of {expected} over {} numbers", noise.len());
    }

    #[test]
    fn the_sum_does_not_depend_on_threads() {
        let (shape, inputs, labels) = inputs();
        let all = || data(&inputs, &labels, &[], (0..ROWS as u32).collect());
        let hyper = plain(Architecture::Gru, &shape, privacy(0.0, 0.2));
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| after(&all(), &hyper, 2).to_safetensors().unwrap())
        };
        assert_eq!(with(1), with(3));
    }
}
