//! `portrait sql`: runs statements embedded, without a server.
#![expect(clippy::print_stderr, reason = "messages for people go to stderr")]

use std::io::{BufWriter, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use bytes::BytesMut;
use clap::Args;
use futures::StreamExt;
use portrait_udfs::error::{Code, Error, Result};
use tokio_util::sync::CancellationToken;

use super::output::{Format, print_error, print_rows};
use super::{Common, SUPERUSER, configure};
use crate::engine::Session;
use crate::error::classify;
use crate::pg::TextRows;
use crate::sql::{self, CopyFormat, CopyIn, CopyOut, Outcome, RunOptions};

/// Bytes of standard input that are read at once.
const STDIN_BYTES: usize = 1 << 20;

/// Run SQL statements without a server.
///
/// Statements run in order, each its own transaction; the first error ends the program with status 1. Messages go to
/// stderr, rows to stdout. The data directory must not be open in another process.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  portrait sql --data-dir portrait-data -c \"SELECT count(*) FROM events\"
  portrait sql --data-dir portrait-data --data-root ./logs -f script.sql
  echo 'SELECT * FROM ml.models' | portrait sql --data-dir portrait-data -f - --format csv")]
pub(super) struct Sql {
    #[command(flatten)]
    common: Common,
    /// Statements to run (repeatable)
    #[arg(short = 'c', long = "command", value_name = "SQL", required_unless_present = "files")]
    commands: Vec<String>,
    /// File of statements to run, after those of -c; - is standard input (repeatable)
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How rows are printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Print no command tags (CREATE TABLE …)
    #[arg(short, long)]
    quiet: bool,
}

impl Sql {
    pub(super) async fn run(self) -> Result<ExitCode> {
        let mut texts = self.commands;
        for file in &self.files {
            texts.push(read(file)?);
        }
        let config = configure(self.common.clone().options(), self.common.config.clone(), true)?;
        let engine = super::open(&config).await?;
        let session = engine.session(SUPERUSER)?;
        let cancel = super::cancel_on_interrupt();
        let mut outcome = Ok(());
        for text in &texts {
            outcome = run_text(&session, text, self.format, self.quiet, &cancel).await;
            if outcome.is_err() {
                break;
            }
        }
        drop(session);
        engine.shutdown().await;
        // The error was printed already, where its text is known.
        Ok(if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Runs every statement of `text`; the error is printed here.
async fn run_text(session: &Session, text: &str, format: Format, quiet: bool, cancel: &CancellationToken) -> std::result::Result<(), ()> {
    let statements = sql::parse(text).map_err(|error| print_error(&error, Some(text)))?;
    let mut out = BufWriter::new(std::io::stdout());
    for statement in &statements {
        let options = RunOptions { cancel: cancel.child_token(), notice: Arc::new(|message| eprintln!("NOTICE:  {message}")) };
        let result = async {
            match sql::run(session, statement, options).await? {
                Outcome::Rows { schema, stream, .. } => {
                    let zone = session.with_settings(|settings| settings.raw("TimeZone"))?;
                    print_rows(&mut out, format, &schema, &zone, stream).await.inspect_err(|_| session.statement_failed())?;
                }
                Outcome::Done { tag } => {
                    if format == Format::Table && !quiet {
                        writeln!(out, "{tag}")?;
                    }
                }
                Outcome::CopyIn(copy) => {
                    let tag = copy_stdin(*copy).await?;
                    if format == Format::Table && !quiet {
                        writeln!(out, "{tag}")?;
                    }
                }
                Outcome::CopyOut(copy) => {
                    let zone = session.with_settings(|settings| settings.raw("TimeZone"))?;
                    copy_stdout(&mut out, *copy, &zone).await.inspect_err(|_| session.statement_failed())?;
                }
                Outcome::Empty => {}
            }
            Result::Ok(())
        }
        .await;
        // Rows that came before an error are shown before it.
        let flushed = out.flush();
        if let Err(error) = result.and(flushed.map_err(Error::from)) {
            // The reader went away (`| head`): nobody is left to tell.
            if error.code == Code::Io && error.message.contains("roken pipe") {
                return Err(());
            }
            print_error(&error, Some(text));
            return Err(());
        }
    }
    Ok(())
}

/// Gives a COPY the rest of standard input. Returns its tag.
async fn copy_stdin(mut copy: CopyIn) -> Result<String> {
    if copy.format() == CopyFormat::Binary {
        return Err(Error::new(Code::FeatureNotSupported, "COPY in binary format needs a server").hint("Use FORMAT csv or text."));
    }
    loop {
        let read = tokio::task::spawn_blocking(|| {
            let mut piece = vec![0; STDIN_BYTES];
            let read = std::io::stdin().read(&mut piece)?;
            piece.truncate(read);
            std::io::Result::Ok(piece)
        });
        let piece = tokio::select! {
            () = copy.cancel().cancelled() => return Err(copy.stopped()),
            read = read => read.map_err(|error| Error::internal(error.to_string()))??,
        };
        if piece.is_empty() {
            return copy.finish().await;
        }
        if copy.push(&piece) {
            copy.decode().await?;
        }
    }
}

/// Prints the rows of a COPY.
async fn copy_stdout(out: &mut impl Write, mut copy: CopyOut, zone: &str) -> Result<()> {
    if copy.format == CopyFormat::Binary {
        return Err(Error::new(Code::FeatureNotSupported, "COPY in binary format needs a server").hint("Use FORMAT csv or text."));
    }
    let (renderer, mut line) = (TextRows::new(&copy.schema, zone), BytesMut::new());
    if copy.header {
        copy.text.row(copy.schema.fields().iter().map(|field| Some(field.name().as_bytes())), &mut line);
    }
    out.write_all(&line)?;
    while let Some(batch) = copy.stream.next().await {
        for row in renderer.cells(&batch.map_err(classify)?)? {
            line.clear();
            copy.text.row(row.iter().map(|cell| cell.as_ref().map(String::as_bytes)), &mut line);
            out.write_all(&line)?;
        }
    }
    Ok(())
}

fn read(path: &PathBuf) -> Result<String> {
    let unreadable =
        |error: std::io::Error| Error::new(Code::Io, format!("could not read file \"{}\"", path.display())).detail(format!("{error}."));
    if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(unreadable)?;
        return Ok(text);
    }
    std::fs::read_to_string(path).map_err(unreadable)
}
