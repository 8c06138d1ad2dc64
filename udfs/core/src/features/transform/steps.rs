//! The words for a transform: `columns: step | step; columns: step …`.
//!
//! ```text
//! price, quantity: median | winsorize(0.01, 0.99) | standard;
//! country: one_hot(20);
//! item_id: target(bought, key = user_id, folds = 5, smooth = 20);
//! age, income, visits: mean | standard | pca(2) as body
//! ```

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result};
use crate::kernels::nearest::nearest;

/// Columns and steps of one transform at most.
const ENTRIES_MAX: usize = 1000;

/// One thing done to the columns of an entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Missing numbers become the mean.
    Mean,
    /// Missing numbers become the median.
    Median,
    /// Missing values become the most frequent one, the least of several.
    Mode,
    /// Missing values become this one.
    Constant(String),
    /// One more feature: 1 where the value is missing.
    Indicator,
    /// Numbers are drawn to these two quantiles.
    Winsorize(f64, f64),
    /// Numbers are drawn to the quartiles widened by so many times their distance.
    Iqr(f64),
    /// Numbers are drawn to so many standard deviations around the mean.
    Zscore(f64),
    /// ln(1 + x).
    Log1p,
    /// (x − mean) / standard deviation.
    Standard,
    /// From the range of the values to this one.
    Minmax(f64, f64),
    /// (x − median) / (distance of these two quantiles).
    Robust(f64, f64),
    /// x / the greatest size.
    Maxabs,
    /// The bucket, from 0, of so many equally wide ones.
    Buckets(usize),
    /// The bucket, from 0, of so many equally full ones.
    Quantiles(usize),
    /// A feature for each of the most frequent categories, one for any other, one for a missing one.
    OneHot(usize),
    /// The place among the sorted categories, from 0.
    Ordinal,
    /// The share of rows with the same category.
    Frequency,
    /// The mean of another column over the rows of the same category.
    Target {
        /// The column that is averaged.
        target: String,
        /// Rows with the same value here are in the same fold.
        key: String,
        /// How many folds.
        folds: u32,
        /// How many times the overall mean is seen beforehand.
        smooth: f64,
    },
    /// The category's bucket among so many, by a hash.
    Hash(u32),
    /// Counts of the text's words in so many buckets, by a hash.
    Tokens(u32),
    /// Several columns become one of their combinations.
    Cross,
    /// Parts of a time, in UTC.
    DateParts(Vec<String>),
    /// So many principal components of the columns.
    Pca(usize),
}

/// Columns and what is done to them, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The columns, by name.
    pub columns: Vec<String>,
    /// The steps.
    pub steps: Vec<Step>,
    /// A name for the feature, or the beginning of the features' names.
    pub name: Option<String>,
}

/// Every step, as it is written with its defaults; for messages and the reference.
pub const STEPS: [&str; 24] = [
    "mean",
    "median",
    "mode",
    "zero",
    "constant(value)",
    "indicator",
    "winsorize(0.05, 0.95)",
    "iqr(1.5)",
    "zscore(3)",
    "log1p",
    "standard",
    "minmax(0, 1)",
    "robust(0.25, 0.75)",
    "maxabs",
    "buckets(10)",
    "quantiles(10)",
    "one_hot(20)",
    "ordinal",
    "frequency",
    "target(column, key = column, folds = 5, smooth = 20)",
    "hash(1024)",
    "tokens(64)",
    "cross",
    "date_parts(year, month, day, dow, hour, weekend)",
];

/// The parts that `date_parts` knows; those of a cycle also as `<part>_sin` and `<part>_cos`.
pub const DATE_PARTS: [&str; 10] = ["year", "quarter", "month", "week", "day", "doy", "dow", "hour", "minute", "weekend"];

/// Reads the words.
///
/// # Errors
/// 42601 when they cannot be read, 22023 for an unknown step or a value out of range.
pub fn parse(text: &str) -> Result<Vec<Entry>> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0 };
    let mut entries = Vec::new();
    while parser.peek().is_some() {
        if parser.takes(&Token::Sign(';')) {
            continue;
        }
        entries.push(parser.entry()?);
        if entries.len() > ENTRIES_MAX {
            return Err(Error::new(Code::TooComplex, format!("a transform has at most {ENTRIES_MAX} entries")));
        }
    }
    if entries.is_empty() {
        return Err(Error::invalid("a transform needs steps").hint("Write column: step | step; for example price: median | standard."));
    }
    Ok(entries)
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    /// In double quotes: always a name.
    Name(String),
    /// In single quotes.
    Text(String),
    Number(f64),
    Sign(char),
}

fn tokens(text: &str) -> Result<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            _ if c.is_whitespace() => {}
            '"' | '\'' => {
                let mut inside = String::new();
                loop {
                    match rest.next() {
                        None => return Err(syntax(format!("a quote {c} is not closed"))),
                        Some(found) if found == c && rest.next_if_eq(&c).is_none() => break,
                        Some(found) => inside.push(found),
                    }
                }
                tokens.push(if c == '"' { Token::Name(inside) } else { Token::Text(inside) });
            }
            _ if c.is_ascii_digit() || c == '-' || c == '.' => {
                let mut digits = String::from(c);
                while let Some(next) = rest.next_if(|n| n.is_ascii_alphanumeric() || matches!(n, '.' | '-' | '+')) {
                    digits.push(next);
                }
                let number = digits.parse::<f64>().ok().filter(|number| number.is_finite());
                tokens.push(Token::Number(number.ok_or_else(|| syntax(format!("\"{digits}\" is not a number")))?));
            }
            _ if c.is_alphabetic() || c == '_' => {
                let mut word = String::from(c);
                while let Some(next) = rest.next_if(|n| n.is_alphanumeric() || matches!(n, '_' | '$')) {
                    word.push(next);
                }
                tokens.push(Token::Word(word));
            }
            ':' | ';' | ',' | '|' | '(' | ')' | '=' => tokens.push(Token::Sign(c)),
            _ => return Err(syntax(format!("unexpected \"{c}\""))),
        }
    }
    Ok(tokens)
}

fn syntax(message: String) -> Error {
    Error::new(Code::Syntax, format!("syntax error in the steps of a transform: {message}"))
        .hint("Write column, column: step | step(value); column: step. Names with other characters stand in double quotes.")
}

/// An argument of a step.
#[derive(Debug, Clone)]
struct Given {
    name: Option<String>,
    value: Token,
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn takes(&mut self, token: &Token) -> bool {
        let found = self.peek() == Some(token);
        self.at += usize::from(found);
        found
    }

    fn next(&mut self) -> Result<Token> {
        let token = self.peek().cloned().ok_or_else(|| syntax("it ends too early".into()))?;
        self.at += 1;
        Ok(token)
    }

    fn expect(&mut self, sign: char) -> Result<()> {
        match self.peek() {
            Some(Token::Sign(found)) if *found == sign => {
                self.at += 1;
                Ok(())
            }
            Some(other) => Err(syntax(format!("\"{sign}\" was expected, not {}", shown(other)))),
            None => Err(syntax(format!("\"{sign}\" was expected"))),
        }
    }

    /// A column's name: without quotes in lower case, as everywhere in SQL.
    fn name(&mut self) -> Result<String> {
        match self.next()? {
            Token::Word(word) => Ok(word.to_lowercase()),
            Token::Name(name) => Ok(name),
            other => Err(syntax(format!("a name was expected, not {}", shown(&other)))),
        }
    }

    fn entry(&mut self) -> Result<Entry> {
        let mut columns = vec![self.name()?];
        while self.takes(&Token::Sign(',')) {
            columns.push(self.name()?);
        }
        self.expect(':')?;
        let mut steps = vec![self.step()?];
        while self.takes(&Token::Sign('|')) {
            steps.push(self.step()?);
        }
        let named = matches!(self.peek(), Some(Token::Word(word)) if word.eq_ignore_ascii_case("as"));
        self.at += usize::from(named);
        let name = if named { Some(self.name()?) } else { None };
        match self.peek() {
            None | Some(Token::Sign(';')) => Ok(Entry { columns, steps, name }),
            Some(other) => Err(syntax(format!("unexpected {}", shown(other)))),
        }
    }

    fn step(&mut self) -> Result<Step> {
        let name = self.name()?;
        let mut given = Vec::new();
        if self.takes(&Token::Sign('(')) && !self.takes(&Token::Sign(')')) {
            loop {
                let mut value = self.next()?;
                let mut argument = None;
                if let Token::Word(word) = &value
                    && self.takes(&Token::Sign('='))
                {
                    argument = Some(word.to_lowercase());
                    value = self.next()?;
                }
                if matches!(value, Token::Sign(_)) {
                    return Err(syntax(format!("unexpected {}", shown(&value))));
                }
                given.push(Given { name: argument, value });
                if self.takes(&Token::Sign(')')) {
                    break;
                }
                self.expect(',')?;
            }
        }
        Written { name: &name, given: &given }.step()
    }
}

fn shown(token: &Token) -> String {
    match token {
        Token::Word(text) | Token::Name(text) | Token::Text(text) => format!("\"{text}\""),
        Token::Number(number) => number.to_string(),
        Token::Sign(sign) => format!("\"{sign}\""),
    }
}

/// A step as it was written.
struct Written<'a> {
    name: &'a str,
    given: &'a [Given],
}

impl Written<'_> {
    fn step(&self) -> Result<Step> {
        Ok(match self.name {
            "mean" => self.bare(Step::Mean)?,
            "median" => self.bare(Step::Median)?,
            "mode" => self.bare(Step::Mode)?,
            "zero" => self.bare(Step::Constant("0".into()))?,
            "constant" => Step::Constant(self.text()?),
            "indicator" => self.bare(Step::Indicator)?,
            "winsorize" => self.quantiles((0.05, 0.95)).map(|(low, high)| Step::Winsorize(low, high))?,
            "iqr" => Step::Iqr(self.positive(1.5)?),
            "zscore" => Step::Zscore(self.positive(3.0)?),
            "log1p" => self.bare(Step::Log1p)?,
            "standard" => self.bare(Step::Standard)?,
            "minmax" => self.pair((0.0, 1.0)).map(|(low, high)| Step::Minmax(low, high))?,
            "robust" => self.quantiles((0.25, 0.75)).map(|(low, high)| Step::Robust(low, high))?,
            "maxabs" => self.bare(Step::Maxabs)?,
            "buckets" => Step::Buckets(self.count(10, 2, 100_000)?),
            "quantiles" => Step::Quantiles(self.count(10, 2, 100_000)?),
            "one_hot" => Step::OneHot(self.count(20, 1, 1000)?),
            "ordinal" => self.bare(Step::Ordinal)?,
            "frequency" => self.bare(Step::Frequency)?,
            "target" => self.target()?,
            "hash" => Step::Hash(self.count(1024, 2, 1 << 30)? as u32),
            "tokens" => Step::Tokens(self.count(64, 1, 1000)? as u32),
            "cross" => self.bare(Step::Cross)?,
            "date_parts" => self.date_parts()?,
            "pca" => Step::Pca(self.count(2, 1, 512)?),
            other => return Err(unknown(other)),
        })
    }

    fn refused(&self, what: &str) -> Error {
        Error::invalid(format!("the step {} takes {what}", self.name))
    }

    fn bare(&self, step: Step) -> Result<Step> {
        if self.given.is_empty() { Ok(step) } else { Err(self.refused("no arguments")) }
    }

    fn numbers(&self, most: usize, what: &str) -> Result<Vec<f64>> {
        let number = |given: &Given| match (&given.name, &given.value) {
            (None, Token::Number(number)) => Ok(*number),
            _ => Err(self.refused(what)),
        };
        if self.given.len() > most {
            return Err(self.refused(what));
        }
        self.given.iter().map(number).collect()
    }

    fn positive(&self, default: f64) -> Result<f64> {
        let what = "one number above 0";
        let value = self.numbers(1, what)?.first().copied().unwrap_or(default);
        if value > 0.0 { Ok(value) } else { Err(self.refused(what)) }
    }

    fn count(&self, default: usize, least: usize, most: usize) -> Result<usize> {
        let what = format!("a whole number from {least} to {most}");
        let value = self.numbers(1, &what)?.first().copied().unwrap_or(default as f64);
        let whole = value.fract() == 0.0 && value >= least as f64 && value <= most as f64;
        if whole { Ok(value as usize) } else { Err(self.refused(&what)) }
    }

    fn pair(&self, default: (f64, f64)) -> Result<(f64, f64)> {
        let what = "two numbers, the lesser one first";
        match self.numbers(2, what)?[..] {
            [] => Ok(default),
            [low, high] if low < high => Ok((low, high)),
            _ => Err(self.refused(what)),
        }
    }

    fn quantiles(&self, default: (f64, f64)) -> Result<(f64, f64)> {
        let (low, high) = self.pair(default)?;
        if low >= 0.0 && high <= 1.0 { Ok((low, high)) } else { Err(self.refused("two shares from 0 to 1, the lesser one first")) }
    }

    fn text(&self) -> Result<String> {
        match self.given {
            [Given { name: None, value: Token::Text(text) | Token::Word(text) | Token::Name(text) }] => Ok(text.clone()),
            [Given { name: None, value: Token::Number(number) }] => Ok(number.to_string()),
            _ => Err(self.refused("one value")),
        }
    }

    fn target(&self) -> Result<Step> {
        let what = "a column, key = column, folds = 2 to 100 and smooth = a number that is not negative";
        let (mut target, mut key, mut folds, mut smooth) = (None, None, 5.0, 20.0);
        for given in self.given {
            let text = match &given.value {
                Token::Word(word) => Some(word.to_lowercase()),
                Token::Name(name) | Token::Text(name) => Some(name.clone()),
                _ => None,
            };
            match (given.name.as_deref(), text, &given.value) {
                (None, Some(text), _) if target.is_none() => target = Some(text),
                (Some("key"), Some(text), _) => key = Some(text),
                (Some("folds"), _, Token::Number(number)) => folds = *number,
                (Some("smooth"), _, Token::Number(number)) => smooth = *number,
                _ => return Err(self.refused(what)),
            }
        }
        let target = target.ok_or_else(|| self.refused(what))?;
        let key = key.ok_or_else(|| {
            self.refused("the column that says which rows belong together: key = column")
                .detail("Rows of one key share a fold, and no row's feature is made from its own fold.")
                .hint("Name the user or the row: target(bought, key = user_id).")
        })?;
        if folds.fract() != 0.0 || !(2.0..=100.0).contains(&folds) || smooth < 0.0 {
            return Err(self.refused(what));
        }
        Ok(Step::Target { target, key, folds: folds as u32, smooth })
    }

    fn date_parts(&self) -> Result<Step> {
        if self.given.is_empty() {
            return Ok(Step::DateParts(["year", "month", "day", "dow", "hour", "weekend"].map(str::to_owned).to_vec()));
        }
        let part = |given: &Given| match (&given.name, &given.value) {
            (None, Token::Word(word)) => {
                let word = word.to_lowercase();
                let base = word.strip_suffix("_sin").or_else(|| word.strip_suffix("_cos")).unwrap_or(&word);
                let cyclic = base == word || !matches!(base, "year" | "weekend");
                let known = DATE_PARTS.contains(&base) && cyclic;
                known.then(|| word.clone()).ok_or_else(|| {
                    let error = Error::invalid(format!("\"{word}\" is not a part of a date"))
                        .detail(format!("The parts are {}; those of a cycle also with _sin and _cos.", DATE_PARTS.join(", ")));
                    match nearest(&word, DATE_PARTS) {
                        Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
                        None => error,
                    }
                })
            }
            _ => Err(self.refused("names of parts")),
        };
        self.given.iter().map(part).collect::<Result<_>>().map(Step::DateParts)
    }
}

fn unknown(name: &str) -> Error {
    let names: Vec<&str> = STEPS.iter().filter_map(|step| step.split('(').next()).chain(["pca"]).collect();
    let error = Error::invalid(format!("there is no step \"{name}\"")).detail(format!("The steps are {}, pca(2).", STEPS.join(", ")));
    match nearest(name, names.iter().copied()) {
        Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_steps() {
        let entries = parse("Price, \"My Col\": median | winsorize(0.01, .99) | standard;\n c: target(y, key=U, smooth=0) as t;").unwrap();
        assert_eq!(entries[0].columns, ["price", "My Col"]);
        assert_eq!(entries[0].steps, [Step::Median, Step::Winsorize(0.01, 0.99), Step::Standard]);
        let target = Step::Target { target: "y".into(), key: "u".into(), folds: 5, smooth: 0.0 };
        assert_eq!((entries[1].steps.as_slice(), entries[1].name.as_deref()), ([target].as_slice(), Some("t")));
        let minus = parse("a: constant(-1.5) | minmax(-1, 1)").unwrap();
        assert_eq!(minus[0].steps, [Step::Constant("-1.5".into()), Step::Minmax(-1.0, 1.0)]);
        for step in STEPS {
            assert!(parse(&format!("a: {step}")).is_ok(), "{step}");
        }
    }

    #[test]
    fn faults_are_named() {
        for (text, code, message) in [
            ("", Code::InvalidParameter, "a transform needs steps"),
            ("price", Code::Syntax, "syntax error in the steps of a transform: \":\" was expected"),
            ("a: standart", Code::InvalidParameter, "there is no step \"standart\""),
            ("a: mean(3)", Code::InvalidParameter, "the step mean takes no arguments"),
            ("a: winsorize(0.9, 0.1)", Code::InvalidParameter, "the step winsorize takes two numbers, the lesser one first"),
            ("a: winsorize(0, 2)", Code::InvalidParameter, "the step winsorize takes two shares from 0 to 1, the lesser one first"),
            ("a: one_hot(0)", Code::InvalidParameter, "the step one_hot takes a whole number from 1 to 1000"),
            ("a: date_parts(year_sin)", Code::InvalidParameter, "\"year_sin\" is not a part of a date"),
            ("a: mean b: mean", Code::Syntax, "syntax error in the steps of a transform: unexpected \"b\""),
            ("a: constant('x", Code::Syntax, "syntax error in the steps of a transform: a quote ' is not closed"),
            ("a: mean(", Code::Syntax, "syntax error in the steps of a transform: it ends too early"),
            ("a: iqr(1e999)", Code::Syntax, "syntax error in the steps of a transform: \"1e999\" is not a number"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!((error.code, error.message.as_str()), (code, message), "{text}");
        }
        assert!(parse("a: target(y)").unwrap_err().hint.unwrap().contains("key = user_id"));
        assert_eq!(parse("a: standart").unwrap_err().hint.as_deref(), Some("Perhaps you meant \"standard\"."));
    }
}
