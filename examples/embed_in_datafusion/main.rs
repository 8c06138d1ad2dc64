//! The functions of Portrait in somebody else's DataFusion program: no server, no data directory.
//!
//! `cargo run --release --example embed_in_datafusion` trains on the bundled log, measures and scores it.

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use portrait_udfs::context::StatementContext;
use portrait_udfs::functions::{MlContext, register_all, sql};
use portrait_udfs::registry::{Jobs, Registry};

#[tokio::main]
async fn main() -> Result<()> {
    // 1. Where models live: any object store. Here a folder that goes away with the program.
    let folder = tempfile::tempdir()?;
    let store = Arc::new(LocalFileSystem::new_with_prefix(folder.path())?);
    let registry = Registry::open(Arc::clone(&store) as _, Path::from("models"), 256 << 20).await?;
    let jobs = Jobs::open(store, Path::from("jobs"), 1).await?;
    let context = Arc::new(MlContext::new(Arc::new(registry), jobs));

    // 2. A session with the functions in it. Progress goes where the program wants it.
    let progress = StatementContext { notice: Arc::new(show), ..StatementContext::default() };
    let config = progress.attach(SessionConfig::new().set_str("datafusion.sql_parser.dialect", "postgresql"));
    let builder = SessionStateBuilder::new().with_config(config).with_default_features();
    let session = SessionContext::new_with_state(register_all(builder, context).build());

    // 3. The program's own table.
    let events = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/online_retail/events");
    session.register_parquet("events", events, ParquetReadOptions::default()).await?;

    // 4. The job. `sql` is SessionContext::sql plus the pass that binds sources and named arguments.
    for statement in [
        "SELECT role, column_name, decision FROM describe_events('events') WHERE role <> 'ignored'",
        "SELECT arch, users, metric, test, baseline, message
         FROM train_profile_model('shopper', 'events', target => 'purchase', horizon => '30 days', arch => 'logreg')",
        "SELECT metric, class, value, baseline FROM evaluate_model('shopper') WHERE metric IN ('pr_auc', 'roc_auc', 'brier')",
        "SELECT user_id, intent, probability FROM score_users('shopper') ORDER BY probability DESC, user_id LIMIT 5",
        "SELECT predict_intent_proba('shopper', 12748, 'purchase') AS probability",
    ] {
        show(statement);
        sql(&session, statement).await?.show().await?;
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "an example talks to the terminal")]
fn show(text: &str) {
    eprintln!("\n{text}");
}
