//! PostgreSQL's dialect without a trap: reading nested calls takes linear time.
//!
//! sqlparser's own lets the name of a named argument be any expression, so it reads each argument twice, and a call
//! nested 40 deep 2⁴⁰ times. Here a name is an identifier, as in PostgreSQL.

use std::any::TypeId;

use datafusion::sql::sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};

/// The dialect of every text that a person writes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Postgres;

const INNER: PostgreSqlDialect = PostgreSqlDialect {};

/// Methods without arguments that are passed on.
macro_rules! as_in_postgres {
    ($($method:ident),* $(,)?) => {
        $(fn $method(&self) -> bool {
            INNER.$method()
        })*
    };
}

impl Dialect for Postgres {
    // What the parser does for this dialect by name, it does for us.
    fn dialect(&self) -> TypeId {
        INNER.dialect()
    }

    fn supports_named_fn_args_with_expr_name(&self) -> bool {
        false
    }

    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        INNER.identifier_quote_style(identifier)
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        INNER.is_delimited_identifier_start(ch)
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        INNER.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        INNER.is_identifier_part(ch)
    }

    fn is_reserved_for_identifier(&self, kw: Keyword) -> bool {
        INNER.is_reserved_for_identifier(kw)
    }

    fn is_custom_operator_part(&self, ch: char) -> bool {
        INNER.is_custom_operator_part(ch)
    }

    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        INNER.get_next_precedence(parser)
    }

    fn prec_value(&self, prec: Precedence) -> u8 {
        INNER.prec_value(prec)
    }

    as_in_postgres!(
        supports_unicode_string_literal,
        supports_filter_during_aggregation,
        supports_group_by_expr,
        allow_extract_custom,
        allow_extract_single_quotes,
        supports_create_index_with_clause,
        supports_explain_with_utility_options,
        supports_listen_notify,
        supports_factorial_operator,
        supports_bitwise_shift_operators,
        supports_comment_on,
        supports_load_extension,
        supports_named_fn_args_with_colon_operator,
        supports_empty_projections,
        supports_nested_comments,
        supports_string_escape_constant,
        supports_numeric_literal_underscores,
        supports_array_typedef_with_brackets,
        supports_geometric_types,
        supports_set_names,
        supports_alter_column_type_using,
        supports_notnull_operator,
        supports_interval_options,
        supports_insert_table_alias,
        supports_create_table_like_parenthesized,
        supports_select_wildcard_with_alias,
        supports_comma_separated_trim,
        supports_xml_expressions,
        supports_comment_optimizer_hint,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_calls_are_read_in_linear_time() {
        let text = format!("SELECT {}1{}", "abs(".repeat(40), ")".repeat(40));
        assert!(Parser::new(&Postgres).try_with_sql(&text).unwrap().parse_statements().is_ok());
    }

    #[test]
    fn reads_what_postgresql_reads() {
        for text in [
            "SELECT f(a, name => 'x', other := 1), 'a' || E'\\n', $$x$$, 1::int, ARRAY[1, 2], a -> 'b', a <-> b, x !~ 'y' FROM \"T\" WHERE a IS NOT NULL",
            "SELECT count(*) FILTER (WHERE a), EXTRACT('year' FROM b), INTERVAL '1 day' FROM t GROUP BY ROLLUP (a)",
        ] {
            let ours = Parser::new(&Postgres).try_with_sql(text).unwrap().parse_statements();
            let theirs = Parser::new(&INNER).try_with_sql(text).unwrap().parse_statements();
            assert_eq!(ours.map(|found| found[0].to_string()), theirs.map(|found| found[0].to_string()));
        }
    }
}
