//! `pg_read_binary_file(path [, missing_ok])`: the bytes of a file, as PostgreSQL's function of this name.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::Result as DataFusionResult;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, TypeSignature, Volatility};
use datafusion_macros::user_doc;
use futures::StreamExt;
use object_store::ObjectStoreExt;

use crate::context::{FileAccess, StatementContext};
use crate::error::{Code, Error, Result};
use crate::functions::blocking::block_on;
use crate::functions::register::MlContext;

/// Larger files are no values of a column.
const BYTES_MAX: u64 = 64 << 20;
/// Files that are read at once.
const AT_ONCE: usize = 16;

#[user_doc(
    doc_section(label = "File Functions"),
    description = "The bytes of a file under a data root, up to 64 MiB: for tables that name their pictures by path instead of holding them. NULL when the path is NULL. A file that is not there is an error, or NULL where `missing_ok` is true.",
    syntax_example = "pg_read_binary_file(path [, missing_ok])",
    sql_example = "```sql\nSELECT md5(pg_read_binary_file('mylog.csv'));\n```",
    argument(name = "path", description = "The file, relative to a data root or absolute under one."),
    argument(name = "missing_ok", description = "NULL instead of an error for a file that does not exist; false by default.")
)]
pub(super) struct PgReadBinaryFile {
    context: Arc<MlContext>,
    signature: Signature,
}

impl PgReadBinaryFile {
    pub(super) fn new(context: &Arc<MlContext>) -> Self {
        let forms = vec![TypeSignature::Exact(vec![DataType::Utf8]), TypeSignature::Exact(vec![DataType::Utf8, DataType::Boolean])];
        // What a path names may be another file at the next statement.
        Self { context: Arc::clone(context), signature: Signature::one_of(forms, Volatility::Stable) }
    }
}

impl fmt::Debug for PgReadBinaryFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgReadBinaryFile").finish_non_exhaustive()
    }
}

impl PartialEq for PgReadBinaryFile {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.context, &other.context)
    }
}

impl Eq for PgReadBinaryFile {}

impl Hash for PgReadBinaryFile {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl ScalarUDFImpl for PgReadBinaryFile {
    fn name(&self) -> &str {
        "pg_read_binary_file"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Binary)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let statement = StatementContext::of_options(&args.config_options);
        // One file for all rows is read once.
        let one = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let rows = if one { args.number_rows.min(1) } else { args.number_rows };
        let paths = cast(&args.args[0].to_array(rows)?, &DataType::Utf8)?;
        let missing_ok = args.args.get(1).map(|value| value.to_array(rows)).transpose()?;
        let (files, paths) = (Arc::clone(&self.context.files), paths.as_string::<i32>().clone());
        let work = async move {
            tokio::select! {
                biased;
                () = statement.cancel.cancelled() => Err(Error::cancelled()),
                read = read_all(&*files, &statement.user, &paths, missing_ok.as_ref().map(|array| array.as_boolean())) => read,
            }
        };
        let read: ArrayRef = Arc::new(block_on(work)??.finish());
        if one && rows == 1 {
            return Ok(ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(&read, 0)?));
        }
        Ok(ColumnarValue::Array(read))
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}

async fn read_all(files: &dyn FileAccess, user: &str, paths: &StringArray, missing_ok: Option<&BooleanArray>) -> Result<BinaryBuilder> {
    let mut bytes = BinaryBuilder::new();
    let reads = (0..paths.len()).map(|row| async move {
        if paths.is_null(row) {
            return Ok(None);
        }
        let ok = missing_ok.is_some_and(|flags| flags.is_valid(row) && flags.value(row));
        match read(files, user, paths.value(row)).await {
            // The one thing that may be wrong with a place one may read.
            Err(error) if ok && error.code == Code::InvalidParameter => Ok(None),
            read => read.map(Some),
        }
    });
    let mut reads = futures::stream::iter(reads).buffered(AT_ONCE);
    while let Some(read) = reads.next().await {
        bytes.append_option(read?);
    }
    Ok(bytes)
}

async fn read(files: &dyn FileAccess, user: &str, path: &str) -> Result<bytes::Bytes> {
    let (store, place) = files.folder(path, user, false)?;
    let missing = |error: object_store::Error| match error {
        object_store::Error::NotFound { .. } => Error::invalid(format!("location \"{path}\" does not exist")),
        other => match Error::find(&other) {
            Some(found) => found.clone(),
            None => Error::new(Code::Io, format!("file \"{path}\" cannot be read")).detail(other.to_string()),
        },
    };
    let found = store.get(&place).await.map_err(missing)?;
    if found.meta.size > BYTES_MAX {
        return Err(Error::new(Code::TooComplex, format!("file \"{path}\" is too large to be a value"))
            .detail(format!("It has {} bytes; {BYTES_MAX} are the most.", found.meta.size)));
    }
    found.bytes().await.map_err(missing)
}
