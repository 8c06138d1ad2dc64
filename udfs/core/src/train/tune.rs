//! Hyper-parameter search on the validation metric: random (Bergstra & Bengio, 2012) and successive halving (Jamieson &
//! Talwalkar, 2016; Li et al., 2018).
//!
//! Life of a search: settings are drawn by counters from the seed, so trial 7 is the same however many there are → each is
//! fitted to its end, or round by round with a third of the settings going on → the best on validation wins. The first
//! trial of each architecture has the architecture's own settings: a search never does worse than no search.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::candidates::{Candidate, Found, Problem, Request};
use super::fit::{Data, Fitted, Running};
use super::hyper::Hyper;
use super::{Part, TrialReport, TrialState};
use crate::error::{Code, Error, Result};
use crate::features::options::{Dimension, Options, Spread, Strategy, Tune, WHOLE, tuned_number};
use crate::models::ops::Philox;
use crate::models::{self, Architecture, Network};

/// Halving keeps one of so many settings per round, and trains it so many times longer.
const ETA: usize = 3;

/// One setting.
struct Trial {
    architecture: Architecture,
    options: Options,
    params: Value,
    label: String,
}

/// See the module.
///
/// # Errors
/// `Cancelled`; the first trial's error when every trial failed; `InvalidParameter` for a setting that cannot be.
pub(super) fn search(
    request: &Request<'_>,
    problem: &Problem<'_>,
    architectures: &[Architecture],
    tune: &Tune,
    deadline: Option<Instant>,
) -> Result<Found> {
    let own = tune.max_seconds.map(|seconds| Instant::now() + Duration::from_secs_f64(seconds));
    let deadline = [deadline, own].into_iter().flatten().min();
    let trials = draw(request.options, architectures, tune)?;
    let setups: Vec<(Hyper, Data<'_>)> =
        trials.iter().map(|trial| problem.setup(request, trial.architecture, &trial.options)).collect::<Result<_>>()?;
    let search = Search { request, problem, trials: &trials, setups: &setups, deadline };
    search.run(tune.strategy)
}

struct Search<'a> {
    request: &'a Request<'a>,
    problem: &'a Problem<'a>,
    trials: &'a [Trial],
    setups: &'a [(Hyper, Data<'a>)],
    deadline: Option<Instant>,
}

/// What became of the settings of one round.
#[derive(Default)]
struct Round<'a> {
    /// Trial and value; failed ones are not here.
    values: Vec<(usize, f64)>,
    /// Fits that may go on in the next round.
    running: Vec<(usize, Running<'a>)>,
    /// Of the last round: the best fit so far.
    best: Option<(usize, Fitted)>,
    reports: Vec<TrialReport>,
    /// Why it ended before every setting had its turn.
    ended: Option<String>,
    failure: Option<Error>,
}

/// The share of all epochs that each round runs to.
fn rounds(strategy: Strategy, trials: usize) -> Vec<f64> {
    let mut last = 0;
    while strategy == Strategy::Halving && ETA.pow(last + 1) <= trials {
        last += 1;
    }
    (0..=last).map(|rung| (ETA as f64).powi(rung as i32 - last as i32)).collect()
}

impl<'a> Search<'a> {
    fn run(&self, strategy: Strategy) -> Result<Found> {
        let shares = rounds(strategy, self.trials.len());
        let mut alive: Vec<usize> = (0..self.trials.len()).collect();
        let mut reports: Vec<TrialReport> = Vec::new();
        let mut before = Vec::new();
        for (rung, share) in shares.iter().enumerate() {
            let is_last = rung + 1 == shares.len();
            let mut round = self.round(rung, *share, is_last, &alive, before)?;
            round.values.sort_by(|a, b| self.order(a, b));
            let over = is_last || round.ended.is_some();
            if over || round.values.is_empty() {
                reports.append(&mut round.reports);
                return self.found(round, reports);
            }
            alive = round.values.iter().take((alive.len() / ETA).max(1)).map(|(trial, _)| *trial).collect();
            for report in &mut round.reports {
                if report.state == TrialState::Done {
                    report.state = if alive.contains(&(report.trial - 1)) { TrialState::Promoted } else { TrialState::Dropped };
                }
            }
            reports.append(&mut round.reports);
            before = round.running;
            before.retain(|(trial, _)| alive.contains(trial));
            alive.sort_unstable();
        }
        Err(Error::internal("a search ended without a round"))
    }

    /// Better first; of equals the one that was drawn first.
    fn order(&self, a: &(usize, f64), b: &(usize, f64)) -> std::cmp::Ordering {
        let better = self.problem.metric.is_better(a.1, b.1);
        let worse = self.problem.metric.is_better(b.1, a.1);
        worse.cmp(&better).then(a.0.cmp(&b.0))
    }

    /// Trains every setting of `alive` up to `share` of its epochs.
    fn round(&self, rung: usize, share: f64, is_last: bool, alive: &[usize], mut before: Vec<(usize, Running<'a>)>) -> Result<Round<'a>> {
        let mut round = Round::default();
        for (done, trial) in alive.iter().enumerate() {
            if !round.values.is_empty() && self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                round.ended = Some(format!("max_seconds ran out after {done} of {} trials", alive.len()));
                break;
            }
            let running = before.iter().position(|(other, _)| other == trial).map(|at| before.swap_remove(at).1);
            match self.trial(*trial, rung, share, is_last, running, &mut round) {
                Ok(()) => {}
                Err(error) if error.code == Code::Cancelled && self.request.options.keep_partial && !round.values.is_empty() => {
                    round.ended = Some(format!("cancelled after {done} of {} trials", alive.len()));
                    break;
                }
                Err(error) if error.code == Code::InvalidParameter => {
                    round.reports.push(self.report(*trial, rung, 0, f64::NAN, 0.0, TrialState::Failed));
                    round.failure.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(round)
    }

    fn trial(
        &self,
        trial: usize,
        rung: usize,
        share: f64,
        is_last: bool,
        running: Option<Running<'a>>,
        round: &mut Round<'a>,
    ) -> Result<()> {
        let (hyper, data) = &self.setups[trial];
        let until = ((hyper.epochs as f64 * share).ceil() as usize).clamp(1, hyper.epochs);
        let checkpoints = self.request.kept();
        let label = format!("rung-{rung}-{}", self.trials[trial].label);
        let known = checkpoints.as_ref().filter(|_| !is_last).and_then(|checkpoints| checkpoints.number(&label));
        if let Some(value) = known {
            // Worked out before a crash; the fit itself goes on from its checkpoint if it is asked to.
            round.reports.push(self.report(trial, rung, until, value, 0.0, TrialState::Done));
            round.values.push((trial, value));
            return Ok(());
        }
        let judge = self.problem.judge();
        let metric = |logits: &[f32]| judge.metric(logits);
        let part = Part::Trial { at: trial + 1, of: self.trials.len() };
        let watch = self.request.watch(&metric, self.deadline, part, checkpoints.as_ref());
        let mut running = match running {
            Some(running) => running,
            None => self.start(trial, &watch)?,
        };
        running.advance(until, &watch)?;
        let fitted = running.fitted()?;
        let network: Arc<dyn Network> = Arc::from(models::load(&fitted.config, &fitted.parameters)?);
        let (_, value) = judge.calibrate(self.request, &network, data.is_shifted())?;
        if !value.is_finite() {
            return Err(Error::invalid(format!("the {} of a trial is not a number", self.problem.metric)));
        }
        let state = if running.is_cut() { TrialState::Cut } else { TrialState::Done };
        round.reports.push(self.report(trial, rung, fitted.epochs_run, value, fitted.seconds, state));
        round.values.push((trial, value));
        if is_last {
            let best = round.values.iter().min_by(|a, b| self.order(a, b)).map(|(trial, _)| *trial);
            if best == Some(trial) {
                round.best = Some((trial, fitted));
            }
        } else {
            if let Some(checkpoints) = checkpoints.as_ref().filter(|_| !running.is_cut()) {
                checkpoints.save_number(&label, value);
            }
            round.running.push((trial, running));
        }
        Ok(())
    }

    fn start(&self, trial: usize, watch: &super::fit::Watch<'_>) -> Result<Running<'a>> {
        let (hyper, data) = &self.setups[trial];
        let own = &self.trials[trial];
        Running::start(data, hyper, self.problem.start(own.architecture, &own.options), &own.label, watch)
    }

    fn report(&self, trial: usize, rung: usize, epochs: usize, value: f64, seconds: f64, state: TrialState) -> TrialReport {
        TrialReport { trial: trial + 1, rung, params: self.trials[trial].params.clone(), epochs, value, seconds, state }
    }

    /// The winner of the last round that there was time for, measured.
    fn found(&self, mut round: Round<'a>, mut reports: Vec<TrialReport>) -> Result<Found> {
        let Some((winner, value)) = round.values.first().copied() else {
            return Err(round.failure.unwrap_or_else(|| Error::internal("no setting was tried")));
        };
        let judge = self.problem.judge();
        let fitted = match round.best.take().filter(|(trial, _)| *trial == winner) {
            Some((_, fitted)) => fitted,
            None => match round.running.iter().find(|(trial, _)| *trial == winner) {
                Some((_, running)) => running.fitted()?,
                None => {
                    let metric = |logits: &[f32]| judge.metric(logits);
                    let checkpoints = self.request.kept();
                    self.start(winner, &self.request.watch(&metric, self.deadline, Part::Whole, checkpoints.as_ref()))?.fitted()?
                }
            },
        };
        let mut notes: Vec<String> = round.ended.into_iter().collect();
        let tried = reports.iter().filter(|report| report.rung == 0).count();
        notes.push(format!("trial {} of {tried} won with {} {value:.4} on validation", winner + 1, self.problem.metric));
        notes.extend(fitted.notes.iter().cloned());
        if let Some(report) = reports.iter_mut().rfind(|report| report.trial == winner + 1) {
            report.state = TrialState::Chosen;
        }
        let network: Arc<dyn Network> = Arc::from(models::load(&fitted.config, &fitted.parameters)?);
        let best: Candidate = self.problem.measure(self.request, fitted, network, &judge, self.setups[winner].1.is_shifted())?;
        let mut report = best.report();
        report.chosen = true;
        let options = self.trials[winner].options.clone();
        Ok(Found { best, options, reports: vec![report], trials: reports, ensemble: None, members: Vec::new(), notes })
    }
}

/// The settings to try, the architectures in turn.
fn draw(base: &Options, architectures: &[Architecture], tune: &Tune) -> Result<Vec<Trial>> {
    let named = match tune.space.get("arch") {
        Some(Dimension::Choice(names)) => names.iter().map(architecture).collect::<Result<Vec<_>>>()?,
        _ => architectures.to_vec(),
    };
    let mut trials = Vec::with_capacity(tune.trials as usize);
    for at in 0..tune.trials as usize {
        let architecture = named[at % named.len()];
        let mut options = base.clone();
        let mut params = Map::from_iter([("arch".to_owned(), json!(architecture.name()))]);
        if at >= named.len() {
            let own;
            let space: Vec<(&str, &Dimension)> = if tune.space.is_empty() {
                own = usual_space(architecture, base);
                own.iter().map(|(key, dimension)| (*key, dimension)).collect()
            } else {
                tune.space.iter().filter(|(key, _)| *key != "arch").map(|(key, dimension)| (key.as_str(), dimension)).collect()
            };
            for (key, dimension) in space {
                let value = pick(key, dimension, Philox::named(base.seed, &format!("tune.{key}")), at as u64);
                options.set(key, &value)?;
                params.insert(key.to_owned(), value);
            }
        }
        trials.push(Trial { architecture, options, params: Value::Object(params), label: format!("trial-{at:04}") });
    }
    Ok(trials)
}

fn architecture(name: &Value) -> Result<Architecture> {
    let name = name.as_str().unwrap_or_default();
    Architecture::parse(name).ok_or_else(|| Error::invalid(format!("unknown architecture \"{name}\"")))
}

/// The `at`-th draw of one option.
fn pick(key: &str, dimension: &Dimension, random: Philox, at: u64) -> Value {
    match dimension {
        Dimension::Choice(values) => values[random.below(at, values.len() as u32) as usize].clone(),
        Dimension::Range { min, max, scale } => {
            let share = random.uniform(at);
            let value = match scale {
                // Every whole number gets the same share.
                Spread::Linear if WHOLE.contains(&key) => (min.ceil() + (share * (max.floor() - min.ceil() + 1.0)).floor()).min(*max),
                Spread::Linear => min + share * (max - min),
                Spread::Log => (min.ln() + share * (max.ln() - min.ln())).exp().clamp(*min, *max),
            };
            tuned_number(key, value)
        }
    }
}

/// What an architecture is searched over when nobody says: the ranges of its published recipes, without what is set.
fn usual_space(architecture: Architecture, base: &Options) -> Vec<(&'static str, Dimension)> {
    let log = |min, max| Dimension::Range { min, max, scale: Spread::Log };
    let linear = |min, max| Dimension::Range { min, max, scale: Spread::Linear };
    let one_of = |values: &[u32]| Dimension::Choice(values.iter().map(|value| json!(value)).collect());
    let mut space = match architecture {
        Architecture::Logreg => vec![("learning_rate", log(5e-4, 5e-2)), ("l2", log(1e-6, 1e-1)), ("batch_size", one_of(&[64, 256, 1024]))],
        Architecture::Dnn => vec![
            ("learning_rate", log(3e-4, 1e-2)),
            ("l2", log(1e-6, 1e-1)),
            ("dropout", linear(0.0, 0.5)),
            ("layers", linear(1.0, 4.0)),
            ("hidden_dim", one_of(&[64, 128, 256, 512])),
            ("embedding_dim", one_of(&[8, 16, 32])),
        ],
        _ => vec![
            ("learning_rate", log(3e-4, 1e-2)),
            ("l2", log(1e-6, 1e-2)),
            ("dropout", linear(0.0, 0.5)),
            ("layers", linear(1.0, if architecture == Architecture::Transformer { 4.0 } else { 2.0 })),
            ("hidden_dim", one_of(&[32, 64, 128])),
            ("embedding_dim", one_of(&[16, 32, 64])),
        ],
    };
    let is_set = |key: &str| match key {
        "learning_rate" => base.learning_rate.is_some(),
        "l2" => base.l2.is_some(),
        "dropout" => base.dropout.is_some(),
        "layers" => base.layers.is_some(),
        "hidden_dim" => base.hidden_dim.is_some(),
        "embedding_dim" => base.embedding_dim.is_some(),
        "batch_size" => base.batch_size.is_some(),
        _ => false,
    };
    space.retain(|(key, _)| !is_set(key));
    space
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tune(json: &str) -> Tune {
        Options::from_json(&format!("{{\"tune\": {json}}}")).unwrap().tune.unwrap()
    }

    #[test]
    fn settings_follow_from_the_seed_and_not_from_their_number() {
        let base = Options { layers: Some(2), ..Options::default() };
        let few = draw(&base, &[Architecture::Dnn], &tune("{\"trials\": 4}")).unwrap();
        let many = draw(&base, &[Architecture::Dnn], &tune("{\"trials\": 9}")).unwrap();
        let params = |trials: &[Trial]| trials.iter().map(|trial| trial.params.clone()).collect::<Vec<_>>();
        assert_eq!(params(&few), params(&many[..4]));
        assert_eq!(params(&few)[0], json!({"arch": "dnn"}));
        assert_eq!(few[0].options, base);
        assert!(many.iter().all(|trial| trial.options.layers == Some(2) && trial.params.get("layers").is_none()));
        let other = draw(&Options { seed: 7, ..base }, &[Architecture::Dnn], &tune("{\"trials\": 4}")).unwrap();
        assert_ne!(params(&few)[1..], params(&other)[1..]);
    }

    #[test]
    fn draws_stay_within_their_space_and_fill_it() {
        let space = tune(
            r#"{"trials": 300, "space": {"learning_rate": {"min": 1e-4, "max": 1e-1}, "layers": {"min": 1, "max": 3},
                "hidden_dim": [16, 32], "dropout": {"min": 0.1, "max": 0.3}, "arch": ["logreg", "gru"]}}"#,
        );
        let trials = draw(&Options::default(), &[Architecture::Dnn], &space).unwrap();
        let drawn: Vec<&Options> = trials[2..].iter().map(|trial| &trial.options).collect();
        assert!(drawn.iter().all(|o| o.learning_rate.is_some_and(|rate| (1e-4..=1e-1).contains(&rate))));
        // Half of the draws are below the geometric middle.
        let low = drawn.iter().filter(|o| o.learning_rate.is_some_and(|rate| rate < 3.16e-3)).count();
        assert!((110..190).contains(&low), "{low}");
        for layers in 1..=3 {
            let count = drawn.iter().filter(|o| o.layers == Some(layers)).count();
            assert!((70..130).contains(&count), "{layers}: {count}");
        }
        assert!(drawn.iter().all(|o| [Some(16), Some(32)].contains(&o.hidden_dim)));
        assert!(drawn.iter().all(|o| o.dropout.is_some_and(|share| (0.1..=0.3).contains(&share))));
        assert_eq!(trials.iter().filter(|trial| trial.architecture == Architecture::Gru).count(), 150);
    }

    #[test]
    fn rounds_of_a_halving() {
        assert_eq!(rounds(Strategy::Random, 50), [1.0]);
        assert_eq!(rounds(Strategy::Halving, 2), [1.0]);
        let shares = rounds(Strategy::Halving, 20);
        assert!(shares.iter().zip([1.0 / 9.0, 1.0 / 3.0, 1.0]).all(|(a, b)| (a - b).abs() < 1e-12) && shares.len() == 3);
    }

    #[test]
    fn every_architecture_has_a_space_whose_values_are_valid() {
        for architecture in Architecture::ALL {
            let trials = draw(&Options::default(), &[architecture], &tune("{\"trials\": 40}")).unwrap();
            assert!(trials[1..].iter().all(|trial| trial.options != Options::default()));
        }
    }
}
