//! Who may do what to a model: the hook that a server with roles fills in.

use std::fmt;

use async_trait::async_trait;

use crate::error::Result;

/// What somebody wants to do with a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ModelAction {
    /// Score with it, evaluate it, keep it warm (EXECUTE).
    Execute,
    /// Train another version, activate, roll back, rename, drop, export (ownership).
    Own,
}

/// Decides about rights on models.
#[async_trait]
pub trait ModelPermissions: Send + Sync + fmt::Debug {
    /// Succeeds when `caller` may do `action` to `model`, which belongs to `owner`.
    ///
    /// # Errors
    /// [`InsufficientPrivilege`](crate::error::Code::InsufficientPrivilege) otherwise.
    fn check(&self, caller: &str, model: &str, owner: &str, action: ModelAction) -> Result<()>;

    /// Called before the first version of a new model, or transform, is made.
    ///
    /// # Errors
    /// [`InsufficientPrivilege`](crate::error::Code::InsufficientPrivilege) when `caller` may make none.
    fn check_new(&self, caller: &str) -> Result<()> {
        let _ = caller;
        Ok(())
    }

    /// Called before a model goes, with all that was granted on it: another one of its name starts with nothing.
    ///
    /// # Errors
    /// When that cannot be recorded: then the model stays.
    async fn dropped(&self, model: &str) -> Result<()> {
        let _ = model;
        Ok(())
    }

    /// Called after a model got another name: what was granted on it goes with it.
    ///
    /// # Errors
    /// When that cannot be recorded.
    async fn renamed(&self, from: &str, to: &str) -> Result<()> {
        let _ = (from, to);
        Ok(())
    }
}

/// Everybody may do everything: the default of an embedded program.
#[derive(Debug, Clone, Copy, Default)]
pub struct Anyone;

impl ModelPermissions for Anyone {
    fn check(&self, _caller: &str, _model: &str, _owner: &str, _action: ModelAction) -> Result<()> {
        Ok(())
    }
}
