//! Day arithmetic on the proleptic Gregorian calendar. Year 0 is 1 BC.
//!
//! [`day_number`] takes months and days out of range, because templates let them through (an interval of -3 months,
//! 30 February without a year), and what comes out is visible. It therefore wraps where PostgreSQL's `int` does.

/// The Julian day of 1970-01-01.
pub(super) const UNIX_EPOCH: i32 = 2_440_588;

/// Days before the first of each month, and the length of the year.
const DAYS_BEFORE: [i32; 13] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365];

/// The Julian day of a date: `day` days after the eve of the month, a month being 30.6 days from March on.
pub(super) fn day_number(year: i32, month: i32, day: i32) -> i32 {
    // January and February are months 13 and 14 of the year before, so that the leap day comes last.
    let (year, month) =
        if month > 2 { (year.wrapping_add(4800), month.wrapping_add(1)) } else { (year.wrapping_add(4799), month.wrapping_add(13)) };
    let century = year / 100;
    let leap_days = year / 4 - century + century / 4;
    year.wrapping_mul(365).wrapping_sub(32_167).wrapping_add(leap_days).wrapping_add(month.wrapping_mul(7834) / 256).wrapping_add(day)
}

/// Year, month and day of a Julian day.
pub(super) fn date_of(day_number: i32) -> (i32, i32, i32) {
    // Days since 1 March of the year 0, in eras of 400 years.
    let days = i64::from(day_number) - 1_721_120;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    // A day number of 32 bits is at most six million years away.
    (year as i32, month as i32, day as i32)
}

/// Day of the week, Sunday being 0.
pub(super) fn weekday(day_number: i32) -> i32 {
    day_number.wrapping_add(1).rem_euclid(7)
}

/// Whether 29 February exists.
pub(super) fn is_leap(year: i32) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Days before the first of the month after `month_count` months.
pub(super) fn days_before(year: i32, month_count: usize) -> i32 {
    let leap_day = i32::from(month_count > 1 && is_leap(year));
    DAYS_BEFORE.get(month_count).map_or(0, |days| days + leap_day)
}

/// The Julian day of the Monday of an ISO week.
pub(super) fn iso_week_start(iso_year: i32, week: i32) -> i32 {
    // 4 January is always in week 1.
    let fourth = day_number(iso_year, 1, 4);
    let since_monday = weekday(fourth.wrapping_sub(1));
    week.wrapping_sub(1).wrapping_mul(7).wrapping_add(fourth.wrapping_sub(since_monday))
}

/// ISO year and ISO week of a date.
pub(super) fn iso_week(year: i32, month: i32, day: i32) -> (i32, i32) {
    let today = day_number(year, month, day);
    let week_from = |start: i32| today.wrapping_sub(start) / 7 + 1;
    let start = iso_week_start(year, 1);
    if today < start {
        let before = year.wrapping_sub(1);
        return (before, week_from(iso_week_start(before, 1)));
    }
    let (after, week) = (year.wrapping_add(1), week_from(start));
    let next = iso_week_start(after, 1);
    if week >= 53 && today >= next { (after, week_from(next)) } else { (year, week) }
}

/// Day of the ISO year.
pub(super) fn iso_year_day(year: i32, month: i32, day: i32) -> i32 {
    day_number(year, month, day).wrapping_sub(iso_week_start(iso_week(year, month, day).0, 1)).wrapping_add(1)
}
