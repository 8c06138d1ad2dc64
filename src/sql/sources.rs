//! Temporary tables as sources of functions, called by their schema.
//!
//! A model keeps the query that it learned from, and whoever reads it later (a score, an erasure, a retraining) must not find another
//! table of the same name by it: `'visits'` becomes `(SELECT * FROM pg_temp.visits AS visits)` where `visits` is temporary.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{self, Ident, ObjectName, ObjectNamePart, Query, TableAlias, TableFactor, VisitMut, VisitorMut};
use portrait_udfs::error::Result;

use super::plan::prepare_statement;
use super::support::fold;
use crate::catalog::OWN_SCHEMA;
use crate::engine::OwnTables;

/// Names the schema of the temporary tables in a statement that calls functions in `FROM`.
///
/// # Errors
/// As [`prepare_statement`].
pub(super) fn qualify(tables: &OwnTables, statement: &mut ast::Statement) -> Result<()> {
    if !tables.tables().is_used() {
        return Ok(());
    }
    let mut seen = Seen::default();
    let _ = ast::Visit::visit(statement, &mut seen);
    if seen.calls {
        // Names of sources become queries first; their texts are made again when this is done once more.
        prepare_statement(statement)?;
        let _ = statement.visit(&mut Qualify { tables, own: seen.own });
    }
    Ok(())
}

/// Names of common table expressions, and whether functions are called in `FROM`.
#[derive(Default)]
struct Seen {
    own: BTreeSet<String>,
    calls: bool,
}

impl ast::Visitor for Seen {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let tables = query.with.iter().flat_map(|with| &with.cte_tables);
        self.own.extend(tables.map(|table| fold(&table.alias.name)));
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        self.calls |= matches!(factor, TableFactor::Table { args: Some(_), .. });
        ControlFlow::Continue(())
    }
}

struct Qualify<'a> {
    tables: &'a OwnTables,
    own: BTreeSet<String>,
}

impl VisitorMut for Qualify<'_> {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, args: None, alias, .. } = factor
            && let [ObjectNamePart::Identifier(ident)] = name.0.as_slice()
        {
            let bare = fold(ident);
            if self.tables.finds(&bare) && !self.own.contains(&bare) {
                let quoted = Ident::with_quote('"', bare);
                let named = || TableAlias { explicit: true, name: quoted.clone(), columns: Vec::new(), at: None };
                alias.get_or_insert_with(named);
                *name = ObjectName(vec![ObjectNamePart::Identifier(Ident::new(OWN_SCHEMA)), ObjectNamePart::Identifier(quoted)]);
            }
        }
        ControlFlow::Continue(())
    }
}
