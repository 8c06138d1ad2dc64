//! Optimised plans of prepared statements that only look something up: planning them takes longer than running them.
//!
//! Life of a plan: `sql` takes a [`PlanSlot`] for a prepared statement and, at its first execution, [keeps](PlanSlot::keep) the plan
//! with its parameters still open → each later execution [takes](PlanSlot::take) a copy, unless the catalog or the session's
//! settings have changed since → the slot is dropped with the statement, and the plan with it.
//!
//! All plans lie here, not with their statements, so that one change of the catalog lets go of the tables of all of them. Must
//! never know: which plans may be kept. A kept plan reads the table's version of each execution.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::logical_expr::LogicalPlan;
use parking_lot::Mutex;

use super::Session;

/// Plans at once.
const PLANS_MAX: usize = 10_000;

/// What a plan was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanStamp {
    catalog: u64,
    session: u32,
    settings: u64,
    /// Temporary tables come before others of their names.
    temporary: u64,
}

impl PlanStamp {
    /// Of now. Take it before planning.
    pub fn of(session: &Session) -> Self {
        Self {
            catalog: session.engine().catalog().changes(),
            session: session.id(),
            settings: session.setting_changes(),
            temporary: session.temporary().changes(),
        }
    }
}

/// A plan that only reads the rows of one user, told by a parameter: it can be answered without being planned for execution.
#[derive(Debug)]
pub struct Direct {
    /// The table.
    pub table: Arc<dyn TableProvider>,
    /// The columns of the rows, by their places in the table.
    pub columns: Vec<usize>,
    /// The parameter that is the user, from 0.
    pub parameter: usize,
    /// The columns as the client is told of them.
    pub schema: SchemaRef,
}

/// The plans that are kept.
#[derive(Debug, Default)]
pub struct Plans {
    next: AtomicU64,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The catalog that all plans are of.
    catalog: u64,
    plans: HashMap<u64, (PlanStamp, LogicalPlan, Option<Arc<Direct>>)>,
}

impl Kept {
    /// Lets go of what an older catalog's plans hold.
    fn follow(&mut self, catalog: u64) {
        if self.catalog < catalog {
            self.catalog = catalog;
            self.plans.clear();
        }
    }
}

impl Plans {
    /// A place for the plan of one statement.
    pub fn slot(self: &Arc<Self>) -> PlanSlot {
        PlanSlot { number: self.next.fetch_add(1, Ordering::Relaxed), plans: Arc::downgrade(self) }
    }

    /// Lets go of the plans of a session.
    pub fn forget(&self, session: u32) {
        self.kept.lock().plans.retain(|_, (stamp, ..)| stamp.session != session);
    }

    /// Lets go of plans of an older catalog than that of `changes` changes.
    pub fn follow(&self, changes: u64) {
        self.kept.lock().follow(changes);
    }
}

/// The place of one statement's plan.
#[derive(Debug)]
pub struct PlanSlot {
    number: u64,
    plans: Weak<Plans>,
}

impl PlanSlot {
    /// The plan, if it was made with what is so now.
    pub fn take(&self, now: PlanStamp) -> Option<LogicalPlan> {
        let plans = self.plans.upgrade()?;
        let mut kept = plans.kept.lock();
        kept.follow(now.catalog);
        let (_, plan, _) = kept.plans.get(&self.number).filter(|(stamp, ..)| *stamp == now)?;
        Some(plan.clone())
    }

    /// As [`take`](Self::take), for a plan that reads the rows of one user.
    pub fn direct(&self, now: PlanStamp) -> Option<Arc<Direct>> {
        let plans = self.plans.upgrade()?;
        let mut kept = plans.kept.lock();
        kept.follow(now.catalog);
        let (_, _, direct) = kept.plans.get(&self.number).filter(|(stamp, ..)| *stamp == now)?;
        direct.clone()
    }

    /// Keeps a plan that was made with `stamp`.
    pub fn keep(&self, stamp: PlanStamp, plan: LogicalPlan, direct: Option<Direct>) {
        let Some(plans) = self.plans.upgrade() else { return };
        let mut kept = plans.kept.lock();
        kept.follow(stamp.catalog);
        let room = kept.plans.len() < PLANS_MAX || kept.plans.contains_key(&self.number);
        if room && kept.catalog == stamp.catalog {
            kept.plans.insert(self.number, (stamp, plan, direct.map(Arc::new)));
        }
    }
}

impl Drop for PlanSlot {
    fn drop(&mut self) {
        if let Some(plans) = self.plans.upgrade() {
            plans.kept.lock().plans.remove(&self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> LogicalPlan {
        datafusion::logical_expr::LogicalPlanBuilder::empty(false).build().unwrap()
    }

    #[test]
    fn a_plan_is_its_own_catalogs_and_sessions() {
        let plans = Arc::new(Plans::default());
        let (slot, other) = (plans.slot(), plans.slot());
        let now = PlanStamp { catalog: 3, session: 1, settings: 7, temporary: 0 };
        assert!(slot.take(now).is_none());
        slot.keep(now, plan(), None);
        assert!(slot.take(now).is_some() && other.take(now).is_none());
        assert!(slot.take(PlanStamp { settings: 8, ..now }).is_none());
        assert!(slot.take(PlanStamp { session: 2, ..now }).is_none());
        assert!(slot.take(PlanStamp { temporary: 1, ..now }).is_none());
        plans.forget(2);
        assert!(slot.take(now).is_some());
        plans.forget(1);
        assert!(slot.take(now).is_none() && plans.kept.lock().plans.is_empty());
        slot.keep(now, plan(), None);
        // A change of the catalog lets go of all plans; one that was begun before it is not kept.
        plans.follow(4);
        assert!(slot.take(now).is_none() && plans.kept.lock().plans.is_empty());
        slot.keep(now, plan(), None);
        assert!(plans.kept.lock().plans.is_empty());
        slot.keep(PlanStamp { catalog: 4, ..now }, plan(), None);
        assert_eq!(plans.kept.lock().plans.len(), 1);
        drop(slot);
        assert!(plans.kept.lock().plans.is_empty());
    }
}
