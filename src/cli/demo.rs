//! `portrait demo`: the four statements on the bundled event log, printed for a person.
#![expect(clippy::print_stdout, reason = "the demo is what it prints")]

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use futures::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use portrait_udfs::context::NoticeSink;
use portrait_udfs::error::{Error, Result};
use tokio_util::sync::CancellationToken;

use super::output::Table;
use super::{Common, SUPERUSER, configure};
use crate::engine::Session;
use crate::error::classify;
use crate::pg::TextRows;
use crate::sql::{self, Outcome, RunOptions};

/// Where the bundled log lies, below the project.
const BUNDLED: &str = "examples/data/online_retail/events";

/// Run the main job on the bundled event log of a real shop.
///
/// Four statements: point at the files, train, evaluate, score. Takes about two minutes and leaves nothing behind, unless
/// --data-dir names a folder to keep the result in.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  portrait demo
  portrait demo --data-dir portrait-data        keeps tables and model, for serve and sql
  portrait demo --data ./examples/data/online_retail/events")]
pub(super) struct Demo {
    #[command(flatten)]
    common: Common,
    /// The folder of Parquet files of the bundled log, if it is not found
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl Demo {
    pub(super) async fn run(self) -> Result<ExitCode> {
        let events = find_events(self.data)?;
        let kept = self.common.data_dir.clone();
        let temporary = if kept.is_none() { Some(tempfile::tempdir()?) } else { None };
        let file = self.common.config.clone();
        let mut flags = self.common.options();
        flags.data_dir = temporary.as_ref().map(|dir| dir.path().to_path_buf()).or(flags.data_dir);
        flags.data_roots.get_or_insert_default().push(events.display().to_string());
        let config = configure(flags, file, true)?;
        let engine = super::open(&config).await?;
        let stage = Stage { session: engine.session(SUPERUSER)?, cancel: super::cancel_on_interrupt() };
        let shown = play(&stage, &events).await;
        drop(stage);
        engine.shutdown().await;
        shown?;
        print_next(&events, kept.as_deref());
        Ok(ExitCode::SUCCESS)
    }
}

/// The bundled log: as told, or beside the sources, the program or the working directory.
fn find_events(told: Option<PathBuf>) -> Result<PathBuf> {
    let program = std::env::current_exe().ok();
    let above = program.iter().flat_map(|path| path.ancestors().skip(1)).map(|folder| folder.join(BUNDLED));
    let near = [PathBuf::from(BUNDLED), Path::new(env!("CARGO_MANIFEST_DIR")).join(BUNDLED)];
    let candidates: Vec<PathBuf> = match told {
        Some(told) => vec![told],
        None => near.into_iter().chain(above).collect(),
    };
    candidates.iter().find(|path| path.is_dir()).and_then(|path| std::fs::canonicalize(path).ok()).ok_or_else(|| {
        Error::invalid("the bundled event log was not found")
            .hint(format!("Run the demo in the project's folder, or name the folder with --data …/{BUNDLED}."))
    })
}

/// The session that the demo plays in.
struct Stage {
    session: Session,
    cancel: CancellationToken,
}

/// The rows of one statement, as text.
struct Answer {
    names: Vec<String>,
    right: Vec<bool>,
    rows: Vec<Vec<Option<String>>>,
    seconds: f64,
}

impl Answer {
    /// A cell of the first row, by its column's name.
    fn get(&self, name: &str) -> &str {
        let at = self.names.iter().position(|found| found == name);
        at.and_then(|at| self.rows.first()?.get(at)?.as_deref()).unwrap_or("–")
    }

    fn number(&self, name: &str) -> Option<f64> {
        self.get(name).parse().ok()
    }

    fn print(&self) -> Result<()> {
        let mut out = std::io::stdout().lock();
        let mut table = Table::new(self.names.clone(), self.right.clone()).indented("  ");
        for row in &self.rows {
            table.push(&mut out, row.clone())?;
        }
        table.finish(&mut out)?;
        writeln!(out)?;
        Ok(())
    }
}

impl Stage {
    /// Runs one statement with a spinner that shows its messages.
    async fn ask(&self, text: &str) -> Result<Answer> {
        let started = Instant::now();
        let (spinner, notice) = progress();
        let answer = self.rows(text, notice).await;
        spinner.finish_and_clear();
        answer.map(|(names, right, rows)| Answer { names, right, rows, seconds: started.elapsed().as_secs_f64() })
    }

    async fn rows(&self, text: &str, notice: NoticeSink) -> Result<(Vec<String>, Vec<bool>, Vec<Vec<Option<String>>>)> {
        let statement = sql::parse(text)?.pop().ok_or_else(|| Error::internal("the demo has an empty statement"))?;
        let options = RunOptions { cancel: self.cancel.child_token(), notice };
        let Outcome::Rows { schema, mut stream, .. } = sql::run(&self.session, &statement, options).await? else {
            return Ok((Vec::new(), Vec::new(), Vec::new()));
        };
        let renderer = TextRows::new(&schema, "UTC");
        let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        let right = (0..names.len()).map(|at| renderer.right_aligned(at)).collect();
        let mut rows = Vec::new();
        while let Some(batch) = stream.next().await {
            rows.extend(renderer.cells(&batch.map_err(classify)?)?);
        }
        Ok((names, right, rows))
    }
}

/// On a terminal a line that changes, elsewhere a line per message.
fn progress() -> (ProgressBar, NoticeSink) {
    if !std::io::stderr().is_terminal() {
        #[expect(clippy::print_stderr, reason = "progress goes to stderr")]
        let notice: NoticeSink = Arc::new(|message| eprintln!("    {message}"));
        return (ProgressBar::hidden(), notice);
    }
    let spinner = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("  {spinner} {elapsed} {wide_msg}") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(120));
    let line = spinner.clone();
    (spinner, Arc::new(move |message| line.set_message(message.to_owned())))
}

/// The four statements and what came of them.
async fn play(stage: &Stage, events: &Path) -> Result<()> {
    println!("Portrait: from a directory of Parquet events to scored users in four statements.");
    println!("The log is real: every invoice line of a British gift shop, 2010-12 to 2011-12 (UCI Online Retail, CC BY 4.0).\n");
    point(stage, events).await?;
    train(stage).await?;
    evaluate(stage).await?;
    score(stage).await
}

fn heading(number: u8, title: &str, statement: &str) {
    println!("{number}. {title}");
    println!("     {}\n", statement.replace('\n', "\n     "));
}

async fn point(stage: &Stage, events: &Path) -> Result<()> {
    heading(
        1,
        "Point at the files. Nothing is copied.",
        "CREATE EXTERNAL TABLE events STORED AS PARQUET LOCATION 'online_retail/events/';",
    );
    let location = events.display().to_string().replace('\'', "''");
    stage.ask("DROP TABLE IF EXISTS scored").await?;
    stage.ask(&format!("CREATE OR REPLACE EXTERNAL TABLE events STORED AS PARQUET LOCATION '{location}/'")).await?;
    let facts = stage
        .ask(
            "SELECT count(*) AS rows, count(DISTINCT user_id) AS users, count(*) FILTER (WHERE user_id IS NULL) AS anonymous, \
             min(event_time)::date AS first, max(event_time)::date AS last FROM events",
        )
        .await?;
    println!(
        "  {} events of {} customers, {} to {} ({} events without a customer are left out)\n",
        grouped(facts.get("rows")),
        grouped(facts.get("users")),
        facts.get("first"),
        facts.get("last"),
        grouped(facts.get("anonymous")),
    );
    Ok(())
}

async fn train(stage: &Stage) -> Result<()> {
    let statement = "SELECT * FROM train_profile_model('shopper', 'events', target => 'purchase', horizon => '30 days')";
    heading(2, "Train: who will buy within 30 days? Split by time, so that the test is the future.", &format!("{statement};"));
    // A second run of the demo in a kept folder must not compare itself with the first.
    let row = stage.ask(&statement.replace("'30 days')", "'30 days', activate => 'always')")).await?;
    println!(
        "  {} chosen, {} parameters, best of {} epochs was {}; {:.1} s on {}",
        row.get("arch"),
        grouped(row.get("parameters")),
        row.get("epochs"),
        row.get("best_epoch"),
        row.seconds,
        row.get("device"),
    );
    println!(
        "  {} customers; rows: {} to train, {} to choose, {} to test",
        grouped(row.get("users")),
        grouped(row.get("train_rows")),
        grouped(row.get("valid_rows")),
        grouped(row.get("test_rows"))
    );
    let metric = row.get("metric").to_owned();
    let (test, baseline) = (row.number("test"), row.number("baseline"));
    println!("\n  {metric} on the test window:");
    let scale = test.into_iter().chain(baseline).fold(0.0_f64, f64::max);
    bar("this model", test, scale);
    bar("guessing the base rate", baseline, scale);
    println!("\n  {}\n", wrapped(row.get("message"), 110, "  "));
    Ok(())
}

async fn evaluate(stage: &Stage) -> Result<()> {
    let statement = "SELECT * FROM evaluate_model('shopper')";
    heading(3, "Evaluate on the test window, each figure beside its baseline.", &format!("{statement};"));
    stage
        .ask(&format!(
            "SELECT metric, class, round(value, 4) AS value, round(baseline, 4) AS baseline, n FROM ({statement}) AS metrics \
             WHERE metric IN ('pr_auc', 'roc_auc', 'log_loss', 'accuracy', 'precision', 'recall', 'f1', 'brier', 'ece')"
        ))
        .await?
        .print()
}

async fn score(stage: &Stage) -> Result<()> {
    heading(4, "Score every customer; the result is an ordinary table.", "CREATE TABLE scored AS SELECT * FROM score_users('shopper');");
    let made = stage.ask("CREATE TABLE scored AS SELECT * FROM score_users('shopper')").await?;
    println!("  done in {:.1} s. The most likely to come back:\n", made.seconds);
    stage
        .ask(
            "SELECT user_id, intent, round(probability, 3) AS probability, n_events, last_event::date AS last_event, as_of::date AS as_of \
             FROM scored WHERE intent = 'purchase' ORDER BY probability DESC, user_id LIMIT 5",
        )
        .await?
        .print()?;
    println!("  And anywhere in SQL, one forward pass per customer however often you ask:");
    let statement = "SELECT user_id, predict_intent('shopper', user_id) AS intent,\n       \
                     round(predict_intent_proba('shopper', user_id, 'purchase'), 3) AS p\n\
                     FROM (SELECT DISTINCT user_id FROM events WHERE country = 'Iceland' OR country = 'Malta') AS u\nORDER BY p DESC NULLS LAST";
    println!("     {};\n", statement.replace('\n', "\n     "));
    stage.ask(statement).await?.print()
}

fn bar(label: &str, value: Option<f64>, scale: f64) {
    let Some(value) = value else { return };
    let length = if scale > 0.0 { (value / scale * 40.0).round() as usize } else { 0 };
    println!("    {label:<24}{value:.4}  {}", "█".repeat(length));
}

/// `541909` as `541,909`.
fn grouped(digits: &str) -> String {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return digits.to_owned();
    }
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Breaks a text into lines at blanks.
fn wrapped(text: &str, line_max: usize, indent: &str) -> String {
    let mut out = String::new();
    let mut length = 0;
    for word in text.split_whitespace() {
        if length > 0 && length + 1 + word.chars().count() > line_max {
            out.push('\n');
            out.push_str(indent);
            length = 0;
        }
        if length > 0 {
            out.push(' ');
            length += 1;
        }
        out.push_str(word);
        length += word.chars().count();
    }
    out
}

fn print_next(events: &Path, kept: Option<&Path>) {
    let root = events.parent().and_then(Path::parent).unwrap_or(events);
    println!("Where to go next");
    match kept {
        Some(dir) => println!(
            "  portrait serve --data-dir {} --data-root {}\n     then paste the psql line that it prints",
            dir.display(),
            root.display()
        ),
        None => {
            println!("  portrait serve --data-dir portrait-data --data-root {}", root.display());
            println!("     then paste the psql line that it prints, and the four statements above");
        }
    }
    println!("  Your own log: SELECT * FROM describe_events('your_table') shows what Portrait makes of its columns.");
    println!("  README.md has the first steps, udfs/FUNCTIONS.md every function, examples/ complete jobs.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let cases = [("541909", "541,909"), ("12", "12"), ("1234567", "1,234,567"), ("–", "–"), ("1.5", "1.5")];
        for (digits, shown) in cases {
            assert_eq!(grouped(digits), shown);
        }
    }

    #[test]
    fn text_is_wrapped_at_blanks() {
        assert_eq!(wrapped("aa bb cc", 5, "> "), "aa bb\n> cc");
    }
}
