//! Where the columns of a result come from: a column that is one of a relation's says so to the client, which shows tables by
//! name, and edits their rows, by it.
//!
//! As in PostgreSQL a column keeps its origin through subqueries, joins, conditions and groups; a column of a view is the view's;
//! whatever is computed, and what set operations give, comes from nowhere. The plan tells all of it but which names stand for
//! views: that the text of the statement tells.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::{DFSchema, JoinType, TableReference};
use datafusion::logical_expr::{Aggregate, Distinct, Expr, Join, LogicalPlan, TableScan};
use datafusion::sql::sqlparser::ast::{Query, Statement, TableFactor, Visit, Visitor};

use super::support::fold;
use crate::catalog::{ObjectKind, PUBLIC, TableInfo};
use crate::engine::Running;

/// Field metadata that says which column of which relation a column is: OID, a dot, and its number from 1.
const ORIGIN_KEY: &str = "pg.origin";

/// A relation's OID, and a column's number from 1.
type Origin = (u32, usize);

/// The columns of the rows of `plan`, `shown` to the client, with their origins. `statement` is what was planned.
pub(super) fn mark(running: &Running, statement: &Statement, plan: &LogicalPlan, shown: &Schema) -> SchemaRef {
    let mut given = Given::default();
    let _ = statement.visit(&mut given);
    let found = Relations { running, given: given.0 }.of(plan);
    let mark = |(field, origin): (&Arc<Field>, Option<Origin>)| match origin {
        Some((oid, number)) => {
            let mut metadata = field.metadata().clone();
            metadata.insert(ORIGIN_KEY.to_owned(), format!("{oid}.{number}"));
            Arc::new(field.as_ref().clone().with_metadata(metadata))
        }
        None => Arc::clone(field),
    };
    let fields: Vec<_> = shown.fields().iter().zip(found).map(mark).collect();
    Arc::new(Schema::new_with_metadata(fields, shown.metadata().clone()))
}

/// The relation that a column of a result is of, and its number there.
pub fn origin(field: &Field) -> Option<(u32, i16)> {
    let (oid, number) = field.metadata().get(ORIGIN_KEY)?.split_once('.')?;
    Some((oid.parse().ok()?, number.parse().ok()?))
}

/// The names that a statement itself gives to what it reads: such a name stands for no view.
#[derive(Default)]
struct Given(HashSet<String>);

impl Visitor for Given {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let tables = query.with.iter().flat_map(|with| &with.cte_tables);
        self.0.extend(tables.map(|table| fold(&table.alias.name)));
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        let (TableFactor::Table { alias, .. } | TableFactor::Derived { alias, .. } | TableFactor::NestedJoin { alias, .. }) = factor else {
            return ControlFlow::Continue(());
        };
        self.0.extend(alias.iter().map(|alias| fold(&alias.name)));
        ControlFlow::Continue(())
    }
}

/// What names of relations stand for.
struct Relations<'a> {
    running: &'a Running,
    given: HashSet<String>,
}

impl Relations<'_> {
    /// The origins of a plan's columns, one for each.
    fn of(&self, plan: &LogicalPlan) -> Vec<Option<Origin>> {
        match plan {
            LogicalPlan::TableScan(scan) => self.of_scan(scan),
            LogicalPlan::SubqueryAlias(alias) => match self.view(&alias.alias) {
                Some(view) => (1..=alias.schema.fields().len()).map(|number| Some((view.oid, number))).collect(),
                None => self.of(&alias.input),
            },
            LogicalPlan::Projection(projection) => self.chosen(&projection.expr, &projection.input),
            LogicalPlan::Distinct(Distinct::On(distinct)) => self.chosen(&distinct.select_expr, &distinct.input),
            LogicalPlan::Aggregate(aggregate) => self.of_groups(aggregate),
            LogicalPlan::Window(window) => {
                let computed = window.window_expr.iter().map(|_| None);
                self.of(&window.input).into_iter().chain(computed).collect()
            }
            LogicalPlan::Join(join) => self.of_join(join),
            LogicalPlan::Filter(_)
            | LogicalPlan::Sort(_)
            | LogicalPlan::Limit(_)
            | LogicalPlan::Repartition(_)
            | LogicalPlan::Distinct(Distinct::All(_)) => plan.inputs().first().map_or_else(Vec::new, |input| self.of(input)),
            other => vec![None; other.schema().fields().len()],
        }
    }

    fn of_scan(&self, scan: &TableScan) -> Vec<Option<Origin>> {
        let count = scan.projected_schema.fields().len();
        let Some(found) = self.relation(&scan.table_name) else { return vec![None; count] };
        let whole = scan.source.schema();
        // A relation of that name in another schema may have been meant: it has other columns.
        let same = whole.fields().iter().zip(found.schema.fields()).all(|(read, kept)| read.name() == kept.name());
        if !same || whole.fields().len() != found.schema.fields().len() {
            return vec![None; count];
        }
        match &scan.projection {
            Some(columns) => columns.iter().map(|column| Some((found.oid, column + 1))).collect(),
            None => (1..=count).map(|number| Some((found.oid, number))).collect(),
        }
    }

    fn chosen(&self, exprs: &[Expr], input: &LogicalPlan) -> Vec<Option<Origin>> {
        let origins = self.of(input);
        exprs.iter().map(|expr| column(expr, input.schema()).and_then(|at| origins.get(at).copied().flatten())).collect()
    }

    fn of_groups(&self, aggregate: &Aggregate) -> Vec<Option<Origin>> {
        let count = aggregate.schema.fields().len();
        // Sets of groups have columns of their own.
        if matches!(aggregate.group_expr.as_slice(), [Expr::GroupingSet(_)]) {
            return vec![None; count];
        }
        let mut found = self.chosen(&aggregate.group_expr, &aggregate.input);
        found.resize(count, None);
        found
    }

    fn of_join(&self, join: &Join) -> Vec<Option<Origin>> {
        let mut found = match join.join_type {
            JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => self.of(&join.right),
            JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => self.of(&join.left),
            _ => [self.of(&join.left), self.of(&join.right)].concat(),
        };
        found.resize(join.schema.fields().len(), None);
        found
    }

    /// The view that a name stands for.
    fn view(&self, name: &TableReference) -> Option<TableInfo> {
        if self.given.contains(name.table()) {
            return None;
        }
        self.relation(name).filter(|found| found.kind == ObjectKind::View)
    }

    /// What a name stands for: a temporary table before others, unless it names their schema.
    fn relation(&self, name: &TableReference) -> Option<TableInfo> {
        let (own, table) = (self.running.own_tables(), name.table());
        match name.schema() {
            None if own.finds(table) => own.tables().describe(table),
            Some(schema) if own.tables().is_schema(schema) => own.tables().describe(table),
            None | Some(PUBLIC) => self.running.engine().catalog().describe(table),
            Some(_) => None,
        }
    }
}

/// Where the column that an expression only passes on stands.
fn column(expr: &Expr, schema: &DFSchema) -> Option<usize> {
    match expr {
        Expr::Alias(alias) => column(&alias.expr, schema),
        Expr::Column(column) => schema.maybe_index_of_column(column),
        _ => None,
    }
}
