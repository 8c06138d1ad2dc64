//! Answers of one statement by user, so that each user goes through the network once.
//!
//! The memo is shared by all partitions and all nodes of a statement that use the same version. It is bounded: answers
//! live in two generations, the younger one takes new and used ones, and when it has its half of the bytes the older
//! one is dropped. Under memory pressure of the statement's pool the generations turn earlier. What was dropped is computed again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::answers::{Answers, Layout, UNKNOWN};
use super::predictor::{Key, Predictor, Tally};
use crate::error::Result;
use crate::features::events::UserKey;

/// Bytes that one statement may keep of answers of one version.
pub(crate) const MEMO_BYTES_MAX: usize = 128 << 20;

/// What a key costs beside its answer: the map's entry and its share of free slots.
const KEY_BYTES: usize = 80;

/// See the module's header.
#[derive(Debug)]
pub(crate) struct Memo {
    layout: Arc<Layout>,
    bytes_max: usize,
    state: Mutex<State>,
    /// Fires when somebody's users are done, well or not.
    settled: Notify,
}

#[derive(Debug)]
struct State {
    young: Generation,
    old: Generation,
    /// Users that some partition is working on.
    pending: HashSet<Key>,
    reservation: MemoryReservation,
}

#[derive(Debug)]
struct Generation {
    rows: HashMap<Key, u32>,
    answers: Answers,
    bytes: usize,
}

impl Generation {
    fn new(layout: &Arc<Layout>) -> Self {
        Self { rows: HashMap::new(), answers: Answers::new(layout), bytes: 0 }
    }

    fn row(&self, key: &Key) -> Option<usize> {
        self.rows.get(key).map(|row| *row as usize)
    }
}

impl Memo {
    pub(crate) fn new(layout: &Arc<Layout>, pool: &Arc<dyn MemoryPool>, bytes_max: usize) -> Self {
        let reservation = MemoryConsumer::new("predictions").register(pool);
        let state = State { young: Generation::new(layout), old: Generation::new(layout), pending: HashSet::new(), reservation };
        Self { layout: Arc::clone(layout), bytes_max, state: Mutex::new(state), settled: Notify::new() }
    }

    /// Answers for distinct `keys`, one row for each in their order: from the memo, from another partition that is
    /// working on them, or from `predictor`.
    pub(crate) async fn answer(&self, keys: &[Key], predictor: &dyn Predictor, tally: &Tally) -> Result<Answers> {
        let mut found = Answers::new(&self.layout);
        let mut rows = vec![UNKNOWN; keys.len()];
        loop {
            // Listening begins before looking, so that nothing settled in between is missed.
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            let (claim, missing) = self.claim(keys, &mut rows, &mut found);
            if !missing {
                break;
            }
            if claim.keys.is_empty() {
                settled.await;
                continue;
            }
            tally.distinct_users.add(claim.keys.len());
            let mut order: Vec<usize> = claim.keys.iter().map(|(index, _)| *index).collect();
            order.sort_unstable_by(|a, b| keys[*a].cmp(&keys[*b]));
            let wanted: Vec<Key> = order.iter().map(|index| keys[*index].clone()).collect();
            let answers = predictor.users(&wanted, &self.layout, tally).await?;
            for (row, index) in order.into_iter().enumerate() {
                rows[index] = u32::try_from(found.len()).unwrap_or(UNKNOWN);
                found.push_from(&answers, row);
            }
            self.keep(&wanted, &answers);
        }
        let mut ordered = Answers::new(&self.layout);
        rows.iter().for_each(|row| ordered.push_from(&found, *row as usize));
        Ok(ordered)
    }

    /// Copies what is known, and claims what nobody works on. The flag says whether anything is still missing.
    fn claim(&self, keys: &[Key], rows: &mut [u32], found: &mut Answers) -> (Claim<'_>, bool) {
        let mut state = self.state.lock();
        let mut claim = Claim { memo: self, keys: Vec::new() };
        let mut missing = false;
        for (index, key) in keys.iter().enumerate() {
            if rows[index] != UNKNOWN {
                continue;
            }
            let next = u32::try_from(found.len()).unwrap_or(UNKNOWN);
            if let Some(row) = state.young.row(key) {
                found.push_from(&state.young.answers, row);
                rows[index] = next;
            } else if let Some(row) = state.old.row(key) {
                found.push_from(&state.old.answers, row);
                rows[index] = next;
                self.insert(&mut state, key, found, next as usize);
            } else {
                missing = true;
                if state.pending.insert(key.clone()) {
                    claim.keys.push((index, key.clone()));
                }
            }
        }
        (claim, missing)
    }

    fn keep(&self, keys: &[Key], answers: &Answers) {
        let mut state = self.state.lock();
        for (row, key) in keys.iter().enumerate() {
            self.insert(&mut state, key, answers, row);
        }
    }

    fn insert(&self, state: &mut State, key: &Key, answers: &Answers, row: usize) {
        let text = if let UserKey::Utf8(text) = &key.0 { text.len() } else { 0 };
        let bytes = KEY_BYTES + text + self.layout.row_bytes();
        let full = state.young.bytes + bytes > self.bytes_max / 2;
        if full || state.reservation.try_grow(bytes).is_err() {
            let old = std::mem::replace(&mut state.old, Generation::new(&self.layout));
            state.reservation.shrink(old.bytes);
            drop(old);
            state.old = std::mem::replace(&mut state.young, Generation::new(&self.layout));
            if state.reservation.try_grow(bytes).is_err() {
                return;
            }
        }
        let next = u32::try_from(state.young.answers.len()).unwrap_or(UNKNOWN);
        state.young.answers.push_from(answers, row);
        state.young.bytes += bytes;
        if state.young.rows.insert(key.clone(), next).is_some() {
            debug_assert!(false, "a user was scored twice");
        }
    }
}

/// Users that this partition has promised to answer. Gives them up when dropped, so that an error or a cancelled
/// statement leaves nobody waiting.
#[derive(Debug)]
struct Claim<'a> {
    memo: &'a Memo,
    keys: Vec<(usize, Key)>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if self.keys.is_empty() {
            return;
        }
        let mut state = self.memo.state.lock();
        for (_, key) in &self.keys {
            state.pending.remove(key);
        }
        drop(state);
        self.memo.settled.notify_waiters();
    }
}
