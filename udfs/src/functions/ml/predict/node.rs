//! The logical node: its input's columns, then one column per question about one group.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::{DFSchema, DFSchemaRef, Result};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};

use super::call::{Group, Needs, Question, Subject};

/// Columns that the rule adds begin with this; nothing else may.
pub(crate) const PREFIX: &str = "__predict:";

/// One answer and the column that holds it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub(crate) struct Output {
    pub(crate) column: String,
    pub(crate) question: Question,
}

impl Output {
    pub(crate) fn data_type(&self) -> DataType {
        match self.question {
            Question::Intent => DataType::Utf8,
            Question::Probability(_) | Question::Value => DataType::Float64,
            Question::Embedding { .. } => DataType::new_list(DataType::Float32, true),
        }
    }
}

/// See the module's header.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Predict {
    pub(crate) group: Group,
    pub(crate) outputs: Vec<Output>,
    /// What all nodes of the statement that use this version want, so that they can share forward passes.
    pub(crate) needs: Needs,
    pub(crate) input: LogicalPlan,
    schema: DFSchemaRef,
}

impl Predict {
    pub(crate) fn try_new(group: Group, outputs: Vec<Output>, needs: Needs, input: LogicalPlan) -> Result<Self> {
        let mut fields: Vec<_> = input.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field))).collect();
        for output in &outputs {
            fields.push((None, Arc::new(Field::new(&output.column, output.data_type(), true))));
        }
        let metadata = input.schema().metadata().clone();
        let schema = Arc::new(DFSchema::new_with_metadata(fields, metadata)?);
        let mut all = needs;
        outputs.iter().for_each(|output| all.add(&output.question));
        Ok(Self { group, outputs, needs: all, input, schema })
    }

    pub(crate) fn into_plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(self) })
    }

    /// The node inside `plan`, if `plan` is one.
    pub(crate) fn of(plan: &LogicalPlan) -> Option<&Self> {
        match plan {
            LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref::<Self>(),
            _ => None,
        }
    }
}

impl PartialOrd for Predict {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.group.partial_cmp(&other.group) {
            Some(Ordering::Equal) => {}
            unequal => return unequal,
        }
        match self.outputs.partial_cmp(&other.outputs) {
            Some(Ordering::Equal) => self.input.partial_cmp(&other.input),
            unequal => unequal,
        }
    }
}

impl UserDefinedLogicalNodeCore for Predict {
    fn name(&self) -> &'static str {
        "Predict"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        let mut all = self.group.expressions();
        all.extend(self.outputs.iter().filter_map(|output| match &output.question {
            Question::Probability(class) => Some(class.clone()),
            _ => None,
        }));
        all
    }

    /// Filters on the input's own columns sink below, so that fewer users are scored.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        self.outputs.iter().map(|output| output.column.clone()).collect()
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let columns = self.input.schema().fields().len();
        let mut needed: Vec<usize> = output_columns.iter().copied().filter(|index| *index < columns).collect();
        for expr in self.expressions() {
            for column in expr.column_refs() {
                needed.push(self.input.schema().index_of_column(column).ok()?);
            }
        }
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }

    fn supports_limit_pushdown(&self) -> bool {
        true
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Predict: model={}", self.group.model)?;
        match &self.group.subject {
            Subject::User(user) => write!(f, ", user={user}")?,
            Subject::Row(row) => write!(f, ", row={row}")?,
            Subject::Sequence { events, .. } => write!(f, ", events={events}")?,
        }
        if let Some(as_of) = &self.group.as_of {
            write!(f, ", as_of={as_of}")?;
        }
        let answers: Vec<String> = self.outputs.iter().map(|output| output.question.to_string()).collect();
        write!(f, ", answers=[{}]", answers.join(", "))
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let mut exprs = exprs.into_iter();
        let group = self.group.with_expressions(&mut exprs)?;
        let outputs = self
            .outputs
            .iter()
            .map(|output| {
                let question = match &output.question {
                    // The class keeps its meaning when a pass of the planner wraps it in an alias.
                    Question::Probability(class) => Question::Probability(exprs.next().unwrap_or_else(|| class.clone()).unalias()),
                    other => other.clone(),
                };
                Output { column: output.column.clone(), question }
            })
            .collect();
        Self::try_new(group, outputs, self.needs.clone(), inputs.swap_remove(0))
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Intent => f.write_str("intent"),
            Self::Probability(class) => write!(f, "probability({class})"),
            Self::Value => f.write_str("value"),
            Self::Embedding { normalize: true } => f.write_str("embedding"),
            Self::Embedding { normalize: false } => f.write_str("embedding(raw)"),
        }
    }
}
