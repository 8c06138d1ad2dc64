//! Which steps the rows of one time can take together when a row takes at most one: a bipartite matching.

/// Rows of a block, and the consecutive steps that they take at present.
#[derive(Debug, Clone, Default)]
pub(super) struct Matching {
    rows: Vec<u64>,
    /// The step that a row takes.
    step_of: Vec<Option<usize>>,
    visited: Vec<bool>,
    /// Steps `low..=high` are taken.
    taken: Option<(usize, usize)>,
}

/// More equal rows than there are steps change nothing.
const EQUAL_ROWS_MAX: usize = 64;

impl Matching {
    /// Starts with the rows of a block: the steps that each satisfies.
    pub(super) fn begin(&mut self, rows: impl Iterator<Item = u64>) {
        self.rows.clear();
        self.rows.extend(rows.filter(|steps| *steps != 0));
        self.rows.sort_unstable();
        let mut equal = 0;
        let mut last = 0;
        self.rows.retain(|row| {
            equal = if *row == last { equal + 1 } else { 0 };
            last = *row;
            equal < EQUAL_ROWS_MAX
        });
        self.step_of.clear();
        self.step_of.resize(self.rows.len(), None);
        self.taken = None;
    }

    /// The lowest `from` for which different rows take all of `from..=step`. Called with steps that ascend and that some
    /// row satisfies.
    pub(super) fn reach(&mut self, step: usize) -> usize {
        let mut low = match self.taken {
            Some((low, high)) if high == step => return low,
            Some((low, high)) if high + 1 == step => low,
            _ => {
                self.step_of.fill(None);
                step
            }
        };
        loop {
            self.visited.clear();
            self.visited.resize(self.rows.len(), false);
            if self.place(step) || low >= step {
                break;
            }
            // What cannot hold with the lowest step cannot hold with it later either.
            self.step_of.iter_mut().filter(|taken| **taken == Some(low)).for_each(|taken| *taken = None);
            low += 1;
        }
        self.taken = Some((low, step));
        low
    }

    /// Finds a row for `step`, moving others (Kuhn's augmenting path; as deep as there are steps).
    fn place(&mut self, step: usize) -> bool {
        for row in 0..self.rows.len() {
            if self.rows[row] & (1 << step) == 0 || self.visited[row] {
                continue;
            }
            self.visited[row] = true;
            let free = match self.step_of[row] {
                None => true,
                Some(other) => self.place(other),
            };
            if free {
                self.step_of[row] = Some(step);
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_move_over_for_one_another() {
        let mut matching = Matching::default();
        matching.begin([0b011, 0b001, 0b100].into_iter());
        assert_eq!((matching.reach(0), matching.reach(1), matching.reach(2)), (0, 0, 0));
        matching.begin([0b111, 0b011].into_iter());
        // Two rows take two steps: with step 2, step 0 is let go.
        assert_eq!((matching.reach(0), matching.reach(1), matching.reach(2)), (0, 0, 1));
        matching.begin([0b101].into_iter());
        assert_eq!((matching.reach(0), matching.reach(2)), (0, 2));
    }
}
