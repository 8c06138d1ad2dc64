//! Tells people how far a training is: a NOTICE about every two seconds, and the job's row more often.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::context::NoticeSink;
use crate::models::Architecture;
use crate::registry::JobProgress;
use crate::train::{Part, Progress};

const NOTICE_EVERY: Duration = Duration::from_secs(2);
const JOB_EVERY: Duration = Duration::from_millis(200);

/// Called by the training thread after every batch.
pub(crate) struct Reporter {
    notice: NoticeSink,
    job: Box<dyn Fn(JobProgress) + Send + Sync>,
    /// Architectures that will be tried at most.
    candidates: usize,
    state: Mutex<State>,
}

struct State {
    noticed: Instant,
    updated: Option<Instant>,
    tried: Vec<Architecture>,
}

impl Reporter {
    pub(crate) fn new(notice: NoticeSink, job: Box<dyn Fn(JobProgress) + Send + Sync>, candidates: usize) -> Self {
        Self { notice, job, candidates, state: Mutex::new(State { noticed: Instant::now(), updated: None, tried: vec![] }) }
    }

    /// A step before the epochs start.
    pub(crate) fn step(&self, message: &str) {
        (self.job)(JobProgress { fraction: 0.0, eta_seconds: None, message: message.to_owned() });
    }

    pub(crate) fn report(&self, progress: Progress) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.tried.contains(&progress.architecture) {
            state.tried.push(progress.architecture);
        }
        let now = Instant::now();
        if state.updated.is_none_or(|at| now.duration_since(at) >= JOB_EVERY) {
            state.updated = Some(now);
            let before = state.tried.len() - 1;
            let eta_seconds = Some(progress.eta_seconds).filter(|eta| eta.is_finite());
            (self.job)(JobProgress { fraction: fraction(&progress, before, self.candidates), eta_seconds, message: describe(&progress) });
        }
        if now.duration_since(state.noticed) >= NOTICE_EVERY {
            state.noticed = now;
            // Not under the lock: the sink may wait for a slow client.
            drop(state);
            (self.notice)(&describe(&progress));
        }
    }
}

/// The share of the whole that is done when every candidate runs all of its epochs.
fn fraction(progress: &Progress, before: usize, candidates: usize) -> f64 {
    let epochs = progress.epochs.max(1) as f64;
    let done = (progress.epoch.max(1) - 1) as f64 + progress.batch as f64 / progress.batches.max(1) as f64;
    let own = (done / epochs).clamp(0.0, 1.0);
    match progress.part {
        Part::Whole => ((before as f64 + own) / candidates.max(before + 1) as f64).clamp(0.0, 1.0),
        Part::Trial { at, of } | Part::Member { at, of } | Part::Fold { at, of } => ((at.max(1) - 1) as f64 + own) / of.max(1) as f64,
    }
}

fn describe(p: &Progress) -> String {
    let part = match p.part {
        Part::Whole => String::new(),
        Part::Trial { at, of } => format!("trial {at}/{of}, "),
        Part::Member { at, of } => format!("member {at}/{of}, "),
        Part::Fold { at, of } => format!("fold {at}/{of}, "),
    };
    format!(
        "{part}{}: epoch {}/{}, batch {}/{}, loss {:.4}, {:.0} rows/s, at most {} left",
        p.architecture,
        p.epoch,
        p.epochs,
        p.batch,
        p.batches,
        p.loss,
        p.rows_per_s,
        clock(p.eta_seconds)
    )
}

/// Seconds as `m:ss`.
fn clock(seconds: f64) -> String {
    let seconds = if seconds.is_finite() { seconds.clamp(0.0, 359_999.0).round() as u64 } else { 0 };
    if seconds >= 3600 {
        format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
    } else {
        format!("{}:{:02}", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_grows_from_zero_to_one() {
        let at = |epoch, batch| Progress {
            part: Part::Whole,
            architecture: Architecture::Gru,
            epoch,
            epochs: 10,
            batch,
            batches: 4,
            loss: 0.5,
            rows_per_s: 1000.0,
            eta_seconds: 75.0,
        };
        assert_eq!(fraction(&at(1, 0), 0, 2), 0.0);
        assert_eq!(fraction(&at(10, 4), 0, 2), 0.5);
        assert_eq!(fraction(&at(10, 4), 1, 2), 1.0);
        assert_eq!(describe(&at(3, 2)), "gru: epoch 3/10, batch 2/4, loss 0.5000, 1000 rows/s, at most 1:15 left");
        let trial = Progress { part: Part::Trial { at: 3, of: 4 }, ..at(10, 4) };
        assert_eq!(fraction(&trial, 0, 1), 0.75);
        assert!(describe(&trial).starts_with("trial 3/4, gru: epoch 10/10"));
        assert_eq!(clock(3700.0), "1:01:40");
    }
}
