//! Roles and their SCRAM-SHA-256 verifiers, durable with the rest of the catalog.
use portrait_udfs::error::{Error, Result};

/// A SCRAM-SHA-256 verifier: what the server keeps of a password (RFC 5803, as PostgreSQL stores it).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScramVerifier {
    /// PBKDF2 iterations.
    pub iterations: u32,
    /// Salt.
    pub salt: Vec<u8>,
    /// H(HMAC(SaltedPassword, "Client Key")).
    pub stored_key: [u8; 32],
    /// HMAC(SaltedPassword, "Server Key").
    pub server_key: [u8; 32],
}

/// One role.
#[derive(Debug, Clone)]
pub struct Role {
    /// Name.
    pub name: String,
    /// Persisted object id.
    pub oid: u32,
    /// May do everything.
    pub superuser: bool,
    /// May connect.
    pub login: bool,
    /// How it proves itself; without one it cannot connect by password.
    pub verifier: Option<ScramVerifier>,
}

/// What `CREATE ROLE`/`ALTER ROLE` says; `None` leaves a thing as it is.
#[derive(Debug, Clone, Default)]
pub struct RoleOptions {
    /// `SUPERUSER` / `NOSUPERUSER`.
    pub superuser: Option<bool>,
    /// `LOGIN` / `NOLOGIN`.
    pub login: Option<bool>,
    /// `PASSWORD '…'` (plain, or a ready `SCRAM-SHA-256$…` verifier); `Some(None)` is `PASSWORD NULL`.
    pub password: Option<Option<String>>,
}

impl super::Catalog {
    /// All roles, by name.
    pub fn roles(&self) -> Vec<Role> {
        Vec::new()
    }
    /// One role.
    pub fn role(&self, name: &str) -> Option<Role> {
        let _ = name;
        None
    }
    /// `CREATE ROLE`; 42710 when it exists.
    pub async fn create_role(&self, name: &str, options: RoleOptions) -> Result<()> {
        let _ = (name, options);
        Err(Error::internal("not yet"))
    }
    /// `ALTER ROLE`; 42704 when it does not exist.
    pub async fn alter_role(&self, name: &str, options: RoleOptions) -> Result<()> {
        let _ = (name, options);
        Err(Error::internal("not yet"))
    }
    /// `DROP ROLE`; returns whether there was one (42704 without `if_exists`).
    pub async fn drop_role(&self, name: &str, if_exists: bool) -> Result<bool> {
        let _ = (name, if_exists);
        Err(Error::internal("not yet"))
    }
    /// The first start: creates the superuser with a random password and writes `<data-dir>/passfile` (libpq's
    /// format, mode 0600). Returns the passfile's path when it did.
    pub async fn ensure_superuser(&self, name: &str, port: u16) -> Result<Option<std::path::PathBuf>> {
        let _ = (name, port);
        Err(Error::internal("not yet"))
    }
}
