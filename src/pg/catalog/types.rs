//! `pg_type`: PostgreSQL's own types, and the names that `format_type` gives them.

use pgwire::api::Type;

use super::cells::Row;
use super::definitions::fixed_rows;
use super::snapshot::Snapshot;

/// Every base, array and range type; no composite types yet.
pub(super) fn types(_snapshot: &Snapshot) -> Vec<Row> {
    fixed_rows("pg_type").to_vec()
}

/// The default collation for texts, none for the rest.
pub(super) fn collation(r#type: &Type) -> i32 {
    let texts = [Type::TEXT, Type::VARCHAR, Type::BPCHAR, Type::TEXT_ARRAY];
    if texts.contains(r#type) {
        100
    } else if *r#type == Type::NAME {
        950
    } else {
        0
    }
}

/// The SQL name of a type, as `format_type` spells it; `None` for an OID that is no type.
pub(super) fn format_type(oid: i64, modifier: Option<i64>) -> Option<String> {
    if oid == 0 {
        return Some("-".into());
    }
    let r#type = Type::from_oid(u32::try_from(oid).ok()?)?;
    if let postgres_types::Kind::Array(item) = r#type.kind() {
        return Some(format!("{}[]", format_type(item.oid().into(), modifier)?));
    }
    let modifier = modifier.filter(|modifier| *modifier >= 0);
    Some(match (r#type.name(), modifier) {
        ("bool", _) => "boolean".into(),
        ("int2", _) => "smallint".into(),
        ("int4", _) => "integer".into(),
        ("int8", _) => "bigint".into(),
        ("float4", _) => "real".into(),
        ("float8", _) => "double precision".into(),
        ("numeric", Some(modifier)) => format!("numeric({},{})", (modifier - 4) >> 16, ((modifier - 4) & 0x7ff ^ 1024) - 1024),
        ("varchar", Some(modifier)) => format!("character varying({})", modifier - 4),
        ("varchar", None) => "character varying".into(),
        ("bpchar", Some(modifier)) => format!("character({})", modifier - 4),
        ("bpchar", None) => "character".into(),
        ("time", _) => "time without time zone".into(),
        ("timetz", _) => "time with time zone".into(),
        ("timestamp", _) => "timestamp without time zone".into(),
        ("timestamptz", _) => "timestamp with time zone".into(),
        ("char", _) => "\"char\"".into(),
        ("varbit", _) => "bit varying".into(),
        (name, _) => name.into(),
    })
}

/// The type that a name stands for, with or without `[]`.
pub(super) fn type_by_name(name: &str) -> Option<i32> {
    let name = name.trim().trim_start_matches("pg_catalog.").trim_matches('"').to_ascii_lowercase();
    if let Some(item) = name.strip_suffix("[]") {
        let item = Type::from_oid(type_by_name(item)? as u32)?;
        return known()
            .find(|found| matches!(found.kind(), postgres_types::Kind::Array(of) if *of == item))
            .map(|found| found.oid() as i32);
    }
    let short = match name.as_str() {
        "boolean" => "bool",
        "smallint" => "int2",
        "integer" | "int" => "int4",
        "bigint" => "int8",
        "real" => "float4",
        "double precision" => "float8",
        "decimal" => "numeric",
        "character varying" => "varchar",
        "character" => "bpchar",
        "timestamp without time zone" => "timestamp",
        "timestamp with time zone" => "timestamptz",
        "time without time zone" => "time",
        other => other,
    };
    known().find(|found| found.name() == short).map(|found| found.oid() as i32)
}

fn known() -> impl Iterator<Item = Type> {
    (1..5100).filter_map(Type::from_oid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for name in ["boolean", "bigint", "double precision", "real[]", "text", "timestamp with time zone", "\"char\"", "oid", "numeric"] {
            let oid = type_by_name(name).unwrap();
            assert_eq!(format_type(oid.into(), None).unwrap(), name);
        }
        assert_eq!(format_type(1700, Some((10 << 16 | 2) + 4)).unwrap(), "numeric(10,2)");
        assert_eq!(format_type(1, None), None);
    }
}
