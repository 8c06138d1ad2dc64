//! The functions that a statement calls: which they are, and whether its role may.
//!
//! Names are looked at in the text as it was parsed, so that a function which the planner replaces is seen as well. What a view
//! calls is its owner's to call, like the tables that it reads.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::ast::{self, ObjectName, Visit, Visitor};
use portrait_udfs::error::Result;

use crate::catalog::{Object, ObjectClass, Privilege, Rights};

/// The name that a function has its privileges under; `None` for what is no function.
pub(super) fn canonical(state: &SessionState, name: &str) -> Option<String> {
    let name = name.to_lowercase();
    let scalar = || state.scalar_functions().get(&name).map(|found| found.name().to_owned());
    let aggregate = || state.aggregate_functions().get(&name).map(|found| found.name().to_owned());
    let window = || state.window_functions().get(&name).map(|found| found.name().to_owned());
    let table = || state.table_functions().get(&name).map(|found| found.name().to_owned());
    scalar().or_else(aggregate).or_else(window).or_else(table)
}

/// Every function, by that name.
pub(super) fn all(state: &SessionState) -> Vec<String> {
    let mut names: BTreeSet<String> = BTreeSet::new();
    names.extend(state.scalar_functions().values().map(|found| found.name().to_owned()));
    names.extend(state.aggregate_functions().values().map(|found| found.name().to_owned()));
    names.extend(state.window_functions().values().map(|found| found.name().to_owned()));
    names.extend(state.table_functions().values().map(|found| found.name().to_owned()));
    names.into_iter().collect()
}

/// Refuses a statement that calls a function which its role may not call.
///
/// # Errors
/// 42501 naming the function.
pub(super) fn check(rights: &Rights, state: &SessionState, statement: &ast::Statement) -> Result<()> {
    if !rights.restricts_functions() {
        return Ok(());
    }
    let mut found = Called::default();
    let _ = statement.visit(&mut found);
    for name in found.0 {
        let Some(name) = canonical(state, &name) else { continue };
        rights.require(Privilege::Execute, &Object::new(ObjectClass::Function, name))?;
    }
    Ok(())
}

/// Names that are called.
#[derive(Default)]
struct Called(BTreeSet<String>);

impl Called {
    fn add(&mut self, name: &ObjectName) {
        if let Some(ident) = name.0.last().and_then(|part| part.as_ident()) {
            self.0.insert(ident.value.to_lowercase());
        }
    }
}

impl Visitor for Called {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<()> {
        if let ast::Expr::Function(function) = expr {
            self.add(&function.name);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &ast::TableFactor) -> ControlFlow<()> {
        match factor {
            ast::TableFactor::Table { name, args: Some(_), .. } | ast::TableFactor::Function { name, .. } => self.add(name),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}
