//! Which views read a relation, by the text of their queries: what `DROP` would break.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, ObjectName, Query, Statement, TableFactor, Value, Visit, Visitor,
};

use super::support::{fold, relation_name};
use crate::catalog::{Catalog, ObjectKind, TableInfo};

/// A view, and the relation because of which it goes.
pub(super) struct Dependent {
    pub(super) view: TableInfo,
    pub(super) on: String,
    pub(super) on_kind: ObjectKind,
}

/// The views that read one of `names`, or a view that does; those that read others come after them.
pub(super) fn dependents(catalog: &Catalog, names: &[String]) -> Vec<Dependent> {
    let mut others: Vec<(TableInfo, BTreeSet<String>)> = catalog
        .list()
        .into_iter()
        .filter(|found| matches!(found.kind, ObjectKind::View | ObjectKind::MaterializedView) && !names.contains(&found.name))
        .filter_map(|found| {
            // A query that cannot be read any more depends on nothing.
            let read = read_by(&super::parse_query(found.definition.as_deref()?).ok()?);
            Some((found, read))
        })
        .collect();
    let mut gone: Vec<(String, ObjectKind)> = names.iter().filter_map(|name| Some((name.clone(), catalog.describe(name)?.kind))).collect();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some((on, on_kind)) = gone.get(at).cloned() {
        let (reading, rest): (Vec<_>, Vec<_>) = others.into_iter().partition(|(_, read)| read.contains(&on));
        others = rest;
        for (view, _) in reading {
            gone.push((view.name.clone(), view.kind));
            found.push(Dependent { view, on: on.clone(), on_kind });
        }
        at += 1;
    }
    found
}

/// The relations of schema `public` that a query names, also in the arguments of table functions.
fn read_by(statement: &Statement) -> BTreeSet<String> {
    struct Names {
        own: BTreeSet<String>,
        found: BTreeSet<String>,
    }
    impl Visitor for Names {
        type Break = ();

        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
            let tables = query.with.iter().flat_map(|with| &with.cte_tables);
            self.own.extend(tables.map(|table| fold(&table.alias.name)));
            ControlFlow::Continue(())
        }

        fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
            self.found.extend(relation_name(relation));
            ControlFlow::Continue(())
        }

        fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
            if let TableFactor::Table { args: Some(arguments), .. } = factor {
                let text = |argument: &FunctionArg| match argument {
                    FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))
                    | FunctionArg::Named { arg: FunctionArgExpr::Expr(Expr::Value(value)), .. } => match &value.value {
                        Value::SingleQuotedString(text) => Some(text.to_lowercase()),
                        _ => None,
                    },
                    _ => None,
                };
                self.found.extend(arguments.args.iter().filter_map(text));
            }
            ControlFlow::Continue(())
        }
    }
    let mut names = Names { own: BTreeSet::new(), found: BTreeSet::new() };
    let _ = statement.visit(&mut names);
    names.found.difference(&names.own).cloned().collect()
}
