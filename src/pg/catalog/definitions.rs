//! The relations of PostgreSQL 15's system schemas, and the rows that are the same on every server.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::super::types::TYPE_KEY;
use super::cells::{Cell, Row};

/// The type of a catalog column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ColumnKind {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Timestamptz,
    Text,
    Name,
    Char,
    Oid,
    /// The OID of a function, shown as its name.
    Regproc,
    Int2Vector,
    OidVector,
    Texts,
    Names,
    SmallInts,
    Ints,
    Oids,
}

impl ColumnKind {
    fn parse(text: &str) -> Self {
        match text {
            "bool" => Self::Bool,
            "int2" => Self::Int2,
            "int4" => Self::Int4,
            "int8" => Self::Int8,
            "float4" => Self::Float4,
            "float8" => Self::Float8,
            "timestamptz" => Self::Timestamptz,
            "name" => Self::Name,
            "char" => Self::Char,
            "oid" => Self::Oid,
            "regproc" => Self::Regproc,
            "int2vector" => Self::Int2Vector,
            "oidvector" => Self::OidVector,
            "text[]" | "char[]" => Self::Texts,
            "name[]" => Self::Names,
            "oid[]" => Self::Oids,
            "int2[]" => Self::SmallInts,
            array if array.ends_with("[]") => Self::Ints,
            _ => Self::Text,
        }
    }

    /// What stands in a column that has no NULLs when nothing is said.
    pub(super) fn zero(self) -> Cell {
        match self {
            Self::Bool => Cell::Bool(false),
            Self::Int2 | Self::Int4 | Self::Int8 | Self::Float4 | Self::Float8 | Self::Timestamptz | Self::Oid | Self::Regproc => {
                Cell::Int(0)
            }
            Self::Texts | Self::Names => Cell::Texts(Vec::new()),
            Self::Text | Self::Name | Self::Char | Self::Int2Vector | Self::OidVector => Cell::from(""),
            Self::SmallInts | Self::Ints | Self::Oids => Cell::Null,
        }
    }

    /// As a column: the Arrow type, and the PostgreSQL type where that says more.
    fn field(self, name: &str) -> Field {
        let list = |item| DataType::List(Arc::new(Field::new_list_field(item, true)));
        let (arrow, postgres) = match self {
            Self::Bool => (DataType::Boolean, None),
            Self::Int2 => (DataType::Int16, None),
            Self::Int4 => (DataType::Int32, None),
            Self::Int8 => (DataType::Int64, None),
            Self::Float4 => (DataType::Float32, None),
            Self::Float8 => (DataType::Float64, None),
            Self::Timestamptz => (DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), None),
            Self::Text => (DataType::Utf8, None),
            Self::Name => (DataType::Utf8, Some("name")),
            Self::Char => (DataType::Utf8, Some("char")),
            Self::Oid => (DataType::Int32, Some("oid")),
            Self::Regproc => (DataType::Int32, Some("regproc")),
            Self::Int2Vector => (DataType::Utf8, Some("int2vector")),
            Self::OidVector => (DataType::Utf8, Some("oidvector")),
            Self::Texts => (list(DataType::Utf8), None),
            Self::Names => (list(DataType::Utf8), Some("name[]")),
            Self::SmallInts => (list(DataType::Int16), None),
            Self::Ints => (list(DataType::Int32), None),
            Self::Oids => (list(DataType::Int32), Some("oid[]")),
        };
        let field = Field::new(name, arrow, true);
        match postgres {
            Some(postgres) => field.with_metadata(HashMap::from([(TYPE_KEY.to_owned(), postgres.to_owned())])),
            None => field,
        }
    }
}

/// One column of a system relation.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: ColumnKind,
    /// Never NULL.
    pub(super) required: bool,
}

/// One system relation.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) schema_name: &'static str,
    pub(super) name: &'static str,
    pub(super) oid: i32,
    /// `r` table, `v` view.
    pub(super) kind: &'static str,
    pub(super) columns: Vec<Column>,
    pub(super) schema: SchemaRef,
}

static TABLES: LazyLock<Vec<Arc<Table>>> =
    LazyLock::new(|| include_str!("data/columns.tsv").lines().filter(|line| !line.starts_with('#')).filter_map(table).collect());

fn table(line: &'static str) -> Option<Arc<Table>> {
    let mut parts = line.split('\t');
    let (schema_name, name, id) = (parts.next()?, parts.next()?, parts.next()?);
    let columns: Vec<Column> = parts
        .next()?
        .split(' ')
        .filter_map(|column| {
            let (name, kind) = column.split_once(':')?;
            let required = kind.ends_with('!');
            Some(Column { name, kind: ColumnKind::parse(kind.trim_end_matches('!')), required })
        })
        .collect();
    let schema = Arc::new(Schema::new(columns.iter().map(|column| column.kind.field(column.name)).collect::<Vec<_>>()));
    Some(Arc::new(Table { schema_name, name, oid: id[1..].parse().ok()?, kind: &id[..1], columns, schema }))
}

/// What functions without arguments give in `FROM`, as relations that no list of relations shows.
static CALLED: LazyLock<Vec<Arc<Table>>> = LazyLock::new(|| {
    table("pg_catalog\tpg_get_keywords\tv0\tword:text! catcode:char! barelabel:bool! catdesc:text! baredesc:text!").into_iter().collect()
});

/// A system relation, or what a function gives that stands for one.
pub(super) fn find(schema: &str, name: &str) -> Option<&'static Arc<Table>> {
    TABLES.iter().chain(CALLED.iter()).find(|table| table.schema_name == schema && table.name == name)
}

/// Every system relation.
pub(super) fn tables() -> &'static [Arc<Table>] {
    &TABLES
}

/// Whether a system relation has a column of OIDs of that name.
pub(crate) fn is_oid_column(name: &str) -> bool {
    static NAMES: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
        let columns = TABLES.iter().flat_map(|table| &table.columns);
        columns.filter(|column| column.kind == ColumnKind::Oid).map(|column| column.name).collect()
    });
    NAMES.contains(name)
}

/// Whether a system relation has a column of that name that lists numbers in a text.
pub(super) fn is_vector_column(name: &str) -> bool {
    let vector = |kind: ColumnKind| matches!(kind, ColumnKind::Int2Vector | ColumnKind::OidVector);
    TABLES.iter().flat_map(|table| &table.columns).any(|column| vector(column.kind) && column.name.eq_ignore_ascii_case(name))
}

/// Relations whose rows are made from our catalog, the session or the process (see `schema`).
const LIVE: &[(&str, &str)] = &[
    ("pg_catalog", "pg_class"),
    ("pg_catalog", "pg_attribute"),
    ("pg_catalog", "pg_namespace"),
    ("pg_catalog", "pg_proc"),
    ("pg_catalog", "pg_rewrite"),
    ("pg_catalog", "pg_tables"),
    ("pg_catalog", "pg_views"),
    ("pg_catalog", "pg_matviews"),
    ("pg_catalog", "pg_database"),
    ("pg_catalog", "pg_tablespace"),
    ("pg_catalog", "pg_roles"),
    ("pg_catalog", "pg_authid"),
    ("pg_catalog", "pg_user"),
    ("pg_catalog", "pg_shadow"),
    ("pg_catalog", "pg_settings"),
    ("pg_catalog", "pg_prepared_statements"),
    ("pg_catalog", "pg_policies"),
    ("pg_catalog", "pg_policy"),
    ("pg_catalog", "pg_stat_activity"),
    ("pg_catalog", "pg_stat_user_tables"),
    ("pg_catalog", "pg_stat_all_tables"),
    ("pg_catalog", "pg_stat_progress_train"),
    ("pg_catalog", "pg_stat_database"),
    ("pg_catalog", "pg_stat_gssapi"),
    ("pg_catalog", "pg_auth_members"),
    ("pg_catalog", "pg_default_acl"),
    ("information_schema", "table_privileges"),
    ("information_schema", "role_table_grants"),
    ("information_schema", "column_privileges"),
    ("information_schema", "role_column_grants"),
    ("information_schema", "schemata"),
    ("information_schema", "tables"),
    ("information_schema", "views"),
    ("information_schema", "columns"),
    ("information_schema", "information_schema_catalog_name"),
    ("information_schema", "enabled_roles"),
    ("information_schema", "applicable_roles"),
    ("information_schema", "character_sets"),
];

/// Whether a system relation has no rows, whatever happens.
pub(super) fn is_always_empty(schema: &str, name: &str) -> bool {
    let known = tables().iter().any(|table| table.schema_name == schema && table.name == name);
    known && !LIVE.contains(&(schema, name)) && (schema != "pg_catalog" || fixed_rows(name).is_empty())
}

/// Rows of a table that are the same on every server; none for most.
pub(super) fn fixed_rows(name: &str) -> &'static [Row] {
    static FIXED: LazyLock<HashMap<&str, Vec<Row>>> = LazyLock::new(|| {
        [
            ("pg_type", include_str!("data/pg_type.tsv")),
            ("pg_proc", include_str!("data/pg_proc.tsv")),
            ("pg_range", include_str!("data/pg_range.tsv")),
            ("pg_am", include_str!("data/pg_am.tsv")),
            ("pg_language", include_str!("data/pg_language.tsv")),
            ("pg_collation", include_str!("data/pg_collation.tsv")),
            ("pg_cast", include_str!("data/pg_cast.tsv")),
            ("pg_get_keywords", include_str!("data/pg_get_keywords.tsv")),
        ]
        .into_iter()
        .map(|(name, text)| (name, read(name, text)))
        .collect()
    });
    FIXED.get(name).map_or(&[], Vec::as_slice)
}

/// Reads rows under a header of column names; `\N` is NULL.
fn read(name: &str, text: &'static str) -> Vec<Row> {
    let Some(table) = find("pg_catalog", name) else { return Vec::new() };
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let header: Vec<&'static str> = lines.next().unwrap_or_default().split('\t').collect();
    let owner = table.columns.iter().map(|column| column.name).find(|column| column.ends_with("owner"));
    lines
        .map(|line| {
            let cells = header.iter().zip(line.split('\t')).map(|(column, text)| {
                let kind = table.columns.iter().find(|found| found.name == *column).map_or(ColumnKind::Text, |found| found.kind);
                (*column, cell(kind, text))
            });
            // The owner of what every server has.
            cells.chain(owner.map(|owner| (owner, Cell::Int(super::snapshot::SUPERUSER_OID.into())))).collect()
        })
        .collect()
}

fn cell(kind: ColumnKind, text: &'static str) -> Cell {
    match kind {
        _ if text == "\\N" => Cell::Null,
        ColumnKind::Bool => Cell::Bool(text == "t"),
        ColumnKind::Regproc if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().map_or(Cell::Null, Cell::Int),
        ColumnKind::Regproc => Cell::Int(regproc_oid(text).unwrap_or_default().into()),
        ColumnKind::Int2 | ColumnKind::Int4 | ColumnKind::Int8 | ColumnKind::Oid | ColumnKind::Float4 | ColumnKind::Float8 => {
            text.parse().map_or(Cell::Null, Cell::Int)
        }
        _ => Cell::from(text),
    }
}

/// Functions by OID and name, straight from the file: `pg_type`'s rows need them while the tables are read.
static PROCEDURES: LazyLock<Vec<(i32, &'static str)>> = LazyLock::new(|| {
    let lines = include_str!("data/pg_proc.tsv").lines().filter(|line| !line.starts_with('#')).skip(1);
    lines.filter_map(|line| line.split_once('\t').and_then(|(oid, rest)| Some((oid.parse().ok()?, rest.split('\t').next()?)))).collect()
});

/// The OID of a built-in function.
pub(super) fn regproc_oid(name: &str) -> Option<i32> {
    PROCEDURES.iter().find(|(_, found)| *found == name).map(|(oid, _)| *oid)
}

/// The name of a function by its OID, as `regproc` shows it.
pub(crate) fn regproc_name(oid: i32) -> std::borrow::Cow<'static, str> {
    match PROCEDURES.iter().find(|(found, _)| *found == oid) {
        Some((_, name)) => (*name).into(),
        None if oid == 0 => "-".into(),
        None => oid.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_relation_has_columns_and_an_oid() {
        assert!(tables().len() > 180);
        for table in tables() {
            assert!(!table.columns.is_empty() && table.oid > 0, "{}", table.name);
        }
    }

    #[test]
    fn types_have_their_functions() {
        let rows = fixed_rows("pg_type");
        let float4_array =
            rows.iter().find(|row| row.iter().any(|(name, cell)| *name == "oid" && matches!(cell, Cell::Int(1021)))).unwrap();
        let input = float4_array.iter().find(|(name, _)| *name == "typinput").unwrap();
        assert!(matches!(input.1, Cell::Int(750)), "array_in");
        assert_eq!(regproc_name(750), "array_in");
        assert_eq!(regproc_name(0), "-");
    }
}
