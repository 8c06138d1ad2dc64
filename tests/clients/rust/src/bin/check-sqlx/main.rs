//! sqlx: binary values, streams, its questions about types and columns, pools, COPY, notices; over TLS.

mod connection;
mod copying;
mod notices;
mod resolving;
mod results;
mod statements;
mod values;

use std::process::ExitCode;

use portrait_rust_clients::{Report, Server};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut report = Report::new("sqlx");
    let server = &match Server::from_env() {
        Ok(server) => server,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    report.part("connecting", connection::connecting(server)).await;
    report.part("refused", connection::refused(server)).await;
    report.part("notices", notices::notices(server)).await;
    report.part("listening", connection::listening(server)).await;
    report.part("cancelling", connection::cancelling(server)).await;
    report.part("pools", connection::pools(server)).await;
    report.part("parameters", values::parameters(server)).await;
    report.part("arrays", values::arrays(server)).await;
    report.part("texts", values::texts(server)).await;
    report.part("inferred types", statements::inferred_types(server)).await;
    report.part("kept statements", statements::kept(server)).await;
    report.part("tables made anew", statements::tables_made_anew(server)).await;
    report.part("transactions", statements::transactions(server)).await;
    report.part("errors", statements::errors(server)).await;
    report.part("streams", results::streams(server)).await;
    report.part("several statements", results::several_statements(server)).await;
    report.part("rows by UNNEST", results::rows_by_unnest(server)).await;
    report.part("copying text", copying::text(server)).await;
    report.part("copying binary", copying::binary(server)).await;
    report.part("copying fails", copying::failures(server)).await;
    report.part("types by name", resolving::types_by_name(server)).await;
    report.part("types by oid", resolving::types_by_oid(server)).await;
    report.part("describing", resolving::describing(server)).await;
    report.finish()
}
