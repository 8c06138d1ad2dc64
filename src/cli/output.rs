//! Rows and errors on a terminal: tables as psql draws them, CSV, JSON lines.
#![expect(clippy::print_stderr, reason = "messages for people go to stderr")]

use std::io::{self, Write};

use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use portrait_udfs::error::{Code, Error, Result};

use crate::error::classify;
use crate::pg::TextRows;

/// Rows that decide the widths of a table's columns; later rows may be wider.
const ROWS_MEASURED: usize = 1000;

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(super) enum Format {
    /// A table for people.
    #[default]
    Table,
    /// Comma separated values with a header line.
    Csv,
    /// One JSON object a line.
    Json,
}

/// Prints every row as it arrives; returns how many there were.
///
/// # Errors
/// What the rows end with; writing to a closed pipe is an error of its own.
pub(super) async fn print_rows(
    out: &mut impl Write,
    format: Format,
    schema: &SchemaRef,
    zone: &str,
    mut stream: SendableRecordBatchStream,
) -> Result<u64> {
    let renderer = TextRows::new(schema, zone);
    let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let mut table = Table::new(names.clone(), (0..names.len()).map(|at| renderer.right_aligned(at)).collect());
    if format == Format::Csv {
        csv_line(out, names.iter().map(|name| Some(name.as_str())))?;
    }
    let mut count = 0_u64;
    while let Some(batch) = stream.next().await {
        let rows = renderer.cells(&batch.map_err(classify)?)?;
        count += rows.len() as u64;
        for row in rows {
            match format {
                Format::Table => table.push(out, row)?,
                Format::Csv => csv_line(out, row.iter().map(Option::as_deref))?,
                Format::Json => json_line(out, &names, &renderer, &row)?,
            }
        }
        if format != Format::Table {
            out.flush()?;
        }
    }
    if format == Format::Table {
        table.finish(out)?;
        writeln!(out, "({count} row{})\n", if count == 1 { "" } else { "s" })?;
    }
    out.flush()?;
    Ok(count)
}

/// A table whose first rows are kept until the widths are known.
pub(super) struct Table {
    names: Vec<String>,
    right: Vec<bool>,
    widths: Vec<usize>,
    kept: Vec<Vec<Option<String>>>,
    started: bool,
    indent: &'static str,
}

impl Table {
    pub(super) fn new(names: Vec<String>, right: Vec<bool>) -> Self {
        let widths = names.iter().map(|name| width(name)).collect();
        Self { names, right, widths, kept: Vec::new(), started: false, indent: "" }
    }

    /// Shifts the table to the right.
    pub(super) fn indented(mut self, indent: &'static str) -> Self {
        self.indent = indent;
        self
    }

    pub(super) fn push(&mut self, out: &mut impl Write, row: Vec<Option<String>>) -> io::Result<()> {
        if self.started {
            return self.line(out, &row);
        }
        for (widest, cell) in self.widths.iter_mut().zip(&row) {
            let cell_width = cell.as_deref().unwrap_or("").split('\n').map(width).max().unwrap_or(0);
            *widest = (*widest).max(cell_width);
        }
        self.kept.push(row);
        if self.kept.len() >= ROWS_MEASURED { self.start(out) } else { Ok(()) }
    }

    pub(super) fn finish(&mut self, out: &mut impl Write) -> io::Result<()> {
        if self.started { Ok(()) } else { self.start(out) }
    }

    fn start(&mut self, out: &mut impl Write) -> io::Result<()> {
        self.started = true;
        write!(out, "{}", self.indent)?;
        for (at, name) in self.names.iter().enumerate() {
            let space = self.widths[at] - width(name);
            let left = space / 2;
            let last = at + 1 == self.names.len();
            write!(
                out,
                "{} {}{name}{}",
                if at > 0 { "|" } else { "" },
                " ".repeat(left),
                " ".repeat(if last { 0 } else { space - left + 1 })
            )?;
        }
        writeln!(out)?;
        let rules: Vec<String> = self.widths.iter().map(|width| "-".repeat(width + 2)).collect();
        writeln!(out, "{}{}", self.indent, rules.join("+"))?;
        for row in std::mem::take(&mut self.kept) {
            self.line(out, &row)?;
        }
        Ok(())
    }

    /// One row; a cell of several lines continues below, as psql shows it with `+`.
    fn line(&self, out: &mut impl Write, row: &[Option<String>]) -> io::Result<()> {
        let cells: Vec<Vec<&str>> = row.iter().map(|cell| cell.as_deref().unwrap_or("").split('\n').collect()).collect();
        let lines = cells.iter().map(Vec::len).max().unwrap_or(1);
        for line in 0..lines {
            write!(out, "{}", self.indent)?;
            for (at, cell) in cells.iter().enumerate() {
                let text = cell.get(line).copied().unwrap_or("");
                let more = line + 1 < cell.len();
                let space = " ".repeat(self.widths[at].saturating_sub(width(text)));
                let (before, after) = if self.right[at] { (space.as_str(), "") } else { ("", space.as_str()) };
                let bar = if at > 0 { "|" } else { "" };
                if at + 1 == cells.len() {
                    let after = if more { after } else { "" };
                    write!(out, "{bar} {before}{text}{after}{}", if more { "+" } else { "" })?;
                } else {
                    write!(out, "{bar} {before}{text}{after}{}", if more { "+" } else { " " })?;
                }
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

/// Columns that a text takes on a terminal: East Asian characters take two.
fn width(text: &str) -> usize {
    text.chars()
        .map(|c| match c as u32 {
            0x0300..=0x036f | 0x200b..=0x200f => 0,
            0x1100..=0x115f
            | 0x2e80..=0xa4cf
            | 0xac00..=0xd7a3
            | 0xf900..=0xfaff
            | 0xfe30..=0xfe6f
            | 0xff00..=0xff60
            | 0xffe0..=0xffe6
            | 0x1f300..=0x1faff
            | 0x20000..=0x3fffd => 2,
            _ => 1,
        })
        .sum()
}

/// As PostgreSQL's `COPY … CSV`: NULL is nothing, an empty text is `""`.
fn csv_line<'a>(out: &mut impl Write, cells: impl Iterator<Item = Option<&'a str>>) -> io::Result<()> {
    for (at, cell) in cells.enumerate() {
        if at > 0 {
            out.write_all(b",")?;
        }
        match cell {
            None => {}
            Some(text) if text.is_empty() || text.contains(['"', ',', '\n', '\r']) => write!(out, "\"{}\"", text.replace('"', "\"\""))?,
            Some(text) => out.write_all(text.as_bytes())?,
        }
    }
    out.write_all(b"\n")
}

/// One object; numbers and Booleans are JSON's own, everything else is text.
fn json_line(out: &mut impl Write, names: &[String], renderer: &TextRows, row: &[Option<String>]) -> Result<()> {
    let mut object = serde_json::Map::with_capacity(row.len());
    for (at, (name, cell)) in names.iter().zip(row).enumerate() {
        let value = match cell {
            None => serde_json::Value::Null,
            Some(text) => json_value(renderer, at, text),
        };
        object.insert(name.clone(), value);
    }
    serde_json::to_writer(&mut *out, &object).map_err(|error| Error::new(Code::Io, error.to_string()))?;
    out.write_all(b"\n")?;
    Ok(())
}

fn json_value(renderer: &TextRows, column: usize, text: &str) -> serde_json::Value {
    match renderer.type_name(column) {
        "bool" => serde_json::Value::Bool(text == "t"),
        "json" | "jsonb" => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
        // NaN and Infinity are not numbers in JSON: they stay text.
        _ if renderer.right_aligned(column) => serde_json::from_str::<serde_json::Number>(text).map_or_else(|_| text.into(), Into::into),
        _ => text.into(),
    }
}

/// An error as psql prints it: `text` is the query string that its position counts in.
pub(super) fn print_error(error: &Error, text: Option<&str>) {
    if error.code == Code::Internal {
        let id = uuid::Uuid::new_v4();
        tracing::error!(%id, message = %error.message, "internal error");
        eprintln!("ERROR:  internal error {id}");
        eprintln!("HINT:  The log has the details under this id.");
        return;
    }
    let error = &crate::error::told(error.clone());
    eprintln!("ERROR:  {}", error.message);
    if let (Some(text), Some(position)) = (text, error.position) {
        print_place(text, position as usize);
    }
    if let Some(detail) = &error.detail {
        eprintln!("DETAIL:  {detail}");
    }
    if let Some(hint) = &error.hint {
        eprintln!("HINT:  {hint}");
    }
}

/// Characters of a line that are shown around a mistake.
const PLACE_WIDTH: usize = 72;
/// Of these, at least so many before it.
const PLACE_BEFORE: usize = 48;

/// The line of `text` that holds the character `position`, with a mark below it.
fn print_place(text: &str, position: usize) {
    if let Some((line, mark)) = place(text, position) {
        eprintln!("{line}");
        eprintln!("{mark}");
    }
}

/// The line and the mark; a long line is cut on both sides, as psql does.
fn place(text: &str, position: usize) -> Option<(String, String)> {
    let before: String = text.chars().take(position.saturating_sub(1)).collect();
    let number = before.matches('\n').count();
    let line: Vec<char> = text.split('\n').nth(number)?.trim_end_matches('\r').chars().map(|c| if c == '\t' { ' ' } else { c }).collect();
    let at = before.rsplit('\n').next().map_or(0, |start| start.chars().count()).min(line.len());
    let from = if line.len() > PLACE_WIDTH { at.saturating_sub(PLACE_BEFORE).min(line.len() - PLACE_WIDTH) } else { 0 };
    let to = (from + PLACE_WIDTH).min(line.len());
    let (left, right) = (if from > 0 { "..." } else { "" }, if to < line.len() { "..." } else { "" });
    let shown: String = line[from..to].iter().collect();
    let label = format!("LINE {}: {left}", number + 1);
    let lead: String = line[from..at].iter().collect();
    Some((format!("{label}{shown}{right}"), format!("{}^", " ".repeat(label.len() + width(&lead)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_look_like_those_of_psql() {
        let mut table = Table::new(vec!["user_id".into(), "intent".into()], vec![true, false]);
        let mut out = Vec::new();
        table.push(&mut out, vec![Some("1".into()), Some("purchase".into())]).unwrap();
        table.push(&mut out, vec![Some("22".into()), None]).unwrap();
        table.finish(&mut out).unwrap();
        let expected = " user_id |  intent\n---------+----------\n       1 | purchase\n      22 | \n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn long_lines_are_cut_around_the_mistake() {
        assert_eq!(place("SELECT x", 8), Some(("LINE 1: SELECT x".into(), "               ^".into())));
        let text = format!("SELECT 1,\n{}wrong{}", "a, ".repeat(100), ", b".repeat(100));
        let (line, mark) = place(&text, 10 + 300 + 1).unwrap();
        assert!(line.starts_with("LINE 2: ...") && line.ends_with("..."), "{line}");
        assert!(line[mark.len() - 1..].starts_with("wrong"), "{line}\n{mark}");
        assert!(line.len() < 100);
    }

    #[test]
    fn csv_tells_null_from_empty() {
        let mut out = Vec::new();
        csv_line(&mut out, [None, Some(""), Some("a\"b"), Some("c")].into_iter()).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), ",\"\",\"a\"\"b\",c\n");
    }
}
