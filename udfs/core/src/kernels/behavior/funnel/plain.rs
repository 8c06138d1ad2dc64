//! The rules that most queries ask for, in loops of their own: no word, `strict_increase` alone, `strict_order` alone.
//!
//! A chain is told by its deadline, the last time that it can go on; the latest deadline of a step dominates the others. Whether an
//! event takes a step is chosen without a jump, for what comes next in a history cannot be foreseen.

use super::mode::LevelRule;
use super::{CONDITIONS_MAX, Event, Funnel};

/// The rules that have a loop here.
#[derive(Debug, Clone, Copy)]
pub(super) enum Plain {
    /// The default.
    Any,
    /// Each step is later than the one before.
    Increase,
    /// Any other event ends the search.
    Order,
}

impl Plain {
    pub(super) const fn of(rule: LevelRule) -> Option<Self> {
        match rule {
            LevelRule { deduplication: false, once: false, reentry: false, first_only: false, order, increase, newest_only } => {
                match (order, increase && newest_only, increase) {
                    (false, false, false) => Some(Self::Any),
                    (false, false, true) => Some(Self::Increase),
                    (true, false, false) => Some(Self::Order),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// No chain has taken the step.
const NONE: i64 = -1;
/// Times so far apart, and longer ones, are not counted from the first of them: a time and a window would leave 64 bits.
const SPAN_MAX: u64 = 1 << 62;

/// How many steps the deepest chain takes; `None` where times are too far apart or steps too many.
pub(super) fn depth(funnel: &Funnel, events: &[Event], rule: Plain) -> Option<usize> {
    let (Some(first), Some(last)) = (events.first(), events.last()) else { return Some(0) };
    let span = last.time.wrapping_sub(first.time).cast_unsigned();
    if span >= SPAN_MAX {
        return None;
    }
    // A window longer than the history is as long as the history.
    let window = funnel.window.min(span).cast_signed();
    if let Plain::Order = rule {
        return Some(order(events, funnel.steps, funnel.step_bits(), window));
    }
    macro_rules! for_steps {
        ($($steps:literal),*) => {
            match (rule, funnel.steps) {
                $((Plain::Increase, $steps) => Some(chains::<$steps, true>(events, window)),
                (_, $steps) => Some(chains::<$steps, false>(events, window)),)*
                _ => None,
            }
        };
    }
    for_steps!(1, 2, 3, 4, 5, 6, 7, 8)
}

/// The events of the next time from `at` on, as one: its time since `base` and all its conditions.
#[inline]
fn block(events: &[Event], at: &mut usize, base: i64) -> Option<(i64, u64)> {
    let &Event { time, mut mask } = events.get(*at)?;
    *at += 1;
    while let Some(next) = events.get(*at).filter(|next| next.time == time) {
        mask |= next.mask;
        *at += 1;
    }
    Some((time - base, mask))
}

/// Chains of `N` steps. With `INCREASE` an event extends chains as they stood before its time.
fn chains<const N: usize, const INCREASE: bool>(events: &[Event], window: i64) -> usize {
    let base = events.first().map_or(0, |event| event.time);
    let mut deadlines = [NONE; N];
    let mut at = 0;
    while let Some((time, mask)) = block(events, &mut at, base) {
        let begins = |deadline: i64| if mask & 1 != 0 { time + window } else { deadline };
        let goes_on = |step: usize, from: i64, deadline: i64| {
            if ((mask >> step) & 1 != 0) & (from >= time) { from } else { deadline }
        };
        if INCREASE {
            for step in (1..N).rev() {
                deadlines[step] = goes_on(step, deadlines[step - 1], deadlines[step]);
            }
            deadlines[0] = begins(deadlines[0]);
        } else {
            deadlines[0] = begins(deadlines[0]);
            for step in 1..N {
                deadlines[step] = goes_on(step, deadlines[step - 1], deadlines[step]);
            }
        }
        if deadlines[N - 1] != NONE {
            return N;
        }
    }
    deadlines.iter().take_while(|deadline| **deadline != NONE).count()
}

/// The search ends with the first event that takes no step after one has taken the first.
fn order(events: &[Event], steps: usize, bits_of_steps: u64, window: i64) -> usize {
    let base = events.first().map_or(0, |event| event.time);
    let mut deadlines = [NONE; CONDITIONS_MAX];
    let (mut reached, mut at) = (0, 0);
    while reached < steps {
        let from = at;
        let Some((time, mask)) = block(events, &mut at, base) else { break };
        if reached > 0 && events[from..at].iter().any(|event| event.mask & bits_of_steps == 0) {
            break;
        }
        let mut bits = mask & bits_of_steps;
        while bits != 0 {
            let step = bits.trailing_zeros() as usize;
            bits &= bits - 1;
            if step == 0 {
                deadlines[0] = time + window;
                reached = reached.max(1);
            } else if reached > 0 && step > reached {
                return reached;
            } else if reached > 0 && deadlines[step - 1] >= time {
                deadlines[step] = deadlines[step - 1];
                reached = reached.max(step + 1);
            }
        }
    }
    reached
}
