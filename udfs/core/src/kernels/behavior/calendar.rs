//! Calendar periods of days: the number of a week or month, and the day on which it begins.

/// A period's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Granularity {
    /// A day.
    Day,
    /// A week from Monday.
    Week,
    /// A calendar month.
    Month,
}

impl Granularity {
    /// The granularity of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "day" => Self::Day,
            "week" => Self::Week,
            "month" => Self::Month,
            _ => return None,
        })
    }

    /// The period of a day (days since 1970-01-01); periods are numbered without gaps.
    #[must_use]
    pub const fn period(self, day: i64) -> i64 {
        match self {
            Self::Day => day,
            // 1970-01-01 was a Thursday.
            Self::Week => (day + 3).div_euclid(7),
            Self::Month => {
                let (year, month) = year_month(day);
                year * 12 + month - 1
            }
        }
    }

    /// The first day of a period.
    #[must_use]
    pub const fn begin(self, period: i64) -> i64 {
        match self {
            Self::Day => period,
            Self::Week => period * 7 - 3,
            Self::Month => first_of_month(period.div_euclid(12), period.rem_euclid(12) + 1),
        }
    }
}

/// Year and month of a day in the Gregorian calendar (Howard Hinnant's `civil_from_days`).
const fn year_month(day: i64) -> (i64, i64) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + if month <= 2 { 1 } else { 0 }, month)
}

const fn first_of_month(year: i64, month: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * from_march + 2) / 5;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_follow_one_another_and_begin_on_their_day() {
        let at = |granularity: Granularity, day| granularity.begin(granularity.period(day));
        assert_eq!(at(Granularity::Week, 0), -3, "Monday, 1969-12-29");
        assert_eq!(at(Granularity::Month, 19_782), 19_754, "2024-02-29 is in the month from 2024-02-01");
        assert_eq!(at(Granularity::Month, -1), -31, "1969-12-31");
        for granularity in [Granularity::Day, Granularity::Week, Granularity::Month] {
            let mut last = granularity.period(-800_000);
            for day in -800_000..800_000 {
                let period = granularity.period(day);
                let begins = granularity.begin(period) == day;
                assert!(granularity.begin(period) <= day && period - last == i64::from(begins && period != last), "{granularity:?} {day}");
                last = period;
            }
        }
    }
}
