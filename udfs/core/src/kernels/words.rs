//! Text → words, for any script and without a dictionary.
//!
//! A word is a run of letters in lower case; an apostrophe between letters belongs to it. Scripts written without spaces
//! (Chinese, Japanese, Thai …) give every character and every pair of neighbours, which is what retrieval in them has long
//! worked on. A number becomes its first digit and its size, `#3e2` for 300 to 399, so that numbers nobody has seen are
//! still known by about how large they are.

/// Characters of a word at most; longer ones are cut.
const WORD_CHARS_MAX: usize = 40;

/// Whether words of the character's script have no spaces between them.
fn is_unspaced(c: char) -> bool {
    matches!(u32::from(c),
        0x0E00..=0x0EFF          // Thai, Lao
        | 0x1000..=0x109F        // Myanmar
        | 0x1780..=0x17FF        // Khmer
        | 0x3005..=0x3007 | 0x3040..=0x30FF | 0x31F0..=0x31FF // Japanese
        | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF // Chinese characters
        | 0x20000..=0x323AF)
}

/// Marks that belong to the letter before them.
fn is_mark(c: char) -> bool {
    // Not the dandas and digits in the middle of the Indic scripts.
    matches!(u32::from(c), 0x0300..=0x036F | 0x0900..=0x0963 | 0x0971..=0x0D7F | 0x200C..=0x200D | 0xFE00..=0xFE0F)
}

fn is_apostrophe(c: char) -> bool {
    matches!(c, '\'' | '\u{2019}' | '\u{02BC}')
}

/// What a character is to its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Digit,
    Unspaced,
    Other,
}

fn class(c: char) -> Class {
    if is_unspaced(c) {
        if c.is_alphanumeric() || is_mark(c) { Class::Unspaced } else { Class::Other }
    } else if c.is_numeric() {
        Class::Digit
    } else if c.is_alphabetic() {
        Class::Letter
    } else {
        Class::Other
    }
}

/// Calls `found` for every word of `text`, in order.
pub fn words(text: &str, mut found: impl FnMut(&str)) {
    let mut word = String::new();
    let mut rest = text.char_indices().peekable();
    while let Some((at, c)) = rest.next() {
        match class(c) {
            Class::Other => {}
            Class::Letter => {
                word.clear();
                let mut chars = 0;
                let mut next = Some(c);
                while let Some(c) = next {
                    if chars < WORD_CHARS_MAX {
                        word.extend(c.to_lowercase());
                        chars += 1;
                    }
                    next = rest.next_if(|(_, c)| class(*c) == Class::Letter || is_mark(*c)).map(|(_, c)| c);
                    if next.is_none() && rest.peek().is_some_and(|(_, c)| is_apostrophe(*c)) {
                        let mut beyond = rest.clone();
                        beyond.next();
                        if beyond.peek().is_some_and(|(_, c)| class(*c) == Class::Letter) {
                            rest.next();
                            word.push('\'');
                            next = rest.next().map(|(_, c)| c);
                        }
                    }
                }
                found(&word);
            }
            Class::Digit => {
                let mut end = at + c.len_utf8();
                let separates = |(_, c): &(usize, char)| matches!(c, '.' | ',');
                loop {
                    if let Some((next, c)) = rest.next_if(|(_, c)| class(*c) == Class::Digit) {
                        end = next + c.len_utf8();
                        continue;
                    }
                    // "1,299.50" is one number, "5, 6" are two.
                    let mut beyond = rest.clone();
                    if beyond.next_if(separates).is_some() && beyond.peek().is_some_and(|(_, c)| class(*c) == Class::Digit) {
                        rest.next();
                        continue;
                    }
                    break;
                }
                number(&text[at..end], &mut word);
                found(&word);
            }
            Class::Unspaced => {
                found(&text[at..at + c.len_utf8()]);
                if let Some((next, after)) = rest.peek().filter(|(_, c)| class(*c) == Class::Unspaced) {
                    found(&text[at..next + after.len_utf8()]);
                }
            }
        }
    }
}

/// `#<first digit>e<digits after it>` of a number as it is written.
fn number(text: &str, to: &mut String) {
    let whole = text.find(decimal_point(text)).map_or(text, |point| &text[..point]);
    let digits = whole.chars().filter(|c| c.is_numeric());
    let significant: Vec<char> = digits.skip_while(|c| c.to_digit(10) == Some(0)).collect();
    to.clear();
    to.push('#');
    match significant.first() {
        Some(first) => {
            to.push(*first);
            to.push('e');
            to.push_str(&(significant.len() - 1).to_string());
        }
        None => to.push_str("0e0"),
    }
}

/// Where a number's decimals begin: at a point, or at a lone comma that is not followed by three digits.
fn decimal_point(text: &str) -> impl Fn(char) -> bool + use<> {
    let commas = text.matches(',').count();
    let decimals = text.rsplit_once(',').map_or(0, |(_, after)| after.chars().count());
    let comma = !text.contains('.') && commas == 1 && decimals != 3;
    move |c| c == '.' || (comma && c == ',')
}

/// Which of `buckets` a word falls into: the same for ever and on every machine (FNV-1a, folded).
#[must_use]
pub fn bucket(word: &str, buckets: u32) -> u32 {
    let hash = word.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
    let mixed = (hash ^ (hash >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    ((u128::from(mixed) * u128::from(buckets.max(1))) >> 64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let mut all = Vec::new();
        words(text, |word| all.push(word.to_owned()));
        assert_eq!(all, expected, "{text}");
    }

    #[test]
    fn words_of_spaced_scripts() {
        check("I LOVE it!!! It's — 'great'.", &["i", "love", "it", "it's", "great"]);
        check("don’t rock’n’roll, l'été", &["don't", "rock'n'roll", "l'été"]);
        check("Straße ÉCOLE naïve İstanbul", &["straße", "école", "naïve", "i\u{307}stanbul"]);
        check("e\u{301}cole", &["e\u{301}cole"]);
        check("хорошее ПЛАТЬЕ", &["хорошее", "платье"]);
        check("नमस्ते दुनिया।", &["नमस्ते", "दुनिया"]);
        check("원피스가 예뻐요", &["원피스가", "예뻐요"]);
        check("size-M well_made", &["size", "m", "well", "made"]);
        check(" \t\n…!?🙂", &[]);
        check("", &[]);
    }

    #[test]
    fn characters_and_pairs_of_unspaced_scripts() {
        check("很好看", &["很", "很好", "好", "好看", "看"]);
        check("好, 很好 dress", &["好", "很", "很好", "好", "dress"]);
        check("かわいいドレス", &["か", "かわ", "わ", "わい", "い", "いい", "い", "いド", "ド", "ドレ", "レ", "レス", "ス"]);
    }

    #[test]
    fn numbers_by_size() {
        check("5'4\" 128 lbs, size 8", &["#5e0", "#4e0", "#1e2", "lbs", "size", "#8e0"]);
        check("$1,299.50 0.5 007 0 3,5 12.000", &["#1e3", "#0e0", "#7e0", "#0e0", "#3e0", "#1e1"]);
        check("5, 6. 34b", &["#5e0", "#6e0", "#3e1", "b"]);
    }

    #[test]
    fn very_long_words_are_cut() {
        let mut longest = 0;
        words(&"a".repeat(10_000), |word| longest = longest.max(word.len()));
        assert_eq!(longest, WORD_CHARS_MAX);
    }

    #[test]
    fn buckets_are_even_and_for_ever() {
        let mut counts = [0; 16];
        (0..1600).for_each(|i| counts[bucket(&format!("word{i}"), 16) as usize] += 1);
        assert!(counts.iter().all(|count| (60..140).contains(count)), "{counts:?}");
        assert_eq!([bucket("dress", 1000), bucket("", 1000), bucket("dress", 0)], [bucket("dress", 1000), bucket("", 1000), 0]);
    }
}
