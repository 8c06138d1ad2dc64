//! Training and what one looks at before it.

use std::sync::Arc;

use crate::functions::relation::MlRelation;

pub mod describe_events;

/// The functions of this family.
pub fn relations() -> Vec<Arc<dyn MlRelation>> {
    vec![Arc::new(describe_events::DescribeEvents)]
}
