//! One running statement: its cancel token, its timeout, its session state, and the stream of its rows.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::{Stream, StreamExt};
use portrait_udfs::context::{NoticeSink, StatementContext};
use portrait_udfs::error::{Code, Error, Result};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::runtime::{AbortOnDrop, failed};
use super::search_path::OwnTables;
use super::{Engine, Session};

/// Batches that wait between the query threads and whoever sends them.
const BATCHES_AHEAD: usize = 2;

/// A statement that runs: cancelled by its caller, by its timeout, or by being dropped.
#[derive(Clone)]
pub struct Running {
    engine: Arc<Engine>,
    state: Arc<SessionState>,
    guard: Arc<Guard>,
    parameters: Parameters,
    own: OwnTables,
}

/// What a statement knows of the values of its `$1 …`.
#[derive(Debug, Clone, Default)]
pub enum Parameters {
    /// Nothing.
    #[default]
    Unknown,
    /// It does not run: any values will do.
    Described,
    /// All of them.
    Known(Arc<[ScalarValue]>),
}

/// Ends everything the statement started when the last holder is gone.
struct Guard {
    cancel: CancellationToken,
    timed_out: Arc<AtomicBool>,
    timer: Option<AbortOnDrop<()>>,
    notice: NoticeSink,
}

impl Drop for Guard {
    fn drop(&mut self) {
        // A timer that fires later would otherwise keep the token (and what listens to it) alive.
        drop(self.timer.take());
        self.cancel.cancel();
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").finish_non_exhaustive()
    }
}

impl Running {
    /// Starts the clock of a statement of `session`.
    pub(super) fn start(session: &Session, text: &str, cancel: &CancellationToken, notice: NoticeSink) -> Result<Self> {
        let timeout = session.with_settings(|settings| settings.integer("statement_timeout"));
        Self::start_with(session, text, cancel.child_token(), notice, timeout)
    }

    /// The query of a cursor that this statement declares: neither this statement's end nor its clock stops it.
    ///
    /// # Errors
    /// When a setting cannot be applied.
    pub fn of_cursor(&self, session: &Session) -> Result<Self> {
        let text = StatementContext::of(self.state.config()).statement.clone();
        Self::start_with(session, &text, CancellationToken::new(), Arc::clone(&self.guard.notice), 0)
    }

    fn start_with(session: &Session, text: &str, cancel: CancellationToken, notice: NoticeSink, timeout: i64) -> Result<Self> {
        let engine = Arc::clone(session.engine());
        let timed_out = Arc::new(AtomicBool::new(false));
        let timer = u64::try_from(timeout).ok().filter(|&ms| ms > 0).map(|ms| {
            let (cancel, timed_out) = (cancel.clone(), Arc::clone(&timed_out));
            AbortOnDrop(engine.runtime().spawn_timer(async move {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                timed_out.store(true, Ordering::Release);
                cancel.cancel();
            }))
        });
        let context = StatementContext {
            cancel: cancel.clone(),
            notice: Arc::clone(&notice),
            user: session.user().to_owned(),
            statement: text.to_owned(),
            people: Arc::default(),
        };
        let mut state = session.state()?;
        *state.config_mut() = context.attach(state.config().clone());
        state.mark_start_execution();
        let guard = Arc::new(Guard { cancel, timed_out, timer, notice });
        Ok(Self { engine, state: Arc::new(state), guard, parameters: Parameters::default(), own: session.own_tables() })
    }

    /// The same statement, that knows this of its parameters.
    #[must_use]
    pub fn with_parameters(&self, parameters: Parameters) -> Self {
        Self { parameters, ..self.clone() }
    }

    /// The same statement with the rights of `role`.
    ///
    /// # Errors
    /// When the role's state cannot be built.
    pub fn acting_as(&self, role: &str) -> Result<Self> {
        Ok(Self { state: self.engine.acting_as(&self.state, role)?, ..self.clone() })
    }

    /// What it knows of its parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The session's state for this statement: its settings, its context, its start time.
    pub fn state(&self) -> &Arc<SessionState> {
        &self.state
    }

    /// The temporary tables of its session.
    pub(crate) fn own_tables(&self) -> &OwnTables {
        &self.own
    }

    /// The engine that runs it.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Fired when the statement must stop.
    pub fn cancel(&self) -> &CancellationToken {
        &self.guard.cancel
    }

    /// Sends a message to the client while the statement runs.
    pub fn notice(&self, message: &str) {
        (self.guard.notice)(message);
    }

    /// The error of a statement that was stopped: who stopped it decides the message.
    pub fn stopped(&self) -> Error {
        stopped(&self.guard.timed_out)
    }

    /// Runs `work` on the query threads; returns at once when the statement is stopped, though `work` may go on to
    /// its next await.
    ///
    /// # Errors
    /// What `work` returns; [`Code::Cancelled`] when the statement was stopped.
    pub async fn run<T, F>(&self, work: F) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        tokio::select! {
            biased;
            () = self.guard.cancel.cancelled() => Err(self.stopped()),
            result = self.engine.runtime().run(work) => result.map_err(|error| {
                if error.code == Code::Cancelled { self.stopped() } else { error }
            }),
        }
    }

    /// The rows of `plan`. The plan runs on the query threads from the first poll on, at most a few batches ahead;
    /// dropping the stream stops it.
    pub fn stream(&self, plan: Arc<dyn ExecutionPlan>) -> SendableRecordBatchStream {
        let schema = plan.schema();
        let task = Arc::new(TaskContext::from(self.state.as_ref()));
        self.hand_over(schema, move || execute_stream(plan, task))
    }

    /// Like [`stream`](Self::stream), for a stream that `open` makes on the query threads.
    pub fn hand_over<F>(&self, schema: SchemaRef, open: F) -> SendableRecordBatchStream
    where
        F: FnOnce() -> DataFusionResult<SendableRecordBatchStream> + Send + 'static,
    {
        Box::pin(HandedOver {
            schema,
            running: self.clone(),
            cancelled: Box::pin(self.guard.cancel.clone().cancelled_owned()),
            open: Some(Box::new(open)),
            receiver: None,
            done: false,
        })
    }
}

fn stopped(timed_out: &AtomicBool) -> Error {
    if timed_out.load(Ordering::Acquire) {
        Error::new(Code::Cancelled, "canceling statement due to statement timeout")
    } else {
        Error::cancelled()
    }
}

type Open = Box<dyn FnOnce() -> DataFusionResult<SendableRecordBatchStream> + Send>;

/// The receiving end of a stream that runs on the query threads.
struct HandedOver {
    schema: SchemaRef,
    running: Running,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
    open: Option<Open>,
    receiver: Option<(mpsc::Receiver<DataFusionResult<RecordBatch>>, AbortOnDrop<()>)>,
    done: bool,
}

impl HandedOver {
    fn start(&mut self) {
        let Some(open) = self.open.take() else { return };
        let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
        let task = self.running.engine.runtime().spawn(async move {
            let mut rows = match open() {
                Ok(rows) => rows,
                Err(error) => {
                    // Nobody listens any more: the statement was dropped.
                    let _ = sender.send(Err(error)).await;
                    return;
                }
            };
            while let Some(batch) = rows.next().await {
                let last = batch.is_err();
                if sender.send(batch).await.is_err() || last {
                    return;
                }
            }
        });
        self.receiver = Some((receiver, AbortOnDrop(task)));
    }

    /// The channel closed: the rows are complete, or the task died.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<Option<DataFusionResult<RecordBatch>>> {
        let Some((_, task)) = &mut self.receiver else { return Poll::Ready(None) };
        match Pin::new(&mut task.0).poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(outcome) => {
                self.done = true;
                self.receiver = None;
                Poll::Ready(outcome.err().map(|error| Err(DataFusionError::from(failed(&error)))))
            }
        }
    }
}

impl Stream for HandedOver {
    type Item = DataFusionResult<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.done {
            return Poll::Ready(None);
        }
        // First, so that a query that does not yield cannot hold back the answer.
        if this.cancelled.as_mut().poll(context).is_ready() {
            this.done = true;
            this.receiver = None;
            return Poll::Ready(Some(Err(DataFusionError::from(this.running.stopped()))));
        }
        this.start();
        let Some((receiver, _)) = &mut this.receiver else { return Poll::Ready(None) };
        match receiver.poll_recv(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => this.poll_end(context),
            Poll::Ready(Some(batch)) => {
                this.done = batch.is_err();
                Poll::Ready(Some(batch.map_err(|error| match Error::find(&error) {
                    Some(found) if found.code == Code::Cancelled => DataFusionError::from(this.running.stopped()),
                    _ => error,
                })))
            }
        }
    }
}

impl RecordBatchStream for HandedOver {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}
