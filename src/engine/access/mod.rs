//! What a role is let through to: the engine's gate between statements and the catalog.
//!
//! Every name of a query is looked up through a [`gate`] of the session, whatever the query is wrapped in (a view of the role's
//! own, a subquery, EXPLAIN, COPY, a cursor, a training). Whoever sees a table as it is gets the table itself, so that nothing is
//! lost where nothing is hidden; everybody else gets a [`secured`] one: it checks the columns that a scan reads, applies row
//! policies and masks below a barrier that no filter, projection or dynamic filter of the query crosses, and keeps the
//! conditions of policies out of EXPLAIN. A view with `security_barrier` is kept behind the same barrier. [`models`], [`files`]
//! and [`functions`] ask the same catalog for models, server files and functions.
//!
//! Life of a scan: `gate` → [`Rights::table`](crate::catalog::Rights::table) → `Secured` in the logical plan → its `scan` checks
//! columns, has the policies planned over the table ([`ViewPlanner::plan_over`](crate::catalog::ViewPlanner::plan_over)), and
//! wraps the result in a node without children. Must never know: the protocol, the text of the statement.

mod barrier;
mod files;
mod gate;
mod models;
mod new_rows;
mod secured;
mod temporary;

pub(super) use files::RoleFiles;
pub(super) use gate::Gate;
pub(super) use models::ModelRights;
pub use new_rows::NewRows;
pub(super) use temporary::TemporarySchema;
