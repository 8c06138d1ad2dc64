//! Which table a statement is about: a temporary one of the session comes before others of the same name, as in queries.

use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::source_as_provider;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::ObjectName;
use portrait_udfs::error::{Code, Error, Result};

use super::support::{in_public, qualified, relation_name};
use super::{Call, materialized_view};
use crate::catalog::{Catalog, DATABASE, Insertion, Object, PUBLIC, TableInfo, Temporary};
use crate::engine::{NewRows, Running, TransactionStatus};
use crate::storage::{Arrivals, IngestOptions, ManagedTable};

/// The relation that a statement names.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// Its bare name.
    pub(super) name: String,
    catalog: Arc<Catalog>,
    /// Where it is, or is to be, when it is a temporary one.
    temporary: Option<Arc<Temporary>>,
}

impl Target {
    /// What `name` means, whether it exists or not.
    ///
    /// # Errors
    /// As [`relation_name`].
    pub(super) fn of(running: &Running, name: &ObjectName) -> Result<Self> {
        let (schema, bare) = qualified(name)?;
        let temporary = running.own_tables().tables();
        let own = match &schema {
            None => running.own_tables().finds(&bare),
            Some(schema) => temporary.is_schema(schema),
        };
        if !own && let Some(schema) = schema {
            in_public(&schema)?;
        }
        let temporary = own.then(|| Arc::clone(temporary));
        Ok(Self { name: bare, catalog: Arc::clone(running.engine().catalog()), temporary })
    }

    /// Where a statement makes a table of this name; `temporary` when it says that it is to be one.
    ///
    /// # Errors
    /// 42P16 for a temporary table in a schema that is not the session's own; as [`relation_name`].
    pub(super) fn to_make(running: &Running, name: &ObjectName, temporary: bool) -> Result<Self> {
        let (schema, bare) = qualified(name)?;
        let own = schema.as_ref().is_some_and(|schema| running.own_tables().tables().is_schema(schema));
        if let Some(schema) = schema.filter(|_| !own) {
            let found = in_public(&schema);
            if temporary && found.as_ref().err().is_none_or(|error| error.code != Code::UndefinedSchema) {
                return Err(Error::new(Code::InvalidTableDefinition, "cannot create temporary relation in non-temporary schema"));
            }
            found?;
        }
        let made = (temporary || own).then(|| Arc::clone(running.own_tables().tables()));
        Ok(Self { name: bare, catalog: Arc::clone(running.engine().catalog()), temporary: made })
    }

    /// The temporary tables, when it is one of them.
    pub(super) fn temporary(&self) -> Option<&Arc<Temporary>> {
        self.temporary.as_ref()
    }

    /// What is known of it.
    pub(super) fn describe(&self) -> Option<TableInfo> {
        match &self.temporary {
            Some(temporary) => temporary.describe(&self.name),
            None => self.catalog.describe(&self.name),
        }
    }

    /// As [`describe`](Self::describe).
    ///
    /// # Errors
    /// 42P01.
    pub(super) fn info(&self) -> Result<TableInfo> {
        self.describe().ok_or_else(|| self.undefined())
    }

    /// The 42P01 error.
    pub(super) fn undefined(&self) -> Error {
        match &self.temporary {
            Some(_) => Error::new(Code::UndefinedTable, format!("relation \"{}\" does not exist", self.name)),
            None => self.catalog.undefined_table(&self.name),
        }
    }

    /// Opens it for rows.
    ///
    /// # Errors
    /// As [`Catalog::insertion`] and [`Temporary::insertion`].
    pub(super) async fn insertion(&self, options: IngestOptions) -> Result<Insertion> {
        match &self.temporary {
            Some(temporary) => temporary.insertion(&self.name, &options).await,
            None => self.catalog.insertion(&self.name, options),
        }
    }

    /// Takes all rows of a stream in one commit.
    ///
    /// # Errors
    /// As [`insertion`](Self::insertion); whatever is wrong with the rows.
    pub(super) async fn insert(&self, rows: SendableRecordBatchStream, options: IngestOptions) -> Result<Arrivals> {
        self.insertion(options).await?.add_all(rows).await
    }

    /// After rows came, or a table was made: materialized views follow tables that are kept, and a temporary table may lose its
    /// rows again where the transaction ends with the statement.
    ///
    /// # Errors
    /// Failures of the store.
    pub(super) async fn after_write(&self, call: &Call<'_>, rows: bool) -> Result<()> {
        self.written(&call.running, call.session, rows).await
    }

    /// As [`after_write`](Self::after_write), for what outlives its call.
    pub(super) async fn written(&self, running: &Running, session: &crate::engine::Session, rows: bool) -> Result<()> {
        if let Some(temporary) = &self.temporary {
            if session.transaction() == TransactionStatus::Idle {
                temporary.end(true).await?;
            }
            return Ok(());
        }
        if rows {
            materialized_view::follow_ingest(running, &self.name).await?;
        }
        if session.wrote_in_transaction() {
            running.notice("each statement that writes is committed at once; ROLLBACK will not undo it");
        }
        Ok(())
    }
}

impl Call<'_> {
    /// The relation that is kept and that `name` means, for a statement that has nothing to do with temporary tables.
    ///
    /// # Errors
    /// 0A000 for a temporary table; as [`relation_name`].
    pub(super) fn kept_name(&self, name: &ObjectName) -> Result<String> {
        match Target::of(&self.running, name)? {
            Target { temporary: Some(_), name, .. } => {
                Err(Error::new(Code::FeatureNotSupported, format!("{} of a temporary table is not supported", self.statement.tag()))
                    .detail(format!("\"{name}\" is a temporary table of this session."))
                    .hint(format!("A table of that name that is kept is called {PUBLIC}.{name}.")))
            }
            Target { name, .. } => Ok(name),
        }
    }

    /// Refuses a write in a read-only transaction. Rows may go into temporary tables, whatever the store is opened for.
    ///
    /// # Errors
    /// [`Code::ReadOnly`].
    pub(super) fn before_rows(&self, target: &Target) -> Result<()> {
        if target.temporary.is_some() { Ok(()) } else { self.before_write() }
    }

    /// Demands that the role owns a table; one that does not exist passes.
    ///
    /// # Errors
    /// 42501.
    pub(super) fn must_own_target(&self, target: &Target) -> Result<()> {
        let Some(temporary) = &target.temporary else { return self.must_own(&target.name) };
        match temporary.describe(&target.name) {
            Some(info) if !self.rights().owns_of(&info.owner) => Err(Object::table(target.name.as_str()).not_owned()),
            _ => Ok(()),
        }
    }

    /// What rows must fulfil that the role adds, with these columns (`None` = all).
    ///
    /// # Errors
    /// 42501 without the privilege to add any; 42P01.
    pub(super) async fn new_rows(&self, target: &Target, columns: Option<Vec<String>>) -> Result<NewRows> {
        let info = target.info()?;
        if target.temporary.is_some() {
            // Nothing is granted on a temporary table.
            let owns = self.rights().owns_of(&info.owner);
            return if owns { Ok(NewRows::all(&info.name, &info.schema)) } else { Err(Object::table(info.name).denied()) };
        }
        let (catalog, state, role) = (Arc::clone(&target.catalog), Arc::clone(self.running.state()), self.session.user());
        self.running.run(async move { NewRows::of(&catalog, &state, &role, &info.name, &info.schema, columns.as_deref()).await }).await
    }

    /// Demands that the role may make temporary tables.
    ///
    /// # Errors
    /// 42501.
    pub(super) fn may_create_temporary(&self) -> Result<()> {
        use crate::catalog::{ObjectClass, Privilege};
        let database = Object::new(ObjectClass::Database, DATABASE);
        self.rights()
            .require(Privilege::Temporary, &database)
            .map_err(|error| Error { message: format!("permission denied to create temporary tables in database \"{DATABASE}\""), ..error })
    }
}

/// Whether a query reads a temporary table.
pub(super) fn reads_temporary(plan: &LogicalPlan) -> bool {
    let mut found = false;
    let walked = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Ok(provider) = source_as_provider(&scan.source)
        {
            found |= provider.downcast_ref::<ManagedTable>().is_some_and(ManagedTable::is_temporary);
        }
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found || walked.is_err()
}

/// Refuses what is kept and would read what is not.
///
/// # Errors
/// [`Code::FeatureNotSupported`].
pub(super) fn refuse_temporary(plan: &LogicalPlan, what: &str) -> Result<()> {
    if !reads_temporary(plan) {
        return Ok(());
    }
    Err(Error::new(Code::FeatureNotSupported, format!("{what} must not use temporary tables or views"))
        .detail("The tables of a session are gone at its end.")
        .hint("Make the table that it reads without TEMP."))
}

/// The bare name of a relation that is kept; as [`relation_name`], for statements that make one.
pub(super) fn kept(running: &Running, name: &ObjectName) -> Result<String> {
    let (schema, _) = qualified(name)?;
    if schema.is_some_and(|schema| running.own_tables().tables().is_schema(&schema)) {
        return Err(Error::new(Code::FeatureNotSupported, format!("only tables can be temporary, not \"{name}\"")));
    }
    relation_name(name)
}
