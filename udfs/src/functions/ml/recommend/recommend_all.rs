//! `recommend_all(model, k => 10, exclude_seen => true, source => NULL, as_of => NULL)`

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::TryStreamExt;

use super::rows::{item_rows, item_schema};
use super::scan::{Visitor, Waiting, scan};
use super::subject::{self, Items, Subject};
use crate::error::Result;
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, MlRelation, Parameter};

/// Recommends items to everybody.
#[derive(Debug)]
pub struct RecommendAll;

impl MlRelation for RecommendAll {
    fn name(&self) -> &'static str {
        "recommend_all"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[subject::MODEL, subject::K, subject::UNSEEN, subject::SOURCE, subject::AS_OF];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "recommend_items for every user of a source, in bounded memory: blocks of users meet the whole catalogue in one product. Users whose \
         history is shorter than `min_history` have no rows. The rows of a user follow each other, best first; users come in no particular \
         order."
    }

    fn example(&self) -> &'static str {
        "CREATE TABLE tonight AS SELECT * FROM recommend_all('basket', 20)"
    }

    fn schema(&self, args: &Arguments, _source: Option<&Schema>, context: &MlContext) -> Result<SchemaRef> {
        subject::check_items(args, context)?;
        Ok(item_schema(subject::key_type(args, context)?))
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let k = subject::k(&call.args)?;
        let schema = Arc::clone(&call.schema);
        let rows = futures::stream::once(async move {
            let subject = Arc::new(Subject::open(&call).await?);
            let unseen = call.args.boolean("exclude_seen").unwrap_or(true);
            let items = Items::new(&subject.model)?;
            let visitor = Arc::new(Everybody { items, k, unseen, schema: Arc::clone(&call.schema) });
            scan(subject, visitor, &call.task, Arc::clone(&call.schema), call.statement().cancel.clone()).await
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows.try_flatten())))
    }
}

struct Everybody {
    items: Items,
    k: usize,
    unseen: bool,
    schema: SchemaRef,
}

impl Visitor for Everybody {
    fn visit(&self, waiting: &Waiting) -> Result<Option<RecordBatch>> {
        let found = self.items.retriever.recommend(&waiting.inputs, &waiting.histories, self.k, self.unseen)?;
        item_rows(&waiting.users, &found, &self.items, &self.schema).map(Some)
    }

    fn users_at_once(&self) -> usize {
        self.items.retriever.rows_at_once()
    }

    fn items(&self) -> Option<&Items> {
        Some(&self.items)
    }
}
