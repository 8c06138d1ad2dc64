//! Intervals as clients write them (`1 day -02:03:04.5`), in the words that the engine reads (`1 day -2 hours …`).

/// Spells the `hours:minutes:seconds` part of an interval out, or the whole of one in ISO 8601 (`P1Y2M3DT4H5M6S`);
/// `None` when it is neither.
pub(crate) fn spelled_out(text: &str) -> Option<String> {
    if let Some(designated) = text.trim().strip_prefix('P') {
        return iso(designated);
    }
    let mut words = Vec::new();
    let mut found = false;
    for word in text.split(|character: char| character.is_whitespace() || character == ',').filter(|word| !word.is_empty()) {
        if word.contains(':') {
            let (sign, clock) = match word.strip_prefix('-') {
                Some(clock) => ("-", clock),
                None => ("", word.strip_prefix('+').unwrap_or(word)),
            };
            let mut parts = clock.split(':');
            let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next().unwrap_or("0"));
            let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            let fraction = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            if parts.next().is_some() || !digits(hours) || !digits(minutes) || !fraction(seconds) {
                return None;
            }
            words.push(format!("{sign}{hours} hours {sign}{minutes} minutes {sign}{seconds} seconds"));
            found = true;
        } else {
            // A plus before a number is PostgreSQL's own way to print it after a negative part.
            words.push(word.strip_prefix('+').unwrap_or(word).to_owned());
        }
    }
    found.then(|| words.join(" "))
}

/// What stands behind the `P`: numbers, each with the letter of its unit.
fn iso(text: &str) -> Option<String> {
    let (mut words, mut number, mut time) = (Vec::new(), String::new(), false);
    for letter in text.chars() {
        let unit = match (letter, time) {
            ('0'..='9' | '.' | '-' | '+', _) => {
                number.push(letter);
                continue;
            }
            ('T', false) if number.is_empty() => {
                time = true;
                continue;
            }
            ('Y', false) => "years",
            ('M', false) => "months",
            ('W', false) => "weeks",
            ('D', false) => "days",
            ('H', true) => "hours",
            ('M', true) => "minutes",
            ('S', true) => "seconds",
            _ => return None,
        };
        number.parse::<f64>().ok()?;
        words.push(format!("{} {unit}", number.trim_start_matches('+')));
        number.clear();
    }
    (number.is_empty() && !words.is_empty()).then(|| words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_spelled_out() {
        assert_eq!(spelled_out("1 day 02:03:04.5").unwrap(), "1 day 02 hours 03 minutes 04.5 seconds");
        assert_eq!(spelled_out("-1 days +02:03").unwrap(), "-1 days 02 hours 03 minutes 0 seconds");
        assert_eq!(spelled_out("1 day, -2:00:00").unwrap(), "1 day -2 hours -00 minutes -00 seconds");
        assert_eq!(spelled_out("P1Y2M-3DT4H5M6.5S").unwrap(), "1 years 2 months -3 days 4 hours 5 minutes 6.5 seconds");
        for other in ["P", "PT", "P1", "P1H", "PTT1S", "Px", "1 day", "1:x", "1:2:3:4", ":", "1 2"] {
            assert_eq!(spelled_out(other), None, "{other}");
        }
    }
}
