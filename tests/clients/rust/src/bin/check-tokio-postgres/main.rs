//! tokio-postgres: binary values, portals, pipelines, COPY, cancelling, notices; over TLS with channel binding.

mod catalog;
mod connection;
mod copying;
mod errors;
mod interval;
mod results;
mod statements;
mod values;

use std::process::ExitCode;

use portrait_rust_clients::{Report, Server};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut report = Report::new("tokio-postgres");
    let server = &match Server::from_env() {
        Ok(server) => server,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    report.part("connecting", connection::connecting(server)).await;
    report.part("refused", connection::refused(server)).await;
    report.part("notices", connection::notices(server)).await;
    report.part("listening", connection::listening(server)).await;
    report.part("cancelling", connection::cancelling(server)).await;
    report.part("parameters", values::parameters(server)).await;
    report.part("arrays", values::arrays(server)).await;
    report.part("constants", values::constants(server)).await;
    report.part("texts", values::texts(server)).await;
    report.part("inferred types", statements::inferred_types(server)).await;
    report.part("declared types", statements::declared_types(server)).await;
    report.part("tables made anew", statements::tables_made_anew(server)).await;
    report.part("transactions", statements::transactions(server)).await;
    report.part("pipelines", statements::pipelines(server)).await;
    report.part("portals", results::portals(server)).await;
    report.part("streams", results::streams(server)).await;
    report.part("several statements", results::several_statements(server)).await;
    report.part("copying text", copying::text(server)).await;
    report.part("copying binary", copying::binary(server)).await;
    report.part("copying fails", copying::failures(server)).await;
    report.part("tables", catalog::tables(server)).await;
    report.part("types", catalog::types(server)).await;
    report.part("errors", errors::errors(server)).await;
    report.part("errors of parameters", errors::parameters(server)).await;
    report.finish()
}
