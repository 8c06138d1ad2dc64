//! Rules that walk from row to row: Doris's and StarRocks's.
//!
//! Rows of one time follow one another by their masks, so those that satisfy an earlier step come first.

use super::{Event, Funnel};

impl Funnel {
    /// Doris's `deduplication`: from each row of the first step the next step is looked for; a row between that satisfies
    /// a step already taken ends the chain. A chain passes a row of the first step only by taking it as another
    /// step, so all starts together cost O(rows × steps).
    pub(super) fn deduplication_depth(&mut self, events: &[Event]) -> usize {
        let mut deepest = 0;
        let mut path = vec![];
        for (at, first) in events.iter().enumerate().filter(|(_, event)| event.mask & 1 != 0) {
            path.clear();
            path.push(first.time);
            for event in &events[at + 1..] {
                let next = path.len();
                if next == self.steps || !Self::reaches(self.window, first.time, event.time) {
                    break;
                }
                if event.mask & (1 << next) != 0 {
                    path.push(event.time);
                } else if event.mask & ((1 << next) - 1) != 0 {
                    break;
                }
            }
            self.keep(&mut deepest, &path);
            if deepest == self.steps {
                break;
            }
        }
        deepest
    }

    /// Doris's `fixed`: from each row of the first step the rows that follow must be the next steps.
    pub(super) fn fixed_depth(&mut self, events: &[Event], unmatched_break: bool) -> usize {
        let steps = self.step_bits();
        let mut deepest = 0;
        let mut path = vec![];
        for (at, first) in events.iter().enumerate().filter(|(_, event)| event.mask & 1 != 0) {
            path.clear();
            path.push(first.time);
            for event in events[at + 1..].iter().filter(|event| unmatched_break || event.mask & steps != 0) {
                let next = path.len();
                if next == self.steps || event.mask & (1 << next) == 0 || !Self::reaches(self.window, first.time, event.time) {
                    break;
                }
                path.push(event.time);
            }
            self.keep(&mut deepest, &path);
            if deepest == self.steps {
                break;
            }
        }
        deepest
    }

    /// StarRocks's sums of bits: one chain, closed by what violates the rule; the next first step opens another.
    pub(super) fn bits_depth(&mut self, events: &[Event], bits: u8) -> usize {
        let (deduplication, fixed, increase) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
        let steps = self.step_bits();
        let mut deepest = 0;
        let mut path: Vec<i64> = vec![];
        for event in events.iter().filter(|event| event.mask & steps != 0) {
            let step = event.mask.trailing_zeros() as usize;
            let reached = path.first().is_some_and(|start| Self::reaches(self.window, *start, event.time))
                && !(increase && path.last().is_some_and(|last| *last >= event.time));
            if step == 0 {
                path.clear();
                path.push(event.time);
            } else if step == path.len() && reached {
                path.push(event.time);
            } else if fixed || (deduplication && step < path.len()) {
                path.clear();
            }
            self.keep(&mut deepest, &path);
            if deepest == self.steps {
                break;
            }
        }
        deepest
    }

    /// Keeps a chain that goes deeper than those before.
    fn keep(&mut self, deepest: &mut usize, path: &[i64]) {
        if path.len() > *deepest {
            *deepest = path.len();
            if self.tracks {
                self.path.clear();
                self.path.extend_from_slice(path);
            }
        }
    }
}
