//! Our functions as rows of `pg_proc`: what `\df` lists beside PostgreSQL's own.
//!
//! They live in `public`, where `search_path` finds them; what they say of themselves in the reference is their comment.
//! A call in `FROM` is a set-returning function; a function of many shapes shows `any` where the result depends on the
//! arguments.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{Documentation, Signature, Volatility};
use portrait_udfs::functions::reference::signature;
use portrait_udfs::functions::register::{aggregates, documentation, relations, scalars, windows};

use super::super::types::data_type;
use super::cells::{Row, row};
use super::snapshot::{SUPERUSER_OID, named_oid, schema_oid};
use super::types::format_type;
use crate::engine::Engine;

const INTERNAL_LANGUAGE: i32 = 12;
const RECORD: i32 = 2249;
const ANY: i32 = 2276;

/// One function.
#[derive(Debug, Clone)]
pub(super) struct Procedure {
    pub(super) oid: i32,
    pub(super) name: String,
    /// `f` function, `a` aggregate, `w` window function.
    kind: &'static str,
    returns_set: bool,
    volatility: &'static str,
    pub(super) arguments: String,
    /// The OID of the result's type.
    result: i32,
    pub(super) description: Option<String>,
}

impl Procedure {
    /// As `pg_get_function_result` spells it.
    pub(super) fn result(&self) -> String {
        let name = if self.result == ANY { "\"any\"".to_owned() } else { format_type(self.result.into(), None).unwrap_or_default() };
        if self.returns_set { format!("SETOF {name}") } else { name }
    }
}

/// Every function of ours, by name. The first caller makes the list.
pub(super) fn procedures(engine: &Engine) -> &'static [Procedure] {
    static PROCEDURES: OnceLock<Vec<Procedure>> = OnceLock::new();
    PROCEDURES.get_or_init(|| list(engine))
}

fn list(engine: &Engine) -> Vec<Procedure> {
    let pages = documentation(engine.ml());
    let mut found: BTreeMap<String, Procedure> = BTreeMap::new();
    let mut add = |procedure: Procedure| found.insert(procedure.name.clone(), procedure);
    for relation in relations() {
        let arguments = inside(&signature(relation.name(), relation.parameters()));
        // What a relation does is told at its call; a training changes the registry.
        let of = Procedure {
            returns_set: true,
            result: RECORD,
            arguments,
            description: Some(relation.doc().to_owned()),
            ..Procedure::new(relation.name(), "f")
        };
        add(Procedure { volatility: "v", ..of });
    }
    for function in scalars(engine.ml()) {
        add(Procedure::documented(function.name(), "f", &pages).typed(function.signature(), |types| function.return_type(types)));
    }
    for function in aggregates() {
        add(Procedure::documented(function.name(), "a", &pages).typed(function.signature(), |types| function.return_type(types)));
    }
    for function in windows() {
        add(Procedure::documented(function.name(), "w", &pages).typed(function.signature(), |_| Ok(DataType::Int64)));
    }
    found.into_values().collect()
}

impl Procedure {
    fn new(name: &str, kind: &'static str) -> Self {
        Self {
            oid: named_oid("function", name),
            name: name.to_owned(),
            kind,
            returns_set: false,
            volatility: "i",
            arguments: String::new(),
            result: ANY,
            description: None,
        }
    }

    fn documented(name: &str, kind: &'static str, pages: &BTreeMap<String, Documentation>) -> Self {
        let page = pages.get(name);
        let arguments = page.map_or_else(String::new, |page| inside(&page.syntax_example));
        Self { arguments, description: page.map(|page| page.description.trim().to_owned()), ..Self::new(name, kind) }
    }

    /// The result for the first list of types that the function takes.
    fn typed(self, signature: &Signature, result: impl Fn(&[DataType]) -> Result<DataType>) -> Self {
        let result = signature.type_signature.get_example_types().iter().find_map(|types| result(types).ok());
        let result = result.map_or(ANY, |found| data_type(&found).oid() as i32);
        let volatility = match signature.volatility {
            Volatility::Immutable => "i",
            Volatility::Stable => "s",
            Volatility::Volatile => "v",
        };
        Self { result, volatility, ..self }
    }

    fn row(&self) -> Row {
        row! {
            oid: self.oid, proname: self.name.clone(), pronamespace: schema_oid("public"), proowner: SUPERUSER_OID,
            prolang: INTERNAL_LANGUAGE, procost: 1, prorows: if self.returns_set { 1000 } else { 0 }, prokind: self.kind,
            prosecdef: false, proleakproof: false, proisstrict: false, proretset: self.returns_set, provolatile: self.volatility,
            proparallel: "s", pronargs: 0, prorettype: self.result, proargtypes: "", prosrc: self.name.clone(),
        }
    }
}

/// `pg_proc` with PostgreSQL's own functions and ours.
pub(super) fn rows(engine: &Engine) -> Vec<Row> {
    let ours = procedures(engine).iter().map(Procedure::row);
    super::definitions::fixed_rows("pg_proc").iter().cloned().chain(ours).collect()
}

/// The function with an OID.
pub(super) fn find(engine: &Engine, oid: i64) -> Option<&'static Procedure> {
    procedures(engine).iter().find(|procedure| i64::from(procedure.oid) == oid)
}

/// What stands between the parentheses of a call.
fn inside(call: &str) -> String {
    let Some((_, rest)) = call.split_once('(') else { return String::new() };
    let mut depth = 1_usize;
    let end = rest.char_indices().find(|(_, letter)| {
        depth = match letter {
            '(' => depth + 1,
            ')' => depth - 1,
            _ => depth,
        };
        depth == 0
    });
    rest[..end.map_or(rest.len(), |(end, _)| end)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_end_with_their_parenthesis() {
        assert_eq!(inside("sessionize(ts, gap [, longest]) OVER (PARTITION BY user)"), "ts, gap [, longest]");
        assert_eq!(inside("f(source, periods => ARRAY[1], of => g(x))"), "source, periods => ARRAY[1], of => g(x)");
        assert_eq!(inside("f"), "");
    }
}
