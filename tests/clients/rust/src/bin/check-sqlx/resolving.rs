//! What the driver asks of types and columns that it does not know: types by name and by oid, and what its macros describe.

use portrait_rust_clients::{Outcome, Server, check};
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo, PgTypeKind, PgValueRef, Postgres};
use sqlx::{Column, Decode, Either, Encode, Executor, Row, SqlSafeStr, Type, TypeInfo};

use crate::connection::connect;

/// A whole number of a type that is known by its name alone, as types of extensions are.
#[derive(Debug, PartialEq)]
struct Named(i32);

impl Type<Postgres> for Named {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("int4")
    }

    fn compatible(found: &PgTypeInfo) -> bool {
        *found == Self::type_info()
    }
}

impl Encode<'_, Postgres> for Named {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        self.0.encode_by_ref(buffer)
    }
}

impl<'r> Decode<'r, Postgres> for Named {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        i32::decode(value).map(Self)
    }
}

/// Whole numbers of an array type that is known by its elements' name.
struct NamedArray(Vec<i32>);

impl Type<Postgres> for NamedArray {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::array_of("int4")
    }
}

impl Encode<'_, Postgres> for NamedArray {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        self.0.encode_by_ref(buffer)
    }
}

/// Of a type that nobody has.
struct Unknown;

impl Type<Postgres> for Unknown {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("nothing_there")
    }
}

impl Encode<'_, Postgres> for Unknown {
    fn encode_by_ref(&self, _: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Ok(IsNull::Yes)
    }
}

pub async fn types_by_name(server: &Server) -> Outcome {
    let mut connection = connect(server).await?;
    for number in [7, -7] {
        let query = sqlx::query_scalar::<_, Named>("SELECT $1").bind(Named(number));
        check("by name", query.fetch_one(&mut connection).await?, Named(number))?;
    }
    let query = sqlx::query_scalar::<_, bool>("SELECT $1 = ANY($2)").bind(5).bind(NamedArray(vec![1, 5]));
    check("an array by its elements' name", query.fetch_one(&mut connection).await?, true)?;
    let answer = sqlx::query("SELECT $1 AS unknown").bind(Unknown).execute(&mut connection).await;
    check("of nobody", answer.err().map(|error| error.to_string()).as_deref(), Some("type named nothing_there not found"))
}

pub async fn types_by_oid(server: &Server) -> Outcome {
    let mut connection = connect(server).await?;
    // The driver asks for regproc, which is not built into it.
    let row = sqlx::query("SELECT oid, typname, typinput FROM pg_type WHERE typname = 'float4'").fetch_one(&mut connection).await?;
    let names: Vec<_> = row.columns().iter().map(|column| column.type_info().name().to_lowercase()).collect();
    check("names", names, ["oid", "name", "regproc"].map(str::to_owned).to_vec())?;
    check("kind", matches!(row.columns()[2].type_info().kind(), PgTypeKind::Simple), true)?;
    check("oid", row.try_get::<Oid, _>("oid")?, Oid(700))?;
    let known: (Oid, String) =
        sqlx::query_as("SELECT oid, typname::text FROM pg_type WHERE typname = $1").bind("_float4").fetch_one(&mut connection).await?;
    check("pg_type", known, (Oid(1021), "_float4".to_owned()))
}

/// What `query!` asks when a program is compiled.
pub async fn describing(server: &Server) -> Outcome {
    let connection = &mut connect(server).await?;
    connection.execute("DROP TABLE IF EXISTS sqlx_described; CREATE TABLE sqlx_described (a BIGINT NOT NULL, b TEXT, c REAL[])").await?;
    let text = "SELECT a, b, c, a + 1 AS d, $2::text AS e FROM sqlx_described WHERE a = $1";
    let described = (&mut *connection).describe(text.into_sql_str()).await?;
    let columns: Vec<_> = described.columns().iter().map(|column| (column.name(), column.type_info().name())).collect();
    check("columns", columns, vec![("a", "INT8"), ("b", "TEXT"), ("c", "FLOAT4[]"), ("d", "INT8"), ("e", "TEXT")])?;
    let Some(Either::Left(parameters)) = described.parameters() else { return Err("no parameters".into()) };
    check("parameters", parameters.iter().map(TypeInfo::name).collect::<Vec<_>>(), vec!["INT8", "TEXT"])?;
    check("nullable", described.nullable(0) == Some(true), false)?;
    check("of an expression", (described.nullable(3), described.nullable(4)), (None, None))?;
    let described = (&mut *connection).describe("INSERT INTO sqlx_described (a) VALUES ($1)".into_sql_str()).await?;
    check("an INSERT", described.columns().len(), 0)?;
    connection.execute("DROP TABLE sqlx_described").await?;
    Ok(())
}
