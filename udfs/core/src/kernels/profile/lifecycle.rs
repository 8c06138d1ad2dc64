//! Life-cycle stages of users, by which periods have events.

/// What is known of a user: O(1), merged in any order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Activity {
    /// Events in the period that ends at the point in time.
    pub current: bool,
    /// Events in the period before it.
    pub previous: bool,
    /// Events before both.
    pub earlier: bool,
}

/// The stages, as product analytics name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// First events in the current period.
    New,
    /// Events in this period and the one before.
    Returning,
    /// Events in this period, none in the one before, some earlier.
    Resurrected,
    /// Events in the period before, none in this one.
    Dormant,
    /// Events only before both.
    Churned,
}

impl Stage {
    /// The stage's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Returning => "returning",
            Self::Resurrected => "resurrected",
            Self::Dormant => "dormant",
            Self::Churned => "churned",
        }
    }
}

impl Activity {
    /// Takes an event of `time_us ≤ as_of_us`; the current period is `(as_of − period, as_of]`. Later events are not known yet.
    pub fn add(&mut self, time_us: i64, as_of_us: i64, period_us: i64) {
        let age = as_of_us.saturating_sub(time_us);
        match age {
            _ if age < 0 => {}
            _ if age < period_us => self.current = true,
            _ if age < period_us.saturating_mul(2) => self.previous = true,
            _ => self.earlier = true,
        }
    }

    /// Adds what `other` saw.
    pub const fn merge(&mut self, other: Self) {
        self.current |= other.current;
        self.previous |= other.previous;
        self.earlier |= other.earlier;
    }

    /// The stage; `None` without events.
    #[must_use]
    pub const fn stage(self) -> Option<Stage> {
        match (self.current, self.previous, self.earlier) {
            (true, true, _) => Some(Stage::Returning),
            (true, false, true) => Some(Stage::Resurrected),
            (true, false, false) => Some(Stage::New),
            (false, true, _) => Some(Stage::Dormant),
            (false, false, true) => Some(Stage::Churned),
            (false, false, false) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_follow_the_periods() {
        for (times, expected) in [
            (&[][..], None),
            (&[100], Some(Stage::New)),
            (&[91, 100], Some(Stage::New)),
            (&[90, 95], Some(Stage::Returning)),
            (&[80, 95], Some(Stage::Resurrected)),
            (&[81], Some(Stage::Dormant)),
            (&[10, 80], Some(Stage::Churned)),
            (&[101], None),
        ] {
            let (mut forward, mut backward) = (Activity::default(), Activity::default());
            times.iter().for_each(|time| forward.add(*time, 100, 10));
            times.iter().rev().for_each(|time| {
                let mut one = Activity::default();
                one.add(*time, 100, 10);
                backward.merge(one);
            });
            assert_eq!(forward.stage(), expected, "{times:?}");
            assert_eq!(forward, backward);
        }
    }
}
