//! What a package of functions offers to a session; [`super::register`] composes the packages.

use std::sync::Arc;

use datafusion::logical_expr::{AggregateUDF, ScalarUDF, WindowUDF};

use super::relation::MlRelation;

/// The functions of one package, by how SQL calls them.
#[derive(Debug, Default)]
pub struct Package {
    /// One value for one row.
    pub scalars: Vec<Arc<ScalarUDF>>,
    /// One value for a group.
    pub aggregates: Vec<Arc<AggregateUDF>>,
    /// One value for a row among the rows of its partition.
    pub windows: Vec<Arc<WindowUDF>>,
    /// Rows, in `FROM`.
    pub relations: Vec<Arc<dyn MlRelation>>,
}
