//! Rules that remember one chain per step: the one that began last, because it can wait longest.
//!
//! Events of one time form a block. Its entries are read by step, as if the first step came first; a chain that begins
//! last dominates the others of its step, so one start per step is exact. Where each step must be later than the one
//! before, or a row may take one step only, a block extends the chains as they stood before it.

use std::ops::RangeInclusive;

use super::mode::LevelRule;
use super::once::Matching;
use super::{CONDITIONS_MAX, Event, Funnel};

/// Chains by the step that they took last.
#[derive(Debug, Clone)]
struct Chains {
    /// Bit `k`: a chain has taken steps `0..=k`.
    filled: u64,
    start: [i64; CONDITIONS_MAX],
    /// When step `k` was taken.
    last: [i64; CONDITIONS_MAX],
    /// Row `k`: the times of the chain's steps; empty unless tracked.
    paths: Vec<i64>,
}

impl Chains {
    const fn has(&self, step: usize) -> bool {
        self.filled & (1 << step) != 0
    }
}

/// What a run of the general rule remembers; kept between runs to spare allocations.
#[derive(Debug, Clone)]
pub(super) struct State {
    now: Chains,
    /// The chains as they stood before the block.
    before: Chains,
    rows_by_step: [u32; CONDITIONS_MAX],
    matching: Matching,
    depth: usize,
    started: bool,
}

impl State {
    pub(super) fn new() -> Self {
        let none = Chains { filled: 0, start: [0; CONDITIONS_MAX], last: [0; CONDITIONS_MAX], paths: vec![] };
        Self { now: none.clone(), before: none, rows_by_step: [0; CONDITIONS_MAX], matching: Matching::default(), depth: 0, started: false }
    }
}

/// What an entry leads to.
enum Next {
    Go,
    Stop,
}

impl Funnel {
    /// The default rule without anything else, for any number of steps and all times.
    pub(super) fn plain_depth(&self, events: &[Event]) -> usize {
        let (window, steps, bits_of_steps) = (self.window, self.steps, self.step_bits());
        let mut start = [0_i64; CONDITIONS_MAX];
        let mut filled = 0_u64;
        let mut at = 0;
        while let Some(&Event { time, mut mask }) = events.get(at) {
            at += 1;
            while let Some(next) = events.get(at).filter(|next| next.time == time) {
                mask |= next.mask;
                at += 1;
            }
            let mut bits = mask & bits_of_steps;
            while bits != 0 {
                let step = bits.trailing_zeros() as usize;
                bits &= bits - 1;
                if step == 0 {
                    start[0] = time;
                    filled |= 1;
                } else if filled & (1 << (step - 1)) != 0 && Self::reaches(window, start[step - 1], time) {
                    start[step] = start[step - 1];
                    filled |= 1 << step;
                    if step + 1 == steps {
                        return steps;
                    }
                }
            }
        }
        64 - filled.leading_zeros() as usize
    }

    /// Any rule of the family, with exclusions and the times of the steps.
    pub(super) fn level_depth(&mut self, events: &[Event], rule: LevelRule) -> usize {
        let size = if self.tracks { self.steps * self.steps } else { 0 };
        self.state.now.filled = 0;
        self.state.now.paths.resize(size, 0);
        self.state.depth = 0;
        self.state.started = false;
        let mut at = 0;
        while let Some(first) = events.get(at) {
            let length = events[at..].iter().take_while(|event| event.time == first.time).count();
            if matches!(self.block(&events[at..at + length], rule), Next::Stop) || self.state.depth == self.steps {
                break;
            }
            at += length;
        }
        self.state.depth
    }

    /// The events of one time.
    fn block(&mut self, block: &[Event], rule: LevelRule) -> Next {
        let bits_of_steps = self.step_bits();
        let steps_of = |event: &Event| {
            let steps = event.mask & bits_of_steps;
            if rule.first_only { steps & steps.wrapping_neg() } else { steps }
        };
        let all = block.iter().fold(0, |all, event| all | event.mask);
        self.exclude(all);
        if rule.order && self.state.started && block.iter().any(|event| steps_of(event) == 0) {
            return Next::Stop;
        }
        let Some(time) = block.first().map(|event| event.time) else { return Next::Go };
        self.snapshot(rule);
        let mut present = 0;
        for event in block {
            let mut bits = steps_of(event);
            present |= bits;
            while rule.deduplication && bits != 0 {
                self.state.rows_by_step[bits.trailing_zeros() as usize] += 1;
                bits &= bits - 1;
            }
        }
        let single = block.len() == 1;
        if rule.once && !rule.increase && !single {
            self.state.matching.begin(block.iter().map(steps_of));
        }
        let mut stopped = false;
        while present != 0 {
            let step = present.trailing_zeros() as usize;
            present &= present - 1;
            let rows = if rule.deduplication { std::mem::take(&mut self.state.rows_by_step[step]) } else { 1 };
            for _ in 0..rows {
                stopped = stopped || matches!(self.entry(step, time, rule, single), Next::Stop);
            }
        }
        if stopped { Next::Stop } else { Next::Go }
    }

    /// Chains between the steps of an exclusion that occurs are lost; what they reached counts.
    fn exclude(&mut self, all: u64) {
        for exclusion in &self.exclusions {
            if all & (1_u64 << (exclusion.bit & 63)) != 0 {
                for step in exclusion.from..exclusion.to.min(self.steps) {
                    self.state.now.filled &= !(1 << step);
                }
            }
        }
    }

    fn snapshot(&mut self, rule: LevelRule) {
        if rule.extends_old() {
            let State { now, before, .. } = &mut self.state;
            before.filled = now.filled;
            before.start[..self.steps].copy_from_slice(&now.start[..self.steps]);
            before.paths.clone_from(&now.paths);
        }
    }

    /// A row of the block that satisfies `step`.
    fn entry(&mut self, step: usize, time: i64, rule: LevelRule, single: bool) -> Next {
        if step == 0 {
            self.state.started = true;
            if rule.once && !rule.increase && !single {
                self.state.matching.reach(0);
            }
            self.take(0..=0, time, time, false);
            return Next::Go;
        }
        if rule.deduplication && self.state.now.has(step) {
            return Next::Stop;
        }
        if rule.order && self.state.started && !self.state.now.has(step - 1) {
            return if rule.reentry { Next::Go } else { Next::Stop };
        }
        let old = rule.extends_old();
        // Steps `from..=step` are taken inside the block by a chain that stood at `from` before it.
        let from = if rule.increase || !rule.once || single { step } else { self.state.matching.reach(step) };
        let chains = if old { &self.state.before } else { &self.state.now };
        let source = match from {
            0 => Some(time),
            _ if !chains.has(from - 1) || (rule.loses_chains() && chains.last[from - 1] >= time) => None,
            _ => Some(chains.start[from - 1]),
        };
        if let Some(start) = source.filter(|start| Self::reaches(self.window, *start, time))
            && !(self.state.now.has(step) && self.state.now.start[step] > start)
        {
            self.take(from..=step, start, time, old);
        }
        Next::Go
    }

    /// A chain that began at `start` takes `steps` at `time`.
    fn take(&mut self, steps: RangeInclusive<usize>, start: i64, time: i64, old: bool) {
        let (from, step, row) = (*steps.start(), *steps.end(), self.steps);
        let State { now, before, depth, .. } = &mut self.state;
        now.filled |= 1 << step;
        now.start[step] = start;
        now.last[step] = time;
        if self.tracks {
            if let Some(source) = from.checked_sub(1).map(|source| source * row) {
                match old {
                    true => now.paths[step * row..step * row + from].copy_from_slice(&before.paths[source..source + from]),
                    false => now.paths.copy_within(source..source + from, step * row),
                }
            }
            now.paths[step * row + from..=step * row + step].fill(time);
        }
        if step + 1 > *depth {
            *depth = step + 1;
            if self.tracks {
                self.path.clear();
                self.path.extend_from_slice(&now.paths[step * row..=step * row + step]);
            }
        }
    }
}
