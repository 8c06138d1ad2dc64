//! From an engine's error to the one a person reads: which code, whose fault, PostgreSQL's words.
//!
//! The currency is [`portrait_udfs::error::Error`]; `pg/sqlstate.rs` turns its code into an SQLSTATE. This file alone
//! knows how DataFusion, Arrow, Parquet and the object store word their errors.

use arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::parquet::errors::ParquetError;
use datafusion::sql::sqlparser::parser::ParserError;

pub use portrait_udfs::error::{Code, Error, Result};

/// The error that a person should read for `error`.
pub fn classify(error: DataFusionError) -> Error {
    // Deep inside may lie an error of ours, already in its final words.
    if let Some(found) = Error::find(&error) {
        return found.clone();
    }
    match error {
        DataFusionError::Diagnostic(_, inner) | DataFusionError::Context(_, inner) => classify(*inner),
        DataFusionError::Shared(inner) => classify_shared(&inner),
        DataFusionError::Collection(mut errors) if !errors.is_empty() => classify(errors.swap_remove(0)),
        DataFusionError::SQL(error, _) => parser(&error),
        DataFusionError::SchemaError(error, _) => schema(&error),
        DataFusionError::ArrowError(error, _) => arrow(&error),
        DataFusionError::ParquetError(error) => parquet(&error),
        DataFusionError::ObjectStore(error) => object_store(&error),
        DataFusionError::IoError(error) => of_io(&error),
        DataFusionError::NotImplemented(text) => Error::new(Code::FeatureNotSupported, not_supported(&text)),
        DataFusionError::Plan(text) => plan(&text),
        DataFusionError::Configuration(text) => Error::invalid(lower_first(&text)),
        DataFusionError::Execution(text) => execution(&text),
        DataFusionError::ResourcesExhausted(text) => resources(&text),
        DataFusionError::ExecutionJoin(error) => Error::internal(format!("a query task failed: {error}")),
        DataFusionError::External(error) => external(error.as_ref()),
        DataFusionError::Internal(text) => Error::internal(text),
        other => Error::internal(other.strip_backtrace()),
    }
}

/// Like [`classify`], for an error that several readers share.
fn classify_shared(error: &DataFusionError) -> Error {
    match error {
        DataFusionError::Diagnostic(_, inner) | DataFusionError::Context(_, inner) => classify_shared(inner),
        DataFusionError::Shared(inner) => classify_shared(inner),
        DataFusionError::SchemaError(error, _) => schema(error),
        DataFusionError::ArrowError(error, _) => arrow(error),
        DataFusionError::ParquetError(error) => parquet(error),
        DataFusionError::ObjectStore(error) => object_store(error),
        DataFusionError::IoError(error) => of_io(error),
        DataFusionError::NotImplemented(text) => Error::new(Code::FeatureNotSupported, not_supported(text)),
        DataFusionError::Plan(text) => plan(text),
        DataFusionError::Execution(text) => execution(text),
        DataFusionError::ResourcesExhausted(text) => resources(text),
        DataFusionError::External(error) => external(error.as_ref()),
        other => Error::internal(other.strip_backtrace()),
    }
}

/// The name among `names` that `name` most likely meant: same but for case, or within a third of its letters.
pub fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    let distance_max = (wanted.chars().count() / 3).max(1);
    names
        .into_iter()
        .map(|candidate| (distance(&wanted, &candidate.to_lowercase()), candidate))
        .filter(|&(distance, _)| distance <= distance_max)
        .min_by_key(|&(distance, candidate)| (distance, candidate.len()))
        .map(|(_, candidate)| candidate)
}

/// Edit distance with swapped neighbours counted once (Damerau, 1964).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(128).collect(), b.chars().take(128).collect());
    let mut rows = vec![vec![0_usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

fn parser(error: &ParserError) -> Error {
    match error {
        ParserError::RecursionLimitExceeded => too_deep(),
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => syntax(text),
    }
}

/// A statement nested deeper than the parser's limit.
pub(crate) fn too_deep() -> Error {
    Error::new(Code::TooComplex, "statement is nested too deeply").hint("Use a WITH query or a view for the inner parts.")
}

/// The parser's `Expected: end of statement, found: FORM at Line: 1, Column: 10` in PostgreSQL's words; the position is
/// added by whoever has the text.
fn syntax(text: &str) -> Error {
    let text = text.split(" at Line:").next().unwrap_or(text).trim();
    let found = text.rsplit_once("found: ").map(|(before, found)| (before.trim_end_matches([',', ' ']), found.trim()));
    match found {
        Some((expected, "EOF")) => Error::new(Code::Syntax, "syntax error at end of input").detail(expected_detail(expected)),
        Some((expected, found)) => {
            Error::new(Code::Syntax, format!("syntax error at or near \"{found}\"")).detail(expected_detail(expected))
        }
        None => Error::new(Code::Syntax, format!("syntax error: {}", lower_first(text))),
    }
}

fn expected_detail(expected: &str) -> String {
    format!("{}.", capitalized(&expected.trim_end_matches('.').replacen("Expected: ", "Expected ", 1)))
}

fn schema(error: &SchemaError) -> Error {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let shown = match &field.relation {
                Some(relation) => format!("column {}.{} does not exist", relation.table(), field.name),
                None => format!("column \"{}\" does not exist", field.name),
            };
            let error = Error::new(Code::UndefinedColumn, shown);
            match nearest(&field.name, valid_fields.iter().map(|column| column.name.as_str())) {
                Some(near) => error.hint(format!("Perhaps you meant to reference the column \"{near}\".")),
                None => error,
            }
        }
        SchemaError::AmbiguousReference { field } => {
            Error::new(Code::AmbiguousColumn, format!("column reference \"{}\" is ambiguous", field.name))
        }
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            Error::new(Code::DuplicateColumn, format!("column \"{name}\" specified more than once"))
                .hint("Give one of them another name with AS.")
        }
    }
}

fn arrow(error: &ArrowError) -> Error {
    match error {
        ArrowError::DivideByZero => Error::new(Code::DivisionByZero, "division by zero"),
        ArrowError::ArithmeticOverflow(_) => out_of_range(""),
        ArrowError::CastError(text) => cast(text),
        ArrowError::ParseError(text) => cast(text),
        ArrowError::MemoryError(text) => resources(text),
        ArrowError::CsvError(text) | ArrowError::JsonError(text) => corrupted("text file", text),
        ArrowError::ParquetError(text) | ArrowError::IpcError(text) | ArrowError::AvroError(text) => corrupted("file", text),
        ArrowError::IoError(_, error) => of_io(error),
        ArrowError::ExternalError(error) => external(error.as_ref()),
        ArrowError::NotYetImplemented(text) => Error::new(Code::FeatureNotSupported, not_supported(text)),
        ArrowError::ComputeError(text) | ArrowError::InvalidArgumentError(text) => execution(text),
        ArrowError::SchemaError(text) => plan(text),
        ArrowError::OffsetOverflowError(_) | ArrowError::DictionaryKeyOverflowError | ArrowError::RunEndIndexOverflowError => {
            Error::new(Code::TooComplex, "a text or list column is too large for one batch").hint("Select fewer or shorter values.")
        }
        ArrowError::CDataInterface(text) => Error::internal(text.clone()),
    }
}

/// Arrow's words for a text or number that does not fit the type it is cast to.
fn cast(text: &str) -> Error {
    let quoted = quoted(text);
    if text.contains("timestamp") || text.contains("Timestamp") || text.contains("Date") || text.contains("Time") || text.contains("date") {
        let kind = if text.contains("Date") {
            "date"
        } else if text.contains("Interval") {
            "interval"
        } else {
            "timestamp"
        };
        return match text.contains("Overflow converting") {
            true => timestamp_overflow(text),
            false => datetime(kind, quoted.unwrap_or(text)),
        };
    }
    if text.contains("type interval") {
        return Error::new(Code::InvalidDatetime, lower_first(text));
    }
    if text.contains("nvalid timezone") {
        return Error::new(Code::InvalidDatetime, format!("invalid input syntax for type timestamp: {}", lower_first(text)));
    }
    if let (Some(value), Some((_, kind))) = (quoted, text.rsplit_once("to value of ")) {
        let kind = pg_type(kind.trim_end_matches(" type"));
        if matches!(kind, "smallint" | "integer" | "bigint") && is_integer(value) {
            return Error::new(Code::NumericOutOfRange, format!("value \"{value}\" is out of range for type {kind}"));
        }
    }
    if text.starts_with("Cannot cast string")
        || text.starts_with("Cannot cast value")
        || text.contains("Cannot parse")
        || text.contains("parse")
    {
        let kind = text.rsplit_once("to value of ").map_or("", |(_, kind)| kind.trim_end_matches(" type"));
        return Error::new(Code::InvalidText, format!("invalid input syntax for type {}: \"{}\"", pg_type(kind), quoted.unwrap_or(text)));
    }
    if text.contains("out of range")
        || text.contains("Can't cast value")
        || text.contains("overflow")
        || text.contains("too large")
        || text.contains("precision")
    {
        let kind = text.rsplit_once("to type ").map_or("", |(_, kind)| kind);
        return out_of_range(pg_type(kind));
    }
    Error::new(Code::DatatypeMismatch, lower_first(text))
}

/// A text that is no date or time: one of the right form names a day or hour that there is not.
pub(crate) fn datetime(kind: &str, text: &str) -> Error {
    let form = |byte: u8| byte.is_ascii_digit() || b"-:./+TZ ".contains(&byte);
    let separated = text.matches('-').count() >= 2 || text.contains(':');
    if separated && text.bytes().all(form) && text.starts_with(|first: char| first.is_ascii_digit()) {
        return Error::new(Code::DatetimeOverflow, format!("date/time field value out of range: \"{text}\""));
    }
    Error::new(Code::InvalidDatetime, format!("invalid input syntax for type {kind}: \"{text}\""))
}

fn timestamp_overflow(text: &str) -> Error {
    Error::new(Code::DatetimeOverflow, "timestamp out of range").detail(format!("{}.", capitalized(first_line(text).trim_end_matches('.'))))
}

fn is_integer(text: &str) -> bool {
    let digits = text.trim().trim_start_matches(['-', '+']);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn out_of_range(kind: &str) -> Error {
    Error::new(Code::NumericOutOfRange, if kind.is_empty() { "number out of range".to_owned() } else { format!("{kind} out of range") })
}

/// PostgreSQL's name for an Arrow type's.
fn pg_type(arrow: &str) -> &str {
    match arrow.trim() {
        "Int8" | "Int16" | "UInt8" => "smallint",
        "Int32" | "UInt16" => "integer",
        "Int64" | "UInt32" | "UInt64" => "bigint",
        "Float16" | "Float32" => "real",
        "Float64" => "double precision",
        "Utf8" | "LargeUtf8" | "Utf8View" => "text",
        "Boolean" => "boolean",
        "Date32" | "Date64" => "date",
        other if other.starts_with("Decimal") => "numeric",
        other if other.starts_with("Timestamp") => "timestamp",
        other if other.starts_with("Interval") => "interval",
        other => other,
    }
}

/// The error of a disk that is full.
pub(crate) fn disk_full() -> Error {
    Error::new(Code::DiskFull, "could not write file: no space left on device")
        .hint("Nothing of the statement is kept. Free some space and run it again.")
}

/// An error as a person is told of it: a full disk is one also where only the text says so (the functions' crate keeps no more of
/// what an engine put around it), and says what to do.
pub(crate) fn told(mut error: Error) -> Error {
    if error.code == Code::Io && error.message.contains("No space left on device") {
        let detail = format!("{}.", capitalized(error.message.trim_end_matches('.')));
        error = Error::new(Code::DiskFull, "no space left on device").detail(error.detail.unwrap_or(detail));
    }
    if error.code == Code::DiskFull && error.hint.is_none() {
        error = error.hint("Free some space and run the statement again.");
    }
    error
}

/// The damage that a text tells of: some libraries keep the text of an error and nothing else.
pub(crate) fn damage_in(text: &str) -> Option<Error> {
    let at = text.find("\" is damaged")?;
    let start = text[..at].rfind("file \"")?;
    let message = text[start..].lines().next()?;
    Some(Error::new(Code::DataCorrupted, message).hint("Restore the file from a backup."))
}

fn parquet(error: &ParquetError) -> Error {
    match error {
        ParquetError::External(error) => external(error.as_ref()),
        ParquetError::NYI(text) => Error::new(Code::FeatureNotSupported, not_supported(text)),
        other if let Some(damage) = damage_in(&other.to_string()) => damage,
        // A footer that could not be fetched: the reader keeps the text alone.
        other => match other.to_string().split_once("Generic S3 error: ") {
            Some((_, failure)) => Error::new(Code::Io, lower_first(failure)).hint("Run the statement again once the store answers."),
            None => corrupted("Parquet file", &other.to_string()),
        },
    }
}

fn corrupted(what: &str, text: &str) -> Error {
    Error::new(Code::DataCorrupted, format!("could not read {what}")).detail(format!("{}.", capitalized(text.trim_end_matches('.'))))
}

fn object_store(error: &object_store::Error) -> Error {
    match error {
        object_store::Error::NotFound { path, .. } => Error::new(Code::Io, format!("file \"{path}\" does not exist"))
            .detail("It was there when the table was defined or the statement was planned."),
        object_store::Error::PermissionDenied { path, .. } => {
            Error::new(Code::InsufficientPrivilege, format!("permission denied for file \"{path}\""))
        }
        other => external(other),
    }
}

/// An error of a library: ours may lie below it, or the operating system's.
fn external(error: &(dyn std::error::Error + 'static)) -> Error {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<Error>() {
            return found.clone();
        }
        if let Some(found) = error.downcast_ref::<DataFusionError>() {
            return classify_shared(found);
        }
        if let Some(found) = error.downcast_ref::<ArrowError>() {
            return arrow(found);
        }
        if let Some(found) = error.downcast_ref::<ParquetError>() {
            return parquet(found);
        }
        if let Some(found) = error.downcast_ref::<std::io::Error>() {
            // An io::Error made of another error shows that one as itself, not as its source.
            return match found.get_ref() {
                Some(inner) => external(inner),
                None if io_code(found) == Code::DiskFull => disk_full(),
                None => Error::new(io_code(found), found.to_string().to_lowercase()),
            };
        }
        if error.is::<object_store::Error>() && error.to_string().contains("Out of range of file") {
            return corrupted("file", "it ends before what its footer says");
        }
        if error.is::<std::str::Utf8Error>() || error.is::<std::string::FromUtf8Error>() {
            return corrupted("file", &format!("a text in it is not UTF-8: {error}"));
        }
        next = error.source();
    }
    Error::internal(error.to_string())
}

/// A failure of reading or writing: what a library put around the operating system's error is looked through.
pub(crate) fn of_io(error: &std::io::Error) -> Error {
    let found = external(error);
    if found.code == Code::Internal { Error::new(io_code(error), error.to_string()) } else { found }
}

fn io_code(error: &std::io::Error) -> Code {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Code::DiskFull,
        std::io::ErrorKind::OutOfMemory => Code::OutOfMemory,
        _ => Code::Io,
    }
}

fn resources(text: &str) -> Error {
    if text.contains("temporary") || text.contains("spill") && text.contains("disk") || text.contains("max_temp_directory_size") {
        return Error::new(Code::DiskFull, "temporary files of this server would exceed their limit")
            .detail(format!("{}.", capitalized(first_line(text).trim_end_matches('.'))))
            .hint("Narrow the query, or raise spill_limit in portrait.toml.");
    }
    Error::new(Code::OutOfMemory, "out of memory")
        .detail(format!("{}.", capitalized(first_line(text).trim_end_matches('.'))))
        .hint("Narrow the query, run fewer statements at once, or raise memory_limit in portrait.toml.")
}

/// DataFusion's planning errors: the person's query names something that is not there or does not fit.
fn plan(text: &str) -> Error {
    let text = text.split("\n\nbacktrace:").next().unwrap_or(text);
    if let Some(rest) = text.strip_prefix("table '").or_else(|| text.strip_prefix("Table '"))
        && let Some((name, _)) = rest.split_once("' not found")
    {
        let bare = name.strip_prefix("portrait.").unwrap_or(name);
        let bare = bare.strip_prefix("$path.").unwrap_or(bare);
        // Behind the mark stands the version that was asked for (`storage::versions`).
        let bare = bare.split('\u{2064}').next().unwrap_or(bare);
        return Error::new(Code::UndefinedTable, format!("relation \"{bare}\" does not exist"));
    }
    if let Some(rest) = text.strip_prefix("Invalid function '") {
        let name = rest.split('\'').next().unwrap_or_default();
        let error = Error::new(Code::UndefinedFunction, format!("function {name} does not exist"));
        return match rest.split_once("Did you mean '").and_then(|(_, near)| near.split('\'').next()) {
            Some(near) if !near.is_empty() && nearest(name, [near]).is_some() => {
                error.hint(format!("Perhaps you meant the function \"{near}\"."))
            }
            _ => error.hint("No function matches the given name and argument types. You might need to add explicit type casts."),
        };
    }
    if let Some(rest) = text.strip_prefix("table function '").or_else(|| text.strip_prefix("Table function '"))
        && let Some((name, _)) = rest.split_once("' not found")
    {
        let error = Error::new(Code::UndefinedFunction, format!("function {name} does not exist"));
        let known = portrait_udfs::functions::relations();
        return match nearest(name, known.iter().map(|relation| relation.name())) {
            Some(near) => error.hint(format!("Perhaps you meant the function \"{near}\".")),
            None => error,
        };
    }
    if text.contains("must appear in the GROUP BY") || text.contains("must be in GROUP BY") || text.contains("must appear in GROUP BY") {
        return Error::new(Code::Grouping, "column must appear in the GROUP BY clause or be used in an aggregate function")
            .detail(format!("{}.", capitalized(first_line(text).trim_end_matches('.'))));
    }
    if text.contains("Failed to coerce arguments")
        || text.contains("No function matches")
        || text.contains("does not support") && text.contains("function")
    {
        let name = text.split('\'').nth(1).unwrap_or_default();
        let shown = if name.is_empty() {
            "function call does not match its arguments".to_owned()
        } else {
            format!("function {name} does not accept these arguments")
        };
        return Error::new(Code::UndefinedFunction, shown)
            .detail(format!("{}.", capitalized(first_line(text).trim_end_matches('.'))))
            .hint("You might need to add explicit type casts.");
    }
    if text.contains("Cannot coerce arithmetic")
        || text.contains("Cannot infer common argument type")
        || text.contains("There isn't result type")
    {
        return Error::new(Code::UndefinedFunction, "operator does not exist for these types")
            .detail(format!("{}.", capitalized(first_line(text).trim_end_matches('.'))))
            .hint("You might need to add explicit type casts.");
    }
    if text.starts_with("Unsupported")
        || text.starts_with("Not supported")
        || text.contains("not implemented")
        || text.contains("not supported")
    {
        return Error::new(Code::FeatureNotSupported, lower_first(first_line(text)));
    }
    if text.contains("No value found for placeholder") || text.contains("Placeholder") && text.contains("not provided") {
        return Error::new(Code::UndefinedParameter, lower_first(first_line(text)));
    }
    if text.contains("type") && (text.contains("mismatch") || text.contains("Cannot cast") || text.contains("cast")) {
        return Error::new(Code::DatatypeMismatch, lower_first(first_line(text)));
    }
    Error::new(Code::Syntax, lower_first(first_line(text)))
}

/// DataFusion's execution errors: the person's data does not fit.
fn execution(text: &str) -> Error {
    let text = text.split("\n\nbacktrace:").next().unwrap_or(text);
    if text.contains("returned more than one row") {
        return Error::new(Code::Cardinality, "more than one row returned by a subquery used as an expression");
    }
    if text.contains("Divide by zero") || text.contains("divide by zero") {
        return Error::new(Code::DivisionByZero, "division by zero");
    }
    if text.contains("Overflow") || text.contains("overflow") {
        return out_of_range("");
    }
    if text.contains("is too large to store in a Decimal") || text.contains("is too small to store in a Decimal") {
        return Error::new(Code::NumericOutOfRange, "numeric field overflow")
            .detail(format!("{}.", capitalized(first_line(text).trim_end_matches('.'))));
    }
    if text.contains("regex") || text.contains("Regular expression") {
        return Error::new(Code::InvalidRegex, "invalid regular expression")
            .detail(format!("{}.", capitalized(first_line(text).trim_end_matches('.'))));
    }
    if text.contains("Error parsing timestamp") || text.contains("Error parsing date") || text.contains("nvalid timezone") {
        return datetime("timestamp", quoted(text).unwrap_or(text));
    }
    if text.contains("Cannot cast string") {
        return cast(text);
    }
    if text.contains("invalid value") || text.contains("Invalid") || text.contains("must be") {
        return Error::invalid(lower_first(first_line(text)));
    }
    Error::invalid(lower_first(first_line(text)))
}

fn not_supported(text: &str) -> String {
    let text = lower_first(first_line(text));
    if text.contains("not support") || text.contains("not yet support") || text.contains("unsupported") || text.contains("not implemented")
    {
        text
    } else {
        format!("{text} is not supported")
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim()
}

/// The first text in single quotes.
fn quoted(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once('\'')?;
    rest.split_once('\'').map(|(found, _)| found)
}

fn lower_first(text: &str) -> String {
    let text = text.trim().trim_end_matches('.');
    let mut letters = text.chars();
    match letters.next() {
        // An acronym or a name stays as it is.
        Some(first) if !letters.clone().next().is_some_and(char::is_uppercase) => first.to_lowercase().to_string() + letters.as_str(),
        _ => text.to_owned(),
    }
}

fn capitalized(text: &str) -> String {
    let mut letters = text.trim().chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().to_string() + letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_found_below_everything() {
        let ours = Error::new(Code::UndefinedObject, "model \"m\" does not exist").hint("Train it.");
        let wrapped = DataFusionError::Context(
            "while".into(),
            Box::new(DataFusionError::ArrowError(Box::new(ArrowError::ExternalError(Box::new(DataFusionError::from(ours)))), None)),
        );
        let error = classify(wrapped);
        assert_eq!((error.code, error.hint.as_deref()), (Code::UndefinedObject, Some("Train it.")));
    }

    #[test]
    fn codes() {
        use DataFusionError as D;
        let cases = [
            (D::Plan("table 'portrait.$path.evnts' not found".into()), Code::UndefinedTable, "relation \"evnts\" does not exist"),
            (D::Plan("Invalid function 'nope'.\nDid you mean 'now'?".into()), Code::UndefinedFunction, "function nope does not exist"),
            (D::ArrowError(Box::new(ArrowError::DivideByZero), None), Code::DivisionByZero, "division by zero"),
            (
                D::ArrowError(Box::new(ArrowError::CastError("Cannot cast string 'abc' to value of Int64 type".into())), None),
                Code::InvalidText,
                "invalid input syntax for type bigint: \"abc\"",
            ),
            (D::ResourcesExhausted("Failed to allocate".into()), Code::OutOfMemory, "out of memory"),
            (D::NotImplemented("Unsupported logical plan: X".into()), Code::FeatureNotSupported, "unsupported logical plan: X"),
        ];
        for (error, code, message) in cases {
            let error = classify(error);
            assert_eq!((error.code, error.message.as_str()), (code, message));
        }
    }

    #[test]
    fn syntax_errors_in_postgresql_words() {
        let error = syntax("Expected: end of statement, found: FORM at Line: 1, Column: 10");
        assert_eq!(error.message, "syntax error at or near \"FORM\"");
        assert_eq!(syntax("Expected: an expression, found: EOF").message, "syntax error at end of input");
    }

    #[test]
    fn nearest_names() {
        assert_eq!(nearest("evnts", ["users", "events"]), Some("events"));
        assert_eq!(nearest("xyz", ["users", "events"]), None);
        assert_eq!(nearest("Users", ["users"]), Some("users"));
    }
}
