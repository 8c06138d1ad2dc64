//! Who may do what to a model: the hook that a server with roles fills in.

use std::fmt;

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
pub trait ModelPermissions: Send + Sync + fmt::Debug {
    /// Succeeds when `caller` may do `action` to `model`, which belongs to `owner`.
    ///
    /// # Errors
    /// [`InsufficientPrivilege`](crate::error::Code::InsufficientPrivilege) otherwise.
    fn check(&self, caller: &str, model: &str, owner: &str, action: ModelAction) -> Result<()>;
}

/// Everybody may do everything: the default of an embedded program.
#[derive(Debug, Clone, Copy, Default)]
pub struct Anyone;

impl ModelPermissions for Anyone {
    fn check(&self, _caller: &str, _model: &str, _owner: &str, _action: ModelAction) -> Result<()> {
        Ok(())
    }
}
