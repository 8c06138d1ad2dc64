//! What the nodes of one running statement share: the loaded version, the opened histories, the memo.

use std::fmt;
use std::sync::{Arc, Weak};

use datafusion::execution::{SessionState, TaskContext};
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::answers::Layout;
use super::call::Needs;
use super::memo::{MEMO_BYTES_MAX, Memo};
use super::models::Models;
use super::predictor::Predictor;
use crate::error::Result;
use crate::registry::ModelRef;

/// The running executions of one program. Nodes find each other through the task context, which is one object per
/// execution of a plan.
#[derive(Debug, Default)]
pub(crate) struct Executions {
    running: Mutex<Vec<Running>>,
}

struct Running {
    task: Weak<TaskContext>,
    model: ModelRef,
    needs: Needs,
    execution: Weak<Execution>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("model", &self.model).finish_non_exhaustive()
    }
}

impl Executions {
    /// The execution of `model` within `task`, shared by all who ask while somebody still holds it.
    pub(crate) fn join(
        &self,
        task: &Arc<TaskContext>,
        model: &ModelRef,
        needs: &Needs,
        models: &Arc<dyn Models>,
        session: &Arc<SessionState>,
    ) -> Arc<Execution> {
        let mut running = self.running.lock();
        running.retain(|entry| entry.task.strong_count() > 0 && entry.execution.strong_count() > 0);
        let same =
            |entry: &&Running| std::ptr::eq(entry.task.as_ptr(), Arc::as_ptr(task)) && entry.model == *model && entry.needs == *needs;
        if let Some(execution) = running.iter().find(same).and_then(|entry| entry.execution.upgrade()) {
            return execution;
        }
        let execution = Arc::new(Execution {
            model: model.clone(),
            needs: needs.clone(),
            models: Arc::clone(models),
            session: Arc::clone(session),
            task: Arc::downgrade(task),
            opened: OnceCell::new(),
        });
        running.push(Running {
            task: Arc::downgrade(task),
            model: model.clone(),
            needs: needs.clone(),
            execution: Arc::downgrade(&execution),
        });
        execution
    }
}

/// One version within one execution.
pub(crate) struct Execution {
    model: ModelRef,
    needs: Needs,
    models: Arc<dyn Models>,
    session: Arc<SessionState>,
    task: Weak<TaskContext>,
    opened: OnceCell<Opened>,
}

impl fmt::Debug for Execution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Execution").field("model", &self.model).finish_non_exhaustive()
    }
}

/// The loaded version and what it left behind so far.
#[derive(Debug, Clone)]
pub(crate) struct Opened {
    pub(crate) predictor: Arc<dyn Predictor>,
    pub(crate) layout: Arc<Layout>,
    pub(crate) memo: Arc<Memo>,
}

impl Execution {
    /// Loads the version at the first call.
    pub(crate) async fn opened(&self) -> Result<&Opened> {
        self.opened
            .get_or_try_init(|| async {
                let predictor = self.models.open(&self.model, &self.session).await?;
                let layout = Arc::new(Layout::new(&self.needs, predictor.classes(), predictor.embedding_dim()));
                let pool = match self.task.upgrade() {
                    Some(task) => Arc::clone(task.memory_pool()),
                    None => Arc::clone(&self.session.runtime_env().memory_pool),
                };
                let memo = Arc::new(Memo::new(&layout, &pool, MEMO_BYTES_MAX));
                Ok(Opened { predictor, layout, memo })
            })
            .await
    }
}
