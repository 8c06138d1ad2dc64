//! Reading text by a date/time template: a cursor, and what the fields said.
//!
//! Without `FX` one blank or separator of the template stands for one or none in the text, blanks before and after
//! fields are skipped, and what was skipped beyond the template makes up for its literal characters.

use super::error::TemplateError;
use super::fields::{Convention, DAY_ABBREVIATIONS, DAYS, Field, MONTH_ABBREVIATIONS, MONTHS, ROMAN_MONTHS, eras, meridiems};
use super::keywords::{DateTimeTemplate, FieldItem, Item, is_separator, is_space};

/// The fields of a text, 0 where there was none: PostgreSQL tells "not given" from "0" nowhere.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) convention: Option<Convention>,
    pub(super) hour: i32,
    pub(super) is_pm: i32,
    pub(super) is_12_hour: bool,
    pub(super) minute: i32,
    pub(super) second: i32,
    pub(super) second_of_day: i32,
    pub(super) millisecond: i32,
    pub(super) microsecond: i32,
    /// Digits of the fraction, by the last `FF` field.
    pub(super) precision: usize,
    /// Sunday is 1.
    pub(super) weekday: i32,
    pub(super) day: i32,
    pub(super) day_of_year: i32,
    pub(super) month: i32,
    pub(super) year: i32,
    /// Digits of the year's field.
    pub(super) year_digits: usize,
    pub(super) is_bc: i32,
    pub(super) week: i32,
    pub(super) week_of_month: i32,
    pub(super) century: i32,
    pub(super) julian_day: i32,
    /// 1 or -1 once there is an offset.
    pub(super) offset_sign: i32,
    pub(super) offset_hour: i32,
    pub(super) offset_minute: i32,
}

/// A place in the text.
struct Cursor<'a> {
    text: &'a str,
    at: usize,
    /// Characters skipped beyond what the template gives.
    extra: i32,
}

impl DateTimeTemplate {
    pub(super) fn read_fields(&self, text: &str) -> Result<Fields, TemplateError> {
        let mut fields = Fields::default();
        let mut cursor = Cursor { text, at: 0, extra: 0 };
        let mut exact = false;
        for (index, item) in self.items.iter().enumerate() {
            if cursor.rest().is_empty() {
                break;
            }
            let starts_exact = matches!(item, Item::Field(FieldItem { field: Field::Exact, .. }));
            if !exact && !starts_exact && (index == 0 || matches!(item, Item::Field(_))) {
                cursor.extra += cursor.skip_spaces();
            }
            match item {
                Item::Space(_) | Item::Separator(_) if !exact => {
                    if cursor.rest().starts_with(|character| is_space(character) || is_separator(character)) {
                        cursor.at += 1;
                    } else {
                        cursor.extra -= 1;
                    }
                }
                Item::Text(_) if !exact && cursor.extra > 0 => cursor.extra -= 1,
                Item::Space(_) | Item::Separator(_) | Item::Text(_) => cursor.skip_character(),
                Item::Field(item) => {
                    exact |= starts_exact;
                    read_field(&mut fields, &mut cursor, item)?;
                    if !exact {
                        cursor.extra = cursor.skip_spaces();
                    }
                }
            }
        }
        Ok(fields)
    }
}

fn read_field(fields: &mut Fields, cursor: &mut Cursor<'_>, item: &FieldItem) -> Result<(), TemplateError> {
    if let Some(convention) = item.field.convention()
        && *fields.convention.get_or_insert(convention) != convention
    {
        return Err(TemplateError::format("invalid combination of date conventions")
            .hint("Do not mix Gregorian and ISO week date conventions in a formatting template."));
    }
    match item.field {
        Field::Exact => {}
        Field::Meridiem { dotted, .. } => {
            let half = cursor.name(meridiems(dotted), item)?;
            assign(&mut fields.is_pm, half, item)?;
            fields.is_12_hour = true;
        }
        Field::Era { dotted, .. } => {
            let era = cursor.name(eras(dotted), item)?;
            assign(&mut fields.is_bc, era, item)?;
        }
        Field::MonthName(_) => {
            let month = cursor.name(&MONTHS, item)? + 1;
            assign(&mut fields.month, month, item)?;
        }
        Field::MonthAbbreviation(_) => {
            let month = cursor.name(&MONTH_ABBREVIATIONS, item)? + 1;
            assign(&mut fields.month, month, item)?;
        }
        Field::RomanMonth(_) => {
            let month = 12 - cursor.name(&ROMAN_MONTHS, item)?;
            assign(&mut fields.month, month, item)?;
        }
        Field::DayName(_) | Field::DayAbbreviation(_) => {
            let names = if matches!(item.field, Field::DayName(_)) { &DAYS } else { &DAY_ABBREVIATIONS };
            // Compared before Sunday becomes 1, so two names of one day contradict each other; PostgreSQL says so, too.
            let weekday = cursor.name(names, item)?;
            assign(&mut fields.weekday, weekday, item)?;
            fields.weekday += 1;
        }
        Field::Zone(_) | Field::Offset => {
            return Err(TemplateError::unsupported(format!("formatting field \"{}\" is only supported in to_char", item.name)));
        }
        Field::ZoneHour | Field::ZoneMinute => read_offset(fields, cursor, item)?,
        Field::YearWithComma => {
            let year = cursor.year_with_comma().ok_or_else(|| TemplateError::format("invalid input string for \"Y,YYY\""))?;
            assign(&mut fields.year, year, item)?;
            fields.year_digits = 4;
            cursor.skip_ordinal(item);
        }
        _ => {
            read_number(fields, cursor, item)?;
            cursor.skip_ordinal(item);
        }
    }
    Ok(())
}

fn read_number(fields: &mut Fields, cursor: &mut Cursor<'_>, item: &FieldItem) -> Result<(), TemplateError> {
    let mut ignored = 0;
    let (target, width) = match item.field {
        Field::Hour12 | Field::Hour24 => (&mut fields.hour, 2),
        Field::Minute => (&mut fields.minute, 2),
        Field::Second => (&mut fields.second, 2),
        Field::SecondOfDay => (&mut fields.second_of_day, item.name.len()),
        Field::Millisecond => (&mut fields.millisecond, 3),
        Field::Microsecond => (&mut fields.microsecond, 6),
        Field::Fraction(digits) => (&mut fields.microsecond, digits),
        Field::Month => (&mut fields.month, 2),
        Field::DayOfMonth => (&mut fields.day, 2),
        Field::DayOfYear | Field::IsoDayOfYear => (&mut fields.day_of_year, 3),
        Field::DayOfWeek | Field::IsoDayOfWeek => (&mut fields.weekday, 1),
        Field::Week | Field::IsoWeek => (&mut fields.week, 2),
        Field::WeekOfMonth => (&mut fields.week_of_month, 1),
        Field::Century => (&mut fields.century, 2),
        Field::JulianDay => (&mut fields.julian_day, 1),
        Field::Year(digits) | Field::IsoYear(digits) => (&mut fields.year, digits),
        // A quarter is read and forgotten: it names no date.
        _ => (&mut ignored, 1),
    };
    let (value, used) = cursor.number(width, item)?;
    assign(target, value, item)?;
    let missing = |digits: usize| 10_i32.pow(digits.saturating_sub(used) as u32);
    match item.field {
        Field::Hour12 => fields.is_12_hour = true,
        // A fraction's digits count from the point: 5 is 500 milliseconds.
        Field::Millisecond => *target = target.wrapping_mul(missing(3)),
        Field::Microsecond | Field::Fraction(_) => {
            *target = target.wrapping_mul(missing(6));
            if let Field::Fraction(digits) = item.field {
                fields.precision = digits;
            }
        }
        Field::IsoDayOfWeek => *target = if *target >= 7 { 1 } else { *target + 1 },
        Field::Year(digits) | Field::IsoYear(digits) => {
            if digits < 4 && used < 4 {
                *target = near_2020(*target);
            }
            fields.year_digits = digits;
        }
        _ => {}
    }
    Ok(())
}

/// `TZH` and `TZM`. A minus may already have been taken for a separator.
fn read_offset(fields: &mut Fields, cursor: &mut Cursor<'_>, item: &FieldItem) -> Result<(), TemplateError> {
    if item.field == Field::ZoneMinute {
        if fields.offset_sign == 0 {
            fields.offset_sign = 1;
        }
        let minute = cursor.number(2, item)?.0;
        return assign(&mut fields.offset_minute, minute, item);
    }
    let is_negative = if cursor.rest().starts_with(['+', '-', ' ']) {
        cursor.at += 1;
        cursor.text.as_bytes()[cursor.at - 1] == b'-'
    } else {
        cursor.extra > 0 && cursor.text[..cursor.at].ends_with('-')
    };
    fields.offset_sign = if is_negative { -1 } else { 1 };
    let hour = cursor.number(2, item)?.0;
    assign(&mut fields.offset_hour, hour, item)
}

/// Sets a field, unless another field already said otherwise.
fn assign(target: &mut i32, value: i32, item: &FieldItem) -> Result<(), TemplateError> {
    if *target != 0 && *target != value && item.field != Field::Quarter {
        return Err(TemplateError::format(format!("conflicting values for \"{}\" field in formatting string", item.name))
            .detail("This value contradicts a previous setting for the same field type."));
    }
    *target = value;
    Ok(())
}

/// The year next to 2020 with these last digits.
fn near_2020(year: i32) -> i32 {
    match year {
        ..70 | 100..520 => year + 2000,
        70..100 => year + 1900,
        520..1000 => year + 1000,
        _ => year,
    }
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_spaces(&mut self) -> i32 {
        let count = self.rest().len() - self.rest().trim_start_matches(is_space).len();
        self.at += count;
        i32::try_from(count).unwrap_or(i32::MAX)
    }

    fn skip_character(&mut self) {
        self.at += self.rest().chars().next().map_or(0, char::len_utf8);
    }

    fn skip_ordinal(&mut self, item: &FieldItem) {
        if item.ordinal.is_some() {
            self.skip_character();
            self.skip_character();
        }
    }

    /// Reads an integer and says how many bytes it took, blanks before it included.
    fn number(&mut self, width: usize, item: &FieldItem) -> Result<(i32, usize), TemplateError> {
        let start = self.at;
        self.skip_spaces();
        let bytes = self.rest().as_bytes();
        let field = &bytes[..width.min(bytes.len())];
        let shown = || String::from_utf8_lossy(field).into_owned();
        let (value, used) = if item.greedy { leading_integer(bytes) } else { leading_integer(field) };
        if !item.greedy {
            let too_short = if field.len() < width {
                Some((format!("source string too short for \"{}\" formatting field", item.name), field.len(), "remain"))
            } else if used > 0 && used < width {
                Some((format!("invalid value \"{}\" for \"{}\"", shown(), item.name), used, "could be parsed"))
            } else {
                None
            };
            if let Some((message, count, what)) = too_short {
                return Err(TemplateError::format(message)
                    .detail(format!("Field requires {width} characters, but only {count} {what}."))
                    .hint("If your source string is not fixed-width, try using the \"FM\" modifier."));
            }
        } else if used == 0 {
            self.at = start;
        }
        self.at += used;
        if self.at == start {
            return Err(
                TemplateError::format(format!("invalid value \"{}\" for \"{}\"", shown(), item.name)).detail("Value must be an integer.")
            );
        }
        let value = value.and_then(|value| i32::try_from(value).ok()).ok_or_else(|| {
            TemplateError::new("22008", format!("value for \"{}\" in source string is out of range", item.name)).detail(format!(
                "Value must be in the range {} to {}.",
                i32::MIN,
                i32::MAX
            ))
        })?;
        Ok((value, self.at - start))
    }

    /// Reads one of `names` in any case and returns its index.
    fn name(&mut self, names: &[&str], item: &FieldItem) -> Result<i32, TemplateError> {
        let rest = self.rest();
        let matches = |name: &&str| rest.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
        let Some(index) = names.iter().position(matches) else {
            // What follows a blank has nothing to do with it.
            let shown = rest.split([' ', '\t', '\n', '\r', '\x0c']).next().unwrap_or(rest);
            return Err(TemplateError::format(format!("invalid value \"{shown}\" for \"{}\"", item.name))
                .detail("The given value did not match any of the allowed values for this field."));
        };
        self.at += names[index].len();
        Ok(index as i32)
    }

    /// Thousands, a comma and at most three more characters.
    fn year_with_comma(&mut self) -> Option<i32> {
        let bytes = self.rest().as_bytes();
        let (thousands, used) = leading_integer(bytes);
        let behind = bytes.get(used..)?.strip_prefix(b",")?;
        let blank = behind.iter().take_while(|byte| is_space(char::from(**byte))).count();
        let units = &behind[blank..];
        let (years, years_used) = leading_integer(&units[..units.len().min(3)]);
        if used == 0 || years_used == 0 {
            return None;
        }
        self.at += used + 1 + blank + years_used;
        // The C library cuts a number that is too large down to the low bits of the nearest long integer.
        let nearest = if bytes[..used].contains(&b'-') { i64::MIN } else { i64::MAX };
        let thousands = thousands.unwrap_or(nearest) as i32;
        Some(thousands.wrapping_mul(1000).wrapping_add(years.unwrap_or(0) as i32))
    }
}

/// The integer that `bytes` start with, blanks and a sign before it allowed, and its length, 0 if there is none.
/// The integer is `None` when it has more than 64 bits.
fn leading_integer(bytes: &[u8]) -> (Option<i64>, usize) {
    let blank = bytes.iter().take_while(|byte| is_space(char::from(**byte))).count();
    let sign = usize::from(matches!(bytes.get(blank), Some(b'+' | b'-')));
    let digits = bytes[blank + sign..].iter().take_while(|byte| byte.is_ascii_digit());
    let mut length = 0;
    let mut value = Some(0_i64);
    for byte in digits {
        length += 1;
        value = value.and_then(|value| value.checked_mul(10)?.checked_add(i64::from(byte - b'0')));
    }
    if length == 0 {
        return (Some(0), 0);
    }
    let is_negative = bytes.get(blank) == Some(&b'-');
    (value.map(|value| if is_negative { -value } else { value }), blank + sign + length)
}
