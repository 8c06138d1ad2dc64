//! The newest value that was known at a point in time, for many points of one key.

/// A value: when it held from, and when it was known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Event time.
    pub event_us: i64,
    /// When it was written down; `i64::MIN` where nobody noted it.
    pub ingested_us: i64,
}

/// Which values may be used at a point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Whether an event at the very time is too late.
    pub strict: bool,
    /// How old an event may be at the point in time.
    pub ttl_us: Option<i64>,
}

/// For each label time (ascending) the index of the value to use: the greatest event time, then the greatest ingestion time, then
/// the greatest index among those known by then. `None` where there is none, or the best is older than allowed. O(n log n + m).
#[must_use]
pub fn latest_known(values: &[Known], labels_us: &[i64], rule: Rule) -> Vec<Option<usize>> {
    let known_at = |value: &Known| value.event_us.saturating_add(i64::from(rule.strict)).max(value.ingested_us);
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by_key(|at| (known_at(&values[*at]), *at));
    let rank = |at: usize| (values[at].event_us, values[at].ingested_us, at);
    let mut waiting = order.into_iter().peekable();
    let mut best: Option<usize> = None;
    let mut pick = |label_us: i64| {
        while let Some(at) = waiting.next_if(|at| known_at(&values[*at]) <= label_us) {
            best = best.filter(|other| rank(*other) > rank(at)).or(Some(at));
        }
        best.filter(|at| rule.ttl_us.is_none_or(|ttl| label_us.saturating_sub(values[*at].event_us) <= ttl))
    };
    labels_us.iter().map(|label_us| pick(*label_us)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::splitmix;

    /// The definition, one label at a time.
    fn slow(values: &[Known], label_us: i64, rule: Rule) -> Option<usize> {
        let usable = |value: &Known| {
            value.ingested_us <= label_us && if rule.strict { value.event_us < label_us } else { value.event_us <= label_us }
        };
        let best =
            (0..values.len()).filter(|at| usable(&values[*at])).max_by_key(|at| (values[*at].event_us, values[*at].ingested_us, *at));
        best.filter(|at| rule.ttl_us.is_none_or(|ttl| label_us - values[*at].event_us <= ttl))
    }

    #[test]
    fn it_is_the_definition() {
        for case in 0..10_000_u64 {
            let number = |i: u64, most: u64| (splitmix::at(case, i) % most) as i64;
            let value =
                |i: u64| Known { event_us: number(3 * i, 20), ingested_us: if case % 3 == 0 { i64::MIN } else { number(3 * i + 1, 25) } };
            let values: Vec<Known> = (1..1 + splitmix::at(case, 0) % 12).map(value).collect();
            let mut labels: Vec<i64> = (100..108).map(|i| number(i, 25)).collect();
            labels.sort_unstable();
            let rule = Rule { strict: case % 2 == 0, ttl_us: (case % 5 == 0).then_some(4) };
            let expected: Vec<Option<usize>> = labels.iter().map(|label| slow(&values, *label, rule)).collect();
            assert_eq!(latest_known(&values, &labels, rule), expected, "case {case}");
        }
    }
}
