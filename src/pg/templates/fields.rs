//! The fields of a date/time template, and the names of months, days and eras.

/// How a name is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Case {
    Upper,
    Capital,
    Lower,
}

/// One pattern of a date/time template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    /// `AM`, `PM`; `A.M.`, `P.M.` when dotted.
    Meridiem {
        dotted: bool,
        case: Case,
    },
    /// `BC`, `AD`; `B.C.`, `A.D.` when dotted.
    Era {
        dotted: bool,
        case: Case,
    },
    Century,
    /// `Y,YYY`
    YearWithComma,
    /// `YYYY` to `Y`, by the number of digits.
    Year(usize),
    /// `IYYY` to `I`.
    IsoYear(usize),
    Quarter,
    Month,
    MonthName(Case),
    MonthAbbreviation(Case),
    /// `RM`
    RomanMonth(Case),
    /// `WW`: weeks from 1 January.
    Week,
    IsoWeek,
    /// `W`
    WeekOfMonth,
    DayOfYear,
    IsoDayOfYear,
    DayOfMonth,
    /// `D`: Sunday is 1.
    DayOfWeek,
    /// `ID`: Monday is 1.
    IsoDayOfWeek,
    DayName(Case),
    DayAbbreviation(Case),
    /// `J`
    JulianDay,
    Hour12,
    Hour24,
    Minute,
    Second,
    Millisecond,
    Microsecond,
    /// `FF1` to `FF6`.
    Fraction(usize),
    SecondOfDay,
    /// `TZ`
    Zone(Case),
    ZoneHour,
    ZoneMinute,
    /// `OF`
    Offset,
    /// `FX`: no leniency from here on.
    Exact,
}

/// The calendar that a field belongs to; text is read by one of them only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Convention {
    Gregorian,
    IsoWeek,
}

impl Field {
    /// Whether text for this field starts with a digit: a number before it then has its full width.
    pub(super) fn is_digits(self) -> bool {
        !matches!(
            self,
            Self::Meridiem { .. }
                | Self::Era { .. }
                | Self::MonthName(_)
                | Self::MonthAbbreviation(_)
                | Self::RomanMonth(_)
                | Self::DayName(_)
                | Self::DayAbbreviation(_)
                | Self::Zone(_)
                | Self::ZoneHour
                | Self::Offset
                | Self::Exact
        )
    }

    /// The calendar, if the field is not at home in both.
    pub(super) fn convention(self) -> Option<Convention> {
        match self {
            Self::YearWithComma
            | Self::Year(_)
            | Self::Month
            | Self::MonthName(_)
            | Self::MonthAbbreviation(_)
            | Self::RomanMonth(_)
            | Self::Week
            | Self::WeekOfMonth
            | Self::DayOfYear
            | Self::DayOfMonth
            | Self::DayOfWeek => Some(Convention::Gregorian),
            Self::IsoYear(_) | Self::IsoWeek | Self::IsoDayOfYear | Self::IsoDayOfWeek => Some(Convention::IsoWeek),
            _ => None,
        }
    }

    /// The same field in small letters; fields that are not words have no case.
    pub(super) fn lower(self) -> Self {
        match self {
            Self::Meridiem { dotted, .. } => Self::Meridiem { dotted, case: Case::Lower },
            Self::Era { dotted, .. } => Self::Era { dotted, case: Case::Lower },
            Self::MonthName(_) => Self::MonthName(Case::Lower),
            Self::MonthAbbreviation(_) => Self::MonthAbbreviation(Case::Lower),
            Self::RomanMonth(_) => Self::RomanMonth(Case::Lower),
            Self::DayName(_) => Self::DayName(Case::Lower),
            Self::DayAbbreviation(_) => Self::DayAbbreviation(Case::Lower),
            Self::Zone(_) => Self::Zone(Case::Lower),
            other => other,
        }
    }
}

pub(super) const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
pub(super) const MONTH_ABBREVIATIONS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
pub(super) const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
pub(super) const DAY_ABBREVIATIONS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
/// December first, so that the longer of two numerals with one beginning is found first.
pub(super) const ROMAN_MONTHS: [&str; 12] = ["XII", "XI", "X", "IX", "VIII", "VII", "VI", "V", "IV", "III", "II", "I"];

/// The first half of the day, then the second.
pub(super) fn meridiems(dotted: bool) -> &'static [&'static str] {
    if dotted { &["A.M.", "P.M."] } else { &["AM", "PM"] }
}

/// Of our time, then before.
pub(super) fn eras(dotted: bool) -> &'static [&'static str] {
    if dotted { &["A.D.", "B.C."] } else { &["AD", "BC"] }
}
