//! Files on their way into a table: what a location holds, and its columns as the table has them.
//!
//! Columns are found by name, whatever their order; texts of CSV and JSON are read as the table's types, not as what the
//! first lines look like. A column that the table has and the files do not is NULL.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use portrait_udfs::error::{Code, Error, Result};

use super::Catalog;
use crate::storage::external::kind_of_name;
use crate::storage::{ExternalSource, ExternalTable, FileKind};

/// One file, or the files of one folder.
#[derive(Debug)]
pub struct ImportSource {
    /// Where they lie, for messages.
    pub location: String,
    /// Their rows.
    pub provider: Arc<dyn TableProvider>,
    /// Bytes of all of them.
    pub bytes: u64,
    /// For each column of the table, the one of the files.
    pub columns: Vec<Option<usize>>,
    /// Columns of the files that the table does not have.
    pub left_out: Vec<String>,
}

impl Catalog {
    /// What there is to import at `location`: a file, a folder or a glob, of Parquet, CSV or JSON lines.
    ///
    /// # Errors
    /// 58030 and 42501 for the location; 42703 when no column fits; 42804 for one of another kind.
    pub async fn import_sources(&self, session: &dyn Session, location: &str, table: &SchemaRef) -> Result<Vec<ImportSource>> {
        let listing = self.inner.roots.list(location, |name| kind_of_name(name).is_some()).await?;
        let told = "Files are told by their names: .parquet, .csv, .tsv, .json, .jsonl or .ndjson, also compressed.";
        if listing.files.is_empty() {
            return Err(Error::new(Code::Io, format!("no files to import at \"{location}\"")).hint(told));
        }
        let mut kinds: Vec<(FileKind, Vec<(String, u64)>)> = Vec::new();
        for file in &listing.files {
            let path = text_of(&file.path);
            let kind = kind_of_name(&path).ok_or_else(|| Error::invalid(format!("\"{path}\" is a file of no known kind")).hint(told))?;
            match kinds.iter_mut().find(|(found, _)| *found == kind) {
                Some((_, files)) => files.push((path, file.meta.size)),
                None => kinds.push((kind, vec![(path, file.meta.size)])),
            }
        }
        let mixed = kinds.len() > 1;
        let mut sources = Vec::new();
        for (kind, files) in kinds {
            // The columns of CSV files go by position: each file has its own.
            let parts = if mixed || kind == FileKind::Csv {
                files
            } else {
                vec![(location.to_owned(), files.iter().map(|(_, bytes)| bytes).sum())]
            };
            for (part, bytes) in parts {
                sources.push(self.import_source(session, kind, part, bytes, table).await?);
            }
        }
        Ok(sources)
    }

    async fn import_source(
        &self,
        session: &dyn Session,
        kind: FileKind,
        location: String,
        bytes: u64,
        table: &SchemaRef,
    ) -> Result<ImportSource> {
        let mut options = BTreeMap::new();
        if location.to_ascii_lowercase().contains(".tsv") {
            options.insert("delimiter".to_owned(), "\t".to_owned());
        }
        let source = ExternalSource { kind, location: location.clone(), partitions: Vec::new(), options };
        let (source, found) = ExternalTable::discover(session, &self.inner.roots, source, None).await?;
        let columns: Vec<Option<usize>> = table.fields().iter().map(|field| position(&found, field.name())).collect();
        if columns.iter().all(Option::is_none) {
            let names: Vec<&str> = found.fields().iter().map(|field| field.name().as_str()).collect();
            return Err(Error::new(Code::UndefinedColumn, format!("no column of \"{location}\" is one of the table"))
                .detail(format!("It has the columns {}.", names.join(", ")))
                .hint("Load it with CREATE EXTERNAL TABLE and INSERT … SELECT, which can name columns anew."));
        }
        let mut fields: Vec<Arc<Field>> = found.fields().iter().cloned().collect();
        for (wanted, at) in table.fields().iter().zip(&columns) {
            let Some(at) = *at else { continue };
            let given = fields[at].data_type();
            if given.is_numeric() && wanted.data_type().is_temporal() {
                return Err(Error::new(Code::DatatypeMismatch, format!("column \"{}\" of \"{location}\" holds numbers", wanted.name()))
                    .detail("The table has a date or time there, and a number does not tell its unit.")
                    .hint("Load it with CREATE EXTERNAL TABLE and INSERT … SELECT to_timestamp_millis(…)."));
            }
            if kind != FileKind::Parquet && !given.is_nested() && !wanted.data_type().is_nested() && readable(wanted.data_type()) {
                fields[at] = Arc::new(Field::new(fields[at].name(), wanted.data_type().clone(), true));
            }
        }
        let left_out = (0..fields.len()).filter(|at| !columns.contains(&Some(*at))).map(|at| fields[at].name().clone()).collect();
        let schema = Arc::new(Schema::new(fields.into_iter().collect::<Fields>()));
        let provider = ExternalTable::new(&location, source, schema, Arc::clone(&self.inner.roots))?;
        Ok(ImportSource { location, provider: Arc::new(provider), bytes, columns, left_out })
    }
}

/// The column of this name; written otherwise in upper and lower case when there is none.
fn position(schema: &Schema, name: &str) -> Option<usize> {
    let exact = schema.fields().iter().position(|field| field.name() == name);
    exact.or_else(|| schema.fields().iter().position(|field| field.name().eq_ignore_ascii_case(name)))
}

/// Types that the readers of CSV and JSON give.
fn readable(wanted: &DataType) -> bool {
    !matches!(wanted, DataType::Binary | DataType::BinaryView | DataType::Time64(_))
}

fn text_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
