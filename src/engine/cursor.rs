//! A cursor: the rows of a query that still runs, taken a few at a time.
//!
//! Nothing is computed before it is fetched and nothing is kept after it was, so a cursor goes forward only, sees its
//! tables as they were when it was declared, and costs no more memory than one batch.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use tokio::sync::Mutex;

/// The rows of a declared query.
pub struct Cursor {
    schema: SchemaRef,
    /// Whether it outlives the transaction block.
    pub(super) hold: bool,
    rows: Mutex<Rows>,
}

struct Rows {
    /// `None` once the rows have ended.
    stream: Option<SendableRecordBatchStream>,
    /// What was not taken of the last batch.
    rest: Option<RecordBatch>,
}

impl std::fmt::Debug for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cursor").field("schema", &self.schema).field("hold", &self.hold).finish_non_exhaustive()
    }
}

impl Cursor {
    /// A cursor over `stream`, before its first row.
    pub fn new(schema: SchemaRef, stream: SendableRecordBatchStream, hold: bool) -> Self {
        Self { schema, hold, rows: Mutex::new(Rows { stream: Some(stream), rest: None }) }
    }

    /// The columns of its rows.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next rows, `limit` of them at the most; `None` when there are none left.
    ///
    /// # Errors
    /// Whatever ends the query.
    pub async fn next(&self, limit: usize) -> Option<DataFusionResult<RecordBatch>> {
        let mut rows = self.rows.lock().await;
        loop {
            if let Some(batch) = rows.rest.take() {
                if batch.num_rows() > limit {
                    rows.rest = Some(batch.slice(limit, batch.num_rows() - limit));
                    return Some(Ok(batch.slice(0, limit)));
                }
                if batch.num_rows() > 0 {
                    return Some(Ok(batch));
                }
            }
            match rows.stream.as_mut()?.next().await {
                Some(Ok(batch)) => rows.rest = Some(batch),
                ended => {
                    rows.stream = None;
                    return ended;
                }
            }
        }
    }
}
