//! Arrays as PostgreSQL writes them: `{1,NULL,"a b"}`.

/// The elements of an array of one dimension, as texts; `None` when it is malformed.
pub fn array_words(text: &str) -> Option<Vec<Option<String>>> {
    let body = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    let mut words = Vec::new();
    let mut rest = body.chars().peekable();
    while rest.peek().is_some() {
        let (mut word, mut quoted, mut inside, mut ended) = (String::new(), false, false, false);
        while let Some(character) = rest.next() {
            match character {
                '"' => {
                    inside = !inside;
                    quoted = true;
                }
                '\\' => word.push(rest.next()?),
                ',' if !inside => {
                    ended = true;
                    break;
                }
                '{' | '}' if !inside => return None,
                blank if blank.is_whitespace() && !inside && (quoted || word.is_empty()) => {}
                other => word.push(other),
            }
        }
        if inside || (ended && rest.peek().is_none()) {
            return None;
        }
        let word = if quoted { word } else { word.trim().to_owned() };
        if word.is_empty() && !quoted {
            return None;
        }
        let null = !quoted && word.eq_ignore_ascii_case("null");
        words.push((!null).then_some(word));
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_elements() {
        let words =
            |text: &str| array_words(text).map(|words| words.into_iter().map(|word| word.unwrap_or("-".into())).collect::<Vec<_>>());
        assert_eq!(words("{1.5,NULL, 2 }").unwrap(), ["1.5", "-", "2"]);
        assert_eq!(words("{}").unwrap(), [""; 0]);
        for text in ["", "1,2", "{1,2", "{1,}", "{{1},{2}}", "{\"a}"] {
            assert_eq!(words(text), None, "{text}");
        }
    }
}
