//! Several networks trained as one model: bagging and stacking.
//!
//! Bagging (Breiman, 1996): the same architecture on bootstrap samples of the training rows, of users where rows are users';
//! answers are averaged. Each row is predicted by the members that did not see it: the out-of-bag estimate costs no rows.
//!
//! Stacking (Wolpert, 1992): several architectures; each is fitted without one fold of the training rows after the other and
//! predicts what it has not seen, and on these predictions it is learned what each counts for ([`super::blend`]). Then
//! each is fitted to all training rows.
//!
//! Each fit has a checkpoint of its own, so that a training that was cut off goes on at the member where it was.

use std::sync::Arc;
use std::time::Instant;

use super::blend::{Blend, Truth};
use super::candidates::{self, Candidate, Found, Problem, Request, Setup};
use super::fit::{self, Fitted, Targets};
use super::{MemberReport, Part, folds, tune};
use crate::error::{Code, Error, Result};
use crate::features::options::{Ensemble, Options};
use crate::kernels::splitmix;
use crate::models::ensemble::{Combine, EnsembleConfig, join, signals};
use crate::models::ops::Philox;
use crate::models::{self, Architecture, Network, Task, load_any};

/// Numbers of predictions that are kept at most: more would say no more about a handful of weights.
const PREDICTIONS_MAX: usize = 16_000_000;

/// What is fitted: one network, or several.
#[derive(Debug, Clone)]
pub(super) struct Recipe {
    /// The network's; of a stack, its first one's.
    pub(super) architecture: Architecture,
    pub(super) options: Options,
    pub(super) ensemble: Option<Ensemble>,
}

/// Where an ensemble stands in a training.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The beginning of its fits' names among the checkpoints.
    pub(super) label: String,
    /// What it is part of; `None` = its members are the parts.
    pub(super) part: Option<Part>,
    pub(super) deadline: Option<Instant>,
}

/// Fitted networks as one.
pub(super) struct Built {
    pub(super) candidate: Candidate,
    config: EnsembleConfig,
    /// Each network by itself, as a candidate.
    alone: Vec<Candidate>,
    weights: Vec<f64>,
    notes: Vec<String>,
}

/// Finds the network or networks, and the recipe they came from.
///
/// # Errors
/// As the fits.
pub(super) fn choose(
    request: &Request<'_>,
    problem: &Problem<'_>,
    architectures: &[Architecture],
    deadline: Option<Instant>,
) -> Result<(Found, Recipe)> {
    let ensemble = request.options.ensemble.clone();
    if ensemble.is_some() {
        models::cuda::choose::refuse(&request.options.device, "the networks of an ensemble are trained on the CPU")?;
    }
    if let Some(Ensemble::Stacking { members, .. }) = &ensemble {
        let recipe = Recipe { architecture: parse(members)?[0], options: request.options.clone(), ensemble };
        let place = Place { label: String::new(), part: None, deadline };
        let found = build(request, problem, &recipe, &place)?.found(problem, request.options.clone());
        return Ok((found, recipe));
    }
    // A bag of one known network needs no choice first.
    let known = match (architectures, &ensemble) {
        ([architecture], Some(_)) if request.options.tune.is_none() => Some(*architecture),
        _ => None,
    };
    let (before, architecture) = match known {
        Some(architecture) => (None, architecture),
        None => {
            let share = if ensemble.is_some() { fit::share_of_budget(deadline, 2) } else { deadline };
            let found = match &request.options.tune {
                Some(tune) => tune::search(request, problem, architectures, tune, share)?,
                None => candidates::candidates(request, problem, architectures, share)?,
            };
            let architecture = found.best.fitted.config.architecture;
            (Some(found), architecture)
        }
    };
    let options = before.as_ref().map_or(request.options, |found| &found.options).clone();
    let recipe = Recipe { architecture, options, ensemble };
    match before {
        Some(found) if recipe.ensemble.is_none() => Ok((found, recipe)),
        before => {
            let place = Place { label: String::new(), part: None, deadline };
            let found = build(request, problem, &recipe, &place)?.found(problem, recipe.options.clone());
            Ok((with_choice(found, before), recipe))
        }
    }
}

/// A bag with what was tried before it.
fn with_choice(bag: Found, before: Option<Found>) -> Found {
    let Some(before) = before else { return bag };
    let notes = before.notes.into_iter().chain(bag.notes).collect();
    Found { reports: before.reports, trials: before.trials, notes, ..bag }
}

/// Fits the members and joins them.
///
/// # Errors
/// As the fits.
pub(super) fn build(request: &Request<'_>, problem: &Problem<'_>, recipe: &Recipe, place: &Place) -> Result<Built> {
    match &recipe.ensemble {
        Some(Ensemble::Bagging { members }) => bag(request, problem, recipe, *members as usize, place),
        Some(Ensemble::Stacking { members, folds }) => stack(request, problem, recipe, &parse(members)?, *folds as usize, place),
        None => Err(Error::internal("an ensemble was asked for without one")),
    }
}

fn parse(names: &[String]) -> Result<Vec<Architecture>> {
    let parse = |name: &String| Architecture::parse(name).ok_or_else(|| Error::invalid(format!("unknown architecture \"{name}\"")));
    names.iter().map(parse).collect()
}

/// The options of one member: its own seed, so that it starts elsewhere and sees rows in another order.
fn of_member(options: &Options, member: usize) -> Options {
    Options { seed: splitmix::at(options.seed, member as u64) >> 1, ..options.clone() }
}

impl Place {
    fn part(&self, at: usize, of: usize) -> Part {
        self.part.unwrap_or(Part::Member { at, of })
    }
}

/// Draws as many units (users, or rows) with replacement as there are; their rows, and which units were not drawn.
pub(super) fn bootstrap(units: &[Vec<u32>], random: Philox) -> (Vec<u32>, Vec<usize>) {
    let mut drawn = vec![0usize; units.len()];
    for at in 0..units.len() as u64 {
        drawn[random.below(at, units.len() as u32) as usize] += 1;
    }
    let rows = units.iter().zip(&drawn).flat_map(|(rows, times)| std::iter::repeat_n(rows, *times).flatten().copied()).collect();
    let left = drawn.iter().enumerate().filter(|(_, times)| **times == 0).map(|(unit, _)| unit).collect();
    (rows, left)
}

/// Sums of what members that had not seen a row say about it.
struct OutOfBag {
    /// Rows that are followed, ascending.
    rows: Vec<u32>,
    outputs: usize,
    task: Task,
    sums: Vec<f64>,
    counts: Vec<u32>,
}

impl OutOfBag {
    fn new(problem: &Problem<'_>) -> Self {
        let (rows, outputs) = (few(&problem.data.train, problem.outputs()), problem.outputs());
        Self { sums: vec![0.0; rows.len() * outputs], counts: vec![0; rows.len()], rows, outputs, task: problem.task }
    }

    fn add(&mut self, request: &Request<'_>, problem: &Problem<'_>, network: &Arc<dyn Network>, unseen: &[u32]) -> Result<()> {
        let places: Vec<usize> = unseen.iter().filter_map(|row| self.rows.binary_search(row).ok()).collect();
        let rows: Vec<u32> = places.iter().map(|place| self.rows[*place]).collect();
        let logits = problem.logits(request, network, &rows)?;
        let signals = signals(self.task, self.outputs, &logits);
        for (signal, place) in signals.chunks_exact(self.outputs).zip(places) {
            self.counts[place] += 1;
            let sums = &mut self.sums[place * self.outputs..][..self.outputs];
            let value = |signal: f64| if self.task == Task::Classification { signal.exp() } else { signal };
            sums.iter_mut().zip(signal).for_each(|(sum, signal)| *sum += value(*signal));
        }
        Ok(())
    }

    /// In words; `None` when every member saw every row.
    fn note(&self, problem: &Problem<'_>) -> Option<String> {
        let places: Vec<usize> = (0..self.rows.len()).filter(|place| self.counts[*place] > 0).collect();
        let rows: Vec<u32> = places.iter().map(|place| self.rows[*place]).collect();
        let mean = |place: usize, output: usize| self.sums[place * self.outputs + output] / f64::from(self.counts[place]);
        let back = |mean: f64| if self.task == Task::Classification { mean.max(1e-30).ln() } else { mean };
        let logits: Vec<f32> = places
            .iter()
            .flat_map(|place| (0..self.outputs).map(move |output| (*place, output)))
            .map(|(p, o)| back(mean(p, o)) as f32)
            .collect();
        (!rows.is_empty())
            .then(|| format!("out-of-bag {} {:.3} over {} training rows", problem.metric, problem.metric_of(&logits, &rows), rows.len()))
    }
}

/// At most so many of `rows`, evenly, that their outputs fit [`PREDICTIONS_MAX`].
fn few(rows: &[u32], outputs: usize) -> Vec<u32> {
    let step = (rows.len() * outputs.max(1)).div_ceil(PREDICTIONS_MAX).max(1);
    rows.iter().copied().step_by(step).collect()
}

fn network_of(fitted: &Fitted) -> Result<Arc<dyn Network>> {
    Ok(Arc::from(models::load(&fitted.config, &fitted.parameters)?))
}

fn bag(request: &Request<'_>, problem: &Problem<'_>, recipe: &Recipe, members: usize, place: &Place) -> Result<Built> {
    let units = folds::units(&problem.data.train, request.rows.users);
    let bootstraps = Philox::named(recipe.options.seed, "bootstrap");
    let (mut alone, mut notes, mut out_of_bag) = (Vec::new(), Vec::new(), OutOfBag::new(problem));
    let judge = problem.judge();
    let mut shifted = false;
    for member in 0..members {
        let (rows, left) = bootstrap(&units, bootstraps.fork(member as u32));
        let options = of_member(&recipe.options, member);
        let label = format!("{}member-{:02}-{}", place.label, member + 1, recipe.architecture);
        let setup = Setup {
            architecture: recipe.architecture,
            options: &options,
            label: &label,
            part: place.part(member + 1, members),
            deadline: fit::share_of_budget(place.deadline, members - member),
        };
        let (fitted, is_shifted) = match problem.fit(request, setup, Some(rows)) {
            Err(error) if error.code == Code::Cancelled && request.options.keep_partial && !alone.is_empty() => {
                notes.push(format!("cancelled after {member} of {members} members"));
                break;
            }
            other => other?,
        };
        shifted |= is_shifted;
        notes.extend(fitted.notes.iter().map(|note| format!("member {}: {note}", member + 1)));
        let network = network_of(&fitted)?;
        let unseen: Vec<u32> = left.iter().flat_map(|unit| units[*unit].iter().copied()).collect();
        out_of_bag.add(request, problem, &network, &unseen)?;
        alone.push(problem.measure(request, fitted, network, &judge, is_shifted)?);
    }
    notes.push(format!("bagging of {} {}", alone.len(), recipe.architecture));
    notes.extend(out_of_bag.note(problem));
    let weights = vec![1.0 / alone.len() as f64; alone.len()];
    assemble(request, problem, alone, Combine::Mean, weights, shifted, notes)
}

fn stack(
    request: &Request<'_>,
    problem: &Problem<'_>,
    recipe: &Recipe,
    architectures: &[Architecture],
    folds: usize,
    place: &Place,
) -> Result<Built> {
    let plan = Stack { request, problem, recipe, architectures, folds, place };
    let weights = plan.weights()?;
    let (mut alone, mut notes, mut shifted) = (Vec::new(), Vec::new(), false);
    let judge = problem.judge();
    for (member, architecture) in architectures.iter().enumerate() {
        let (fitted, is_shifted) = plan.fit(member, None, None)?;
        shifted |= is_shifted;
        notes.extend(fitted.notes.iter().map(|note| format!("{architecture}: {note}")));
        let network = network_of(&fitted)?;
        alone.push(problem.measure(request, fitted, network, &judge, is_shifted)?);
    }
    let each: Vec<String> =
        architectures.iter().zip(&weights).map(|(architecture, weight)| format!("{architecture} {weight:.3}")).collect();
    notes.push(format!("stacking, weights learned on {folds} folds: {}", each.join(", ")));
    assemble(request, problem, alone, Combine::Weighted(weights.clone()), weights, shifted, notes)
}

/// A stack in the making.
#[derive(Clone, Copy)]
struct Stack<'a> {
    request: &'a Request<'a>,
    problem: &'a Problem<'a>,
    recipe: &'a Recipe,
    architectures: &'a [Architecture],
    folds: usize,
    place: &'a Place,
}

impl Stack<'_> {
    /// Fits a member to all training rows, or (`fold`) to those of them.
    fn fit(&self, member: usize, fold: Option<usize>, train: Option<Vec<u32>>) -> Result<(Fitted, bool)> {
        let (architecture, options) = (self.architectures[member], of_member(&self.recipe.options, member));
        let out = fold.map_or(String::new(), |fold| format!("-without-{:02}", fold + 1));
        let label = format!("{}member-{:02}-{architecture}{out}", self.place.label, member + 1);
        let (members, fits) = (self.architectures.len(), self.architectures.len() * (self.folds + 1));
        // Fold by fold first, then the members themselves.
        let at = fold.unwrap_or(self.folds) * members + member;
        let setup = Setup {
            architecture,
            options: &options,
            label: &label,
            part: self.place.part(at + 1, fits),
            deadline: fit::share_of_budget(self.place.deadline, fits - at),
        };
        self.problem.fit(self.request, setup, train)
    }

    /// What each member counts for.
    fn weights(&self) -> Result<Vec<f64>> {
        let (problem, users) = (self.problem, self.request.rows.users);
        let outputs = problem.outputs();
        let train = &problem.data.train;
        let dealt = folds::deal(train, self.request.rows.labels, users, self.folds, self.recipe.options.seed);
        if dealt.iter().any(Vec::is_empty) {
            return Err(Error::invalid(format!("too little data for {} folds", self.folds)).hint("Ask for fewer folds."));
        }
        let rows = few(train, outputs * self.architectures.len());
        let mut seen = vec![vec![0f32; rows.len() * outputs]; self.architectures.len()];
        for (fold, out) in dealt.iter().enumerate() {
            let places: Vec<usize> = out.iter().filter_map(|row| rows.binary_search(row).ok()).collect();
            let unseen: Vec<u32> = places.iter().map(|place| rows[*place]).collect();
            for (member, seen) in seen.iter_mut().enumerate() {
                let (fitted, _) = self.fit(member, Some(fold), Some(folds::without(train, out)))?;
                let logits = problem.logits(self.request, &network_of(&fitted)?, &unseen)?;
                let signals = signals(problem.task, outputs, &logits);
                for (signal, place) in signals.chunks_exact(outputs).zip(&places) {
                    seen[place * outputs..][..outputs].iter_mut().zip(signal).for_each(|(to, from)| *to = *from as f32);
                }
            }
        }
        Ok(match &problem.data.targets {
            Targets::Classes(labels) => {
                let truth: Vec<u32> = rows.iter().map(|row| labels[*row as usize]).collect();
                Blend { signals: &seen, outputs, truth: Truth::Classes(&truth) }.weights()
            }
            Targets::Values(values) => {
                let truth: Vec<f32> = rows.iter().map(|row| values[*row as usize]).collect();
                Blend { signals: &seen, outputs, truth: Truth::Values(&truth) }.weights()
            }
            Targets::Rows => return Err(Error::internal("rows without labels are not blended")),
        })
    }
}

/// One network of the members, calibrated and measured.
fn assemble(
    request: &Request<'_>,
    problem: &Problem<'_>,
    alone: Vec<Candidate>,
    combine: Combine,
    weights: Vec<f64>,
    shifted: bool,
    notes: Vec<String>,
) -> Result<Built> {
    let config = EnsembleConfig { members: alone.iter().map(|member| member.fitted.config.clone()).collect(), combine };
    // The figures of a training are those of the member that trained longest; ml.members has each one's.
    let longest = alone.iter().max_by_key(|member| member.fitted.epochs_run).ok_or_else(|| Error::internal("an ensemble is empty"))?;
    let fitted = Fitted {
        config: config.joint()?,
        parameters: join(alone.iter().map(|member| &member.fitted.parameters)),
        epochs_run: longest.fitted.epochs_run,
        best_epoch: longest.fitted.best_epoch,
        history: longest.fitted.history.clone(),
        notes: Vec::new(),
        privacy: None,
        device: "cpu".into(),
        seconds: alone.iter().map(|member| member.fitted.seconds).sum(),
    };
    let network: Arc<dyn Network> = Arc::from(load_any(&fitted.config, Some(&config), &fitted.parameters)?);
    let candidate = problem.measure(request, fitted, network, &problem.judge(), shifted)?;
    Ok(Built { candidate, config, alone, weights, notes })
}

impl Built {
    fn found(self, problem: &Problem<'_>, options: Options) -> Found {
        let members = self.alone.iter().zip(&self.weights).enumerate().map(|(at, (member, weight))| MemberReport {
            member: at + 1,
            architecture: member.fitted.config.architecture,
            weight: *weight,
            valid: member.valid,
            epochs_run: member.fitted.epochs_run,
            best_epoch: member.fitted.best_epoch,
            parameters: member.fitted.parameters.count(),
            seconds: member.fitted.seconds,
        });
        let members = members.collect();
        let single = folds::mean_and_deviation(self.alone.iter().map(|member| member.valid)).0;
        let mut notes = self.notes;
        notes.push(format!("{} on validation: {:.3} together, {single:.3} the mean of each alone", problem.metric, self.candidate.valid));
        let mut report = self.candidate.report();
        report.chosen = true;
        Found { best: self.candidate, options, reports: vec![report], trials: Vec::new(), ensemble: Some(self.config), members, notes }
    }
}
