//! Variants and their weights, as a person writes them.

use crate::error::{Code, Error, Result};

/// Variants of one experiment, at most.
const VARIANTS_MAX: usize = 100;

/// Reads `{"control": 3, "treatment": 1}`, `control=3, treatment=1` or `control, treatment` (equal weights), in the order of the
/// names.
///
/// # Errors
/// 22P02 when it cannot be read; 22023 for negative weights, names given twice, no weight above zero, or more than 100 variants.
pub(super) fn parse_weights(text: &str) -> Result<Vec<(String, f64)>> {
    let mut variants = if text.trim_start().starts_with('{') { json(text)? } else { list(text)? };
    variants.sort_by(|(a, _), (b, _)| a.cmp(b));
    if let Some(twice) = variants.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(Error::invalid(format!("variant \"{}\" is given twice", twice[0].0)));
    }
    if let Some((name, weight)) = variants.iter().find(|(_, weight)| !(weight.is_finite() && *weight >= 0.0)) {
        return Err(Error::invalid(format!("the weight of variant \"{name}\" cannot be {weight}")));
    }
    if !variants.iter().any(|(_, weight)| *weight > 0.0) {
        return Err(Error::invalid("no variant has a weight above zero"));
    }
    if variants.len() > VARIANTS_MAX {
        return Err(Error::invalid(format!("an experiment has at most {VARIANTS_MAX} variants, not {}", variants.len())));
    }
    Ok(variants)
}

fn unreadable(text: &str) -> Error {
    Error::new(Code::InvalidText, format!("\"{text}\" is not a list of variants and weights"))
        .hint("Write '{\"control\": 3, \"treatment\": 1}', 'control=3, treatment=1' or 'control, treatment'.")
}

fn json(text: &str) -> Result<Vec<(String, f64)>> {
    let map: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).map_err(|_| unreadable(text))?;
    map.into_iter().map(|(name, weight)| Ok((name, weight.as_f64().ok_or_else(|| unreadable(text))?))).collect()
}

fn list(text: &str) -> Result<Vec<(String, f64)>> {
    let variant = |part: &str| {
        let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
        let (name, weight) = (name.trim(), weight.trim().parse::<f64>().map_err(|_| unreadable(text))?);
        if name.is_empty() { Err(unreadable(text)) } else { Ok((name.to_owned(), weight)) }
    };
    text.split(',').map(variant).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_come_in_three_ways() {
        let expected = vec![("a".to_owned(), 3.0), ("b".to_owned(), 1.0)];
        for text in [r#"{"b": 1, "a": 3}"#, "b=1, a=3", " a = 3 ,b"] {
            assert_eq!(parse_weights(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn bad_weights_are_refused() {
        for (text, code) in [
            ("", Code::InvalidText),
            ("a=x", Code::InvalidText),
            ("{\"a\": \"1\"}", Code::InvalidText),
            ("{\"a\": 1", Code::InvalidText),
            ("a, a", Code::InvalidParameter),
            ("a=-1", Code::InvalidParameter),
            ("a=NaN", Code::InvalidParameter),
            ("a=0", Code::InvalidParameter),
        ] {
            assert_eq!(parse_weights(text).unwrap_err().code, code, "{text}");
        }
    }
}
