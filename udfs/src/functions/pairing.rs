//! Which nodes of a plan may decide for themselves which rows go into which stream.

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;

type Node = Arc<dyn ExecutionPlan>;

/// A node's own type.
pub(super) fn downcast<T: 'static>(node: &Node) -> Option<&T> {
    let any: &dyn std::any::Any = node.as_ref();
    any.downcast_ref()
}

/// Replaces nodes from the leaves up. `replace` is told whether a node above takes the n-th stream of this one together with the
/// n-th of another: then rows must stay in the streams that their hash says.
pub(super) fn replaced(plan: Node, replace: &dyn Fn(Node, bool) -> Result<Node>) -> Result<Node> {
    below(plan, false, replace)
}

fn below(node: Node, paired: bool, replace: &dyn Fn(Node, bool) -> Result<Node>) -> Result<Node> {
    let children: Vec<Node> = node.children().into_iter().cloned().collect();
    let sends = downcast::<RepartitionExec>(&node).is_some()
        || downcast::<CoalescePartitionsExec>(&node).is_some()
        || downcast::<SortPreservingMergeExec>(&node).is_some();
    let of_children = children.len() > 1 || (paired && !sends);
    let new = children.iter().map(|child| below(Arc::clone(child), of_children, replace)).collect::<Result<Vec<_>>>()?;
    let same = children.iter().zip(&new).all(|(old, new)| Arc::ptr_eq(old, new));
    replace(if same { node } else { replace_children_if_necessary(node, new)? }, paired)
}
