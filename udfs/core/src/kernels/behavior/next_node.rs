//! What comes next to a chain of events, or came before it: ClickHouse's `sequenceNextNode`.

/// A row: its place in the order is given by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// In the unit of the time column.
    pub time: i64,
    /// Bit 0: whether it may be the base. Bit `i`: whether it is event `i` of the chain.
    pub mask: u64,
}

/// Which way the chain goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// To later rows.
    Forward,
    /// To earlier rows.
    Backward,
}

/// Where the chain begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Base {
    /// The first row of all, if it may be the base.
    Head,
    /// The last row of all.
    Tail,
    /// The first row that may be the base and is the first event.
    FirstMatch,
    /// The last such row.
    LastMatch,
}

/// The row next to the chain: from the base, `events` neighbours must be events 1, 2, … of the chain. Rows are in order.
/// `None` when there is no base, no such chain, or nothing next to it. O(rows).
#[must_use]
pub fn next_node(rows: &[Node], events: usize, direction: Direction, base: Base) -> Option<usize> {
    let may = |row: &&Node| row.mask & 1 != 0;
    let begins = |row: &Node| row.mask & 1 != 0 && (events == 0 || row.mask & 2 != 0);
    let base = match base {
        Base::Head => rows.first().filter(may).map(|_| 0),
        Base::Tail => rows.last().filter(may).map(|_| rows.len() - 1),
        Base::FirstMatch => rows.iter().position(begins),
        Base::LastMatch => rows.iter().rposition(begins),
    }?;
    let at = |step: usize| match direction {
        Direction::Forward => base.checked_add(step).filter(|at| *at < rows.len()),
        Direction::Backward => base.checked_sub(step),
    };
    for step in 0..events {
        if rows[at(step)?].mask & (1 << (step + 1)) == 0 {
            return None;
        }
    }
    at(events.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(masks: &[u64]) -> Vec<Node> {
        masks.iter().enumerate().map(|(time, mask)| Node { time: time as i64, mask: *mask }).collect()
    }

    #[test]
    fn chains_forward_and_backward() {
        // a b c a b: bit 1 is a, bit 2 is b; every row may be the base.
        let history = rows(&[0b011, 0b101, 0b001, 0b011, 0b101]);
        let next = |events, direction, base| next_node(&history, events, direction, base);
        assert_eq!(next(2, Direction::Forward, Base::Head), Some(2));
        assert_eq!(next(1, Direction::Forward, Base::FirstMatch), Some(1));
        assert_eq!(next(1, Direction::Forward, Base::LastMatch), Some(4));
        assert_eq!(next(2, Direction::Forward, Base::LastMatch), None, "nothing comes after the last row");
        assert_eq!(next(1, Direction::Backward, Base::LastMatch), Some(2));
        assert_eq!(next(1, Direction::Backward, Base::FirstMatch), None);
        let tail = rows(&[0b001, 0b101, 0b011]);
        assert_eq!(next_node(&tail, 2, Direction::Backward, Base::Tail), Some(0));
        assert_eq!(next_node(&tail, 0, Direction::Backward, Base::Tail), Some(1));
        assert_eq!(next_node(&[], 1, Direction::Forward, Base::Head), None);
        assert_eq!(next_node(&rows(&[0b10, 0b10]), 1, Direction::Forward, Base::Head), None, "the head may not be the base");
    }
}
