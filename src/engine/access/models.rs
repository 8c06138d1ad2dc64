//! Models, by role.

use std::fmt;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use portrait_udfs::error::{Code, Error, Result};
use portrait_udfs::registry::{ModelAction, ModelPermissions};

use crate::catalog::{Catalog, Object, ObjectClass, Privilege};

/// The schema that models are made in.
const SCHEMA: &str = "ml";

/// What roles may do to models: owners everything, whoever was granted EXECUTE score with them. The catalog holds the schema that
/// holds the models: this must not hold the catalog.
pub(in super::super) struct ModelRights(pub(in super::super) Weak<Catalog>);

impl ModelRights {
    fn catalog(&self) -> Result<Arc<Catalog>> {
        self.0.upgrade().ok_or_else(|| Error::new(Code::Shutdown, "the server is shutting down"))
    }
}

impl fmt::Debug for ModelRights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelRights").finish_non_exhaustive()
    }
}

#[async_trait]
impl ModelPermissions for ModelRights {
    fn check(&self, caller: &str, model: &str, owner: &str, action: ModelAction) -> Result<()> {
        let rights = self.catalog()?.rights(caller);
        match action {
            ModelAction::Execute if rights.may_execute_model(model, owner) => Ok(()),
            ModelAction::Execute => Err(Error::new(Code::InsufficientPrivilege, format!("permission denied for model \"{model}\""))
                .hint(format!("Its owner can say: GRANT EXECUTE ON MODEL {model} TO {caller}."))),
            ModelAction::Own if rights.owns_of(owner) => Ok(()),
            ModelAction::Own => Err(Error::new(Code::InsufficientPrivilege, format!("must be owner of model \"{model}\""))),
        }
    }

    fn check_new(&self, caller: &str) -> Result<()> {
        let schema = Object::new(ObjectClass::Schema, SCHEMA);
        self.catalog()?.rights(caller).require(Privilege::Create, &schema).map_err(|error| {
            error
                .detail("Training a new model, or fitting a new transform, needs CREATE on schema ml.")
                .hint(format!("A superuser can say: GRANT CREATE ON SCHEMA {SCHEMA} TO {caller}."))
        })
    }

    async fn dropped(&self, model: &str) -> Result<()> {
        self.catalog()?.forget_model(model).await
    }

    async fn renamed(&self, from: &str, to: &str) -> Result<()> {
        self.catalog()?.rename_model(from, to).await
    }
}
