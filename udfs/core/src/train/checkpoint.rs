//! Checkpoints: a fit's whole state between two epochs as bytes, and back, to the bit.
//!
//! A training has several fits (candidates, trials, members of an ensemble), each under a label of its own; a fit that
//! ended stays as its last state, so that a resumed training does not repeat it. Where the bytes lie, and for which data
//! and options they hold, is the [`CheckpointStore`]'s business.
//!
//! Layout: blake3 of the rest (32 bytes), length of the head (8, little endian), the head as JSON with every float as its
//! bits, then safetensors: `now/`, `best/`, `first/` and `second/` with the parameters' names.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::EpochRecord;
use super::fit::{Best, Place};
use crate::error::{Code, Error, Result};
use crate::features::options::CheckpointEvery;
use crate::models::Parameters;
use crate::models::ops::{Moments, OptimizerState};

/// The format this build writes; another one is not read.
const FORMAT: u32 = 1;
const HASH_BYTES: usize = 32;
const LENGTH_BYTES: usize = 8;

/// Keeps bytes by label for one training; a crash leaves the old ones or the new ones.
pub trait CheckpointStore: Send + Sync {
    /// The bytes under `label`; `None` when there are none.
    ///
    /// # Errors
    /// 58030 when they cannot be read.
    fn load(&self, label: &str) -> Result<Option<Vec<u8>>>;

    /// Replaces the bytes under `label`, durably.
    ///
    /// # Errors
    /// 58030 or 53100 when they cannot be written.
    fn save(&self, label: &str, bytes: Vec<u8>) -> Result<()>;
}

/// A training's checkpoints and when they are due.
#[allow(missing_debug_implementations, reason = "holds a store")]
pub(super) struct Checkpoints<'a> {
    store: &'a dyn CheckpointStore,
    every: CheckpointEvery,
}

/// What a fit is between two epochs.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) place: Place,
    pub(super) parameters: Parameters,
    pub(super) optimizer: OptimizerState,
    pub(super) learning_rate: f64,
    pub(super) steps: u32,
}

impl<'a> Checkpoints<'a> {
    pub(super) fn new(store: &'a dyn CheckpointStore, every: CheckpointEvery) -> Self {
        Self { store, every }
    }

    /// Whether one is to be written after epoch `epoch`; `saved` is when the last one was.
    pub(super) fn is_due(&self, epoch: usize, saved: Instant) -> bool {
        match self.every {
            CheckpointEvery::Epochs(epochs) => epoch.is_multiple_of(epochs.max(1) as usize),
            CheckpointEvery::Seconds(seconds) => saved.elapsed().as_secs_f64() >= seconds,
        }
    }

    /// The state under `label`. One that cannot be read is as good as none: the fit starts anew, to the same end.
    pub(super) fn load(&self, label: &str) -> Option<State> {
        let read = self.store.load(label).and_then(|bytes| bytes.map(|bytes| State::from_bytes(&bytes)).transpose());
        read.unwrap_or_else(|error| {
            tracing::warn!(label, %error, "a checkpoint cannot be read; this part of the training starts anew");
            None
        })
    }

    /// Writes the state under `label`. A training whose checkpoints cannot be written goes on without.
    ///
    /// # Errors
    /// `Internal` when the state cannot be put into bytes.
    pub(super) fn save(&self, label: &str, state: &State) -> Result<()> {
        if let Err(error) = self.store.save(label, state.to_bytes()?) {
            tracing::warn!(label, %error, "a checkpoint could not be written");
        }
        Ok(())
    }

    /// A number that was worked out under `label` before.
    pub(super) fn number(&self, label: &str) -> Option<f64> {
        let bytes = self.store.load(label).ok().flatten()?;
        bytes.as_slice().try_into().ok().map(|bits| f64::from_bits(u64::from_le_bytes(bits)))
    }

    /// Keeps a number under `label`.
    pub(super) fn save_number(&self, label: &str, number: f64) {
        if let Err(error) = self.store.save(label, number.to_bits().to_le_bytes().to_vec()) {
            tracing::warn!(label, %error, "a checkpoint could not be written");
        }
    }
}

/// The part of a state that is not arrays; floats as bits, because text would round them.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    format: u32,
    epoch: usize,
    steps: u32,
    steps_back: usize,
    over: bool,
    seconds: u64,
    learning_rate: u64,
    optimizer_steps: i32,
    best: Option<(u64, usize)>,
    history: Vec<(usize, [u64; 6])>,
    notes: Vec<String>,
}

fn corrupted(reason: impl std::fmt::Display) -> Error {
    Error::new(Code::DataCorrupted, "a checkpoint is damaged").detail(format!("{reason}."))
}

fn record_bits(record: &EpochRecord) -> (usize, [u64; 6]) {
    let numbers = [record.train_loss, record.valid_loss, record.valid_metric, record.learning_rate, record.seconds, record.rows_per_s]
        .map(f64::to_bits);
    (record.epoch, numbers)
}

fn record((epoch, bits): (usize, [u64; 6])) -> EpochRecord {
    let [train_loss, valid_loss, valid_metric, learning_rate, seconds, rows_per_s] = bits.map(f64::from_bits);
    EpochRecord { epoch, train_loss, valid_loss, valid_metric, learning_rate, seconds, rows_per_s }
}

impl State {
    fn to_bytes(&self) -> Result<Vec<u8>> {
        let place = &self.place;
        let head = Head {
            format: FORMAT,
            epoch: place.epoch,
            steps: self.steps,
            steps_back: place.steps_back,
            over: place.over,
            seconds: place.seconds.to_bits(),
            learning_rate: self.learning_rate.to_bits(),
            optimizer_steps: self.optimizer.steps,
            best: place.best.as_ref().map(|best| (best.loss.to_bits(), best.epoch)),
            history: place.history.iter().map(record_bits).collect(),
            notes: place.notes.clone(),
        };
        let head = serde_json::to_vec(&head).map_err(|error| Error::internal(format!("a checkpoint cannot be written: {error}")))?;
        let mut arrays = Parameters::default();
        let mut add = |part: &str, name: &str, shape: Vec<usize>, values: &[f32]| {
            arrays.0.insert(format!("{part}/{name}"), (shape, values.to_vec()));
        };
        for (name, (shape, values)) in &self.parameters.0 {
            add("now", name, shape.clone(), values);
        }
        for (name, (shape, values)) in place.best.iter().flat_map(|best| &best.parameters.0) {
            add("best", name, shape.clone(), values);
        }
        for (name, moments) in &self.optimizer.moments {
            add("first", name, vec![moments.first.len()], &moments.first);
            add("second", name, vec![moments.second.len()], &moments.second);
            if !moments.taken.is_empty() {
                // Bits, not numbers: a float holds no more than 2²⁴ steps.
                let taken: Vec<f32> = moments.taken.iter().map(|steps| f32::from_bits(*steps)).collect();
                add("taken", name, vec![taken.len()], &taken);
            }
        }
        let arrays = arrays.to_safetensors()?;
        let mut body = (head.len() as u64).to_le_bytes().to_vec();
        body.extend(head);
        body.extend(arrays);
        let mut bytes = blake3::hash(&body).as_bytes().to_vec();
        bytes.extend(body);
        Ok(bytes)
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (hash, body) = bytes.split_at_checked(HASH_BYTES).ok_or_else(|| corrupted("It is too short"))?;
        if blake3::hash(body).as_bytes() != hash {
            return Err(corrupted("Its checksum is wrong"));
        }
        let (length, rest) = body.split_at_checked(LENGTH_BYTES).ok_or_else(|| corrupted("It is too short"))?;
        let length = length.try_into().map(u64::from_le_bytes).map_err(corrupted)?;
        let split = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
        let (head, arrays) = split.ok_or_else(|| corrupted("It is too short"))?;
        let head: Head = serde_json::from_slice(head).map_err(corrupted)?;
        if head.format != FORMAT {
            return Err(corrupted(format!("Its format {} is not known", head.format)));
        }
        let (mut now, mut best) = (Parameters::default(), Parameters::default());
        let mut moments: BTreeMap<String, Moments> = BTreeMap::new();
        for (name, (shape, values)) in Parameters::from_safetensors(arrays)?.0 {
            let (part, name) = name.split_once('/').ok_or_else(|| corrupted("It holds an unknown array"))?;
            match part {
                "now" => drop(now.0.insert(name.to_owned(), (shape, values))),
                "best" => drop(best.0.insert(name.to_owned(), (shape, values))),
                "first" => moments.entry(name.to_owned()).or_default().first = values,
                "second" => moments.entry(name.to_owned()).or_default().second = values,
                "taken" => moments.entry(name.to_owned()).or_default().taken = values.into_iter().map(f32::to_bits).collect(),
                _ => return Err(corrupted("It holds an unknown array")),
            }
        }
        let best = head.best.map(|(loss, epoch)| Best { loss: f64::from_bits(loss), epoch, parameters: best });
        let place = Place {
            epoch: head.epoch,
            history: head.history.into_iter().map(record).collect(),
            notes: head.notes,
            best,
            steps_back: head.steps_back,
            over: head.over,
            seconds: f64::from_bits(head.seconds),
        };
        let optimizer = OptimizerState { steps: head.optimizer_steps, moments };
        Ok(Self { place, parameters: now, optimizer, learning_rate: f64::from_bits(head.learning_rate), steps: head.steps })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let parameters = Parameters([("w".to_owned(), (vec![2, 1], vec![0.1f32, -3e-39]))].into());
        let moments = Moments { first: vec![1e-30, 2.0], second: Vec::new(), taken: vec![3, 1 << 31] };
        let history = vec![EpochRecord {
            epoch: 1,
            train_loss: 0.1 + 0.2,
            valid_loss: 1.0 / 3.0,
            valid_metric: f64::NAN,
            learning_rate: 1e-3,
            seconds: 0.5,
            rows_per_s: 9.0,
        }];
        let best = Some(Best { loss: 1.0 / 3.0, epoch: 1, parameters: parameters.clone() });
        let place = Place { epoch: 2, history, notes: vec!["a".into()], best, steps_back: 1, over: false, seconds: 1.5 };
        let optimizer = OptimizerState { steps: 7, moments: [("w".to_owned(), moments)].into() };
        State { place, parameters, optimizer, learning_rate: 0.1 / 3.0, steps: 9 }
    }

    #[test]
    fn a_state_comes_back_to_the_bit() {
        let (state, bytes) = (state(), state().to_bytes().unwrap());
        let back = State::from_bytes(&bytes).unwrap();
        assert_eq!((back.parameters, back.optimizer, back.steps), (state.parameters, state.optimizer, state.steps));
        assert_eq!(back.learning_rate.to_bits(), state.learning_rate.to_bits());
        assert_eq!(record_bits(&back.place.history[0]), record_bits(&state.place.history[0]));
        let (own, theirs) = (back.place.best.unwrap(), state.place.best.unwrap());
        assert_eq!((own.loss.to_bits(), own.epoch, own.parameters), (theirs.loss.to_bits(), theirs.epoch, theirs.parameters));
        assert_eq!((back.place.epoch, back.place.notes, back.place.steps_back, back.place.over), (2, vec!["a".to_owned()], 1, false));
    }

    #[test]
    fn damage_is_noticed() {
        let bytes = state().to_bytes().unwrap();
        for at in [0, HASH_BYTES, HASH_BYTES + LENGTH_BYTES + 3, bytes.len() - 1] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(State::from_bytes(&damaged).unwrap_err().code, Code::DataCorrupted, "{at}");
        }
        assert_eq!(State::from_bytes(&bytes[..bytes.len() - 4]).unwrap_err().code, Code::DataCorrupted);
        assert_eq!(State::from_bytes(b"").unwrap_err().code, Code::DataCorrupted);
    }
}
