//! What drivers ask of types that they do not know, in words that the planner cannot read: the same question in words that it can.

use datafusion::sql::sqlparser::ast::{Query, SetExpr, Statement, TableFactor};
use datafusion::sql::sqlparser::parser::Parser;

use portrait_udfs::functions::dialect::Postgres;

/// What asyncpg asks of types that it does not know, without the recursion: an array comes with its element. (Domains
/// and composite types, which are why it recurses, are not types of ours.)
const TYPES_AND_THEIR_ELEMENTS: &str = "\
    SELECT t.oid AS oid, ns.nspname AS ns, t.typname AS name, t.typtype AS kind, CAST(NULL AS INT) AS basetype, t.typelem AS elemtype, \
      elem_t.typdelim AS elemdelim, range_t.rngsubtype AS range_subtype, CAST(NULL AS TEXT[]) AS attrtypoids, \
      CAST(NULL AS TEXT[]) AS attrnames, CASE WHEN t.oid = ANY($1) THEN 0 ELSE 1 END AS depth, \
      CAST(NULL AS TEXT) AS basetype_name, format_type(t.typelem, NULL) AS elemtype_name, \
      format_type(range_t.rngsubtype, NULL) AS range_subtype_name \
    FROM pg_catalog.pg_type t \
      JOIN pg_catalog.pg_namespace ns ON ns.oid = t.typnamespace \
      LEFT JOIN pg_catalog.pg_type elem_t ON t.typelem <> 0 AND t.typelem = elem_t.oid \
      LEFT JOIN pg_catalog.pg_range range_t ON t.oid = range_t.rngtypid \
    WHERE t.oid = ANY($1) OR t.oid IN (SELECT e.typelem FROM pg_catalog.pg_type e WHERE e.oid = ANY($1)) \
    ORDER BY depth DESC";

/// What sqlx asks, with the list of names and OIDs in its middle. No type has labels or attributes here.
const TYPES_BY_NAME_OR_OID: [&str; 2] = [
    "SELECT t.oid AS oid, format_type(t.oid, NULL) AS pretty_name, t.typname AS catalog_name, lookup.original_name AS original_name, \
       t.typtype AS typtype, t.typcategory AS typcategory, elem_t.oid AS typelem, CAST(NULL AS INT) AS typbasetype, \
       range_t.rngsubtype AS rngsubtype, CAST(ARRAY[] AS TEXT[]) AS enum_labels, no_records() AS record_attributes \
     FROM (SELECT DISTINCT ON (lookup_oid) original_name, lookup_oid FROM (",
    ") AS lookup_inner(original_name, lookup_oid) ORDER BY lookup_oid) AS lookup \
       JOIN pg_catalog.pg_type t ON lookup.lookup_oid = t.oid \
       LEFT JOIN pg_catalog.pg_type elem_t ON t.typelem <> 0 AND t.typelem = elem_t.oid \
       LEFT JOIN pg_catalog.pg_range range_t ON t.oid = range_t.rngtypid",
];

/// What sqlx asks for the names of the columns behind a result's: arrays of rows, which are no values of ours. It goes without.
const COLUMNS_BY_TABLE: &str = "\
    SELECT attrelid AS table_oid, CAST(NULL AS TEXT) AS table_name, no_records() AS columns FROM pg_catalog.pg_attribute WHERE false";

/// The question in other words, if it is one of these.
pub(super) fn known(statement: &Statement) -> Option<Statement> {
    let text = if is_of_asyncpg(statement) {
        TYPES_AND_THEIR_ELEMENTS.to_owned()
    } else if asks_for_columns(statement) {
        COLUMNS_BY_TABLE.to_owned()
    } else {
        let [before, after] = TYPES_BY_NAME_OR_OID;
        format!("{before}{}{after}", looked_up_by_sqlx(statement)?)
    };
    Parser::parse_sql(&Postgres, &text).ok()?.pop()
}

fn is_of_asyncpg(statement: &Statement) -> bool {
    let Statement::Query(query) = statement else { return false };
    let with = query.with.as_ref().filter(|with| with.recursive);
    with.and_then(|with| with.cte_tables.first()).is_some_and(|table| {
        let columns = table.alias.columns.iter().map(|column| column.name.value.as_str());
        table.alias.name.value == "typeinfo_tree"
            && columns.eq([
                "oid",
                "ns",
                "name",
                "kind",
                "basetype",
                "elemtype",
                "elemdelim",
                "range_subtype",
                "attrtypoids",
                "attrnames",
                "depth",
            ])
    })
}

fn asks_for_columns(statement: &Statement) -> bool {
    let Statement::Query(query) = statement else { return false };
    let SetExpr::Select(select) = query.body.as_ref() else { return false };
    let Some(TableFactor::Derived { alias: Some(alias), .. }) = select.from.first().map(|from| &from.relation) else { return false };
    let columns = alias.columns.iter().map(|column| column.name.value.as_str());
    alias.name.value == "lookup" && columns.eq(["table_oid", "attribute_num"]) && subquery_of(query, "lookup").is_some()
}

/// The list of names and OIDs that sqlx looks up.
fn looked_up_by_sqlx(statement: &Statement) -> Option<&Query> {
    let Statement::Query(query) = statement else { return None };
    let named = subquery_of(query, "type_lookup")?;
    let list = subquery_of(named, "lookup_inner")?;
    matches!(list.body.as_ref(), SetExpr::Values(_)).then_some(list)
}

/// The subquery that comes first in FROM, if it has that name.
fn subquery_of<'a>(query: &'a Query, name: &str) -> Option<&'a Query> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    match &select.from.first()?.relation {
        TableFactor::Derived { subquery, alias: Some(alias), .. } if alias.name.value == name => Some(subquery),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As sqlx 0.9 words it.
    const OF_SQLX: &str = "SELECT pg_type.oid, pg_type.oid::regtype::text pretty_name, typname catalog_name, original_name, typtype, typcategory, \
        NULLIF(typelem, 0::oid) typelem, NULLIF(typbasetype, 0::oid) typbasetype, rngsubtype, \
        COALESCE((SELECT array_agg(enumlabel) FROM (SELECT * FROM pg_catalog.pg_enum WHERE enumtypid = pg_type.oid \
          ORDER BY enumsortorder) labels), '{}') enum_labels, \
        COALESCE((SELECT array_agg((attname, atttypid)) FROM (SELECT * FROM pg_catalog.pg_attribute WHERE attrelid = pg_type.typrelid \
          AND NOT attisdropped AND attnum > 0 ORDER BY attnum) attributes), '{}') record_attributes \
        FROM (SELECT DISTINCT ON(lookup_oid) original_name, lookup_oid FROM (VALUES (E'vector', to_regtype(E'vector')::oid), (NULL, 705)) \
          lookup_inner(original_name, lookup_oid) ORDER BY lookup_oid) type_lookup \
        INNER JOIN pg_catalog.pg_type ON type_lookup.lookup_oid = pg_type.oid \
        LEFT JOIN pg_catalog.pg_range ON pg_type.oid = pg_range.rngtypid";

    fn parsed(text: &str) -> Statement {
        Parser::parse_sql(&Postgres, text).unwrap().pop().unwrap()
    }

    #[test]
    fn the_list_is_kept() {
        let known = known(&parsed(OF_SQLX)).unwrap().to_string();
        assert!(known.contains("VALUES (E'vector', to_regtype(E'vector')::oid), (NULL, 705)"), "{known}");
        assert!(known.contains("no_records()"), "{known}");
    }

    #[test]
    fn the_names_of_columns_are_not_asked_for() {
        let asked = "SELECT attrelid table_oid, attrelid::regclass::text table_name, array_agg(ROW(attnum, attname)) AS columns \
            FROM (VALUES (16384, 1), (16384, 2)) lookup(table_oid, attribute_num) INNER JOIN pg_catalog.pg_attribute \
            ON lookup.table_oid = attrelid AND lookup.attribute_num = attnum GROUP BY attrelid";
        assert!(known(&parsed(asked)).unwrap().to_string().contains("WHERE false"));
    }

    #[test]
    fn other_statements_are_left_alone() {
        for text in ["SELECT 1", "SELECT * FROM (SELECT 1) type_lookup", "SELECT * FROM t type_lookup", "INSERT INTO t VALUES (1)"] {
            assert!(known(&parsed(text)).is_none(), "{text}");
        }
    }
}
