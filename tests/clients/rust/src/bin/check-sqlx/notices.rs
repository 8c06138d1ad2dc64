//! Notices, which the driver hands to `tracing`.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use portrait_rust_clients::{Outcome, Server, check};
use sqlx::Executor;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::connection::connect;

/// Keeps the messages of notices.
#[derive(Clone, Default)]
struct Notices(Arc<Mutex<Vec<String>>>);

impl Visit for Notices {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0.lock().expect("one thread").push(format!("{value:?}").trim_matches('"').replace('\\', ""));
        }
    }
}

impl Subscriber for Notices {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "sqlx::postgres::notice"
    }

    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

pub async fn notices(server: &Server) -> Outcome {
    let seen = Notices::default();
    let _ = tracing::subscriber::set_global_default(seen.clone());
    let mut connection = connect(server).await?;
    connection.execute("DROP TABLE IF EXISTS nothing_there").await?;
    sqlx::query("DROP TABLE IF EXISTS nothing_either").execute(&mut connection).await?;
    let expected = ["nothing_there", "nothing_either"].map(|name| format!("table \"{name}\" does not exist, skipping"));
    let seen = seen.0.lock().expect("one thread").clone();
    check("notices", seen, expected.to_vec())
}
