//! Roles and their SCRAM-SHA-256 verifiers, durable with the rest of the catalog.
//!
//! A password is never kept: only RFC 5803's verifier, in the form PostgreSQL stores
//! (`SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`), from which it cannot be read back and with which
//! nobody can log in.

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use portrait_udfs::error::{Code, Error, Result};
use ring::rand::SecureRandom;
use ring::{digest, hmac, pbkdf2, rand};

use super::file::StoredRole;

/// Higher than PostgreSQL's 4096: guessing gets four times dearer, a login takes some milliseconds.
const ITERATIONS: u32 = 16_384;
const SALT_BYTES: usize = 16;
const PASSWORD_CHARACTERS: usize = 24;
const PREFIX: &str = "SCRAM-SHA-256$";

/// A SCRAM-SHA-256 verifier: what the server keeps of a password.
#[derive(Clone, PartialEq, Eq)]
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

impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramVerifier").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

impl fmt::Display for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encode = |bytes: &[u8]| BASE64.encode(bytes);
        let (salt, stored, server) = (encode(&self.salt), encode(&self.stored_key), encode(&self.server_key));
        write!(f, "{PREFIX}{}:{salt}${stored}:{server}", self.iterations)
    }
}

impl ScramVerifier {
    /// Derives a verifier with a fresh salt (RFC 5802, section 3).
    ///
    /// # Errors
    /// No randomness from the system.
    pub fn from_password(password: &str) -> Result<Self> {
        Ok(Self::derive(password, random_bytes::<SALT_BYTES>()?.to_vec(), ITERATIONS))
    }

    /// Reads PostgreSQL's text form; `None` when it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let (cost, keys) = text.strip_prefix(PREFIX)?.split_once('$')?;
        let (iterations, salt) = cost.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        let key = |text: &str| BASE64.decode(text).ok()?.try_into().ok();
        let iterations = iterations.parse().ok().filter(|count| *count > 0)?;
        Some(Self { iterations, salt: BASE64.decode(salt).ok()?, stored_key: key(stored)?, server_key: key(server)? })
    }

    /// A verifier for a role that does not exist: the same for the same name and secret, so that an answer does not
    /// tell whether a role exists. No password fits it.
    pub fn decoy(name: &str, secret: &[u8; 32]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let part = |label: &str| tag(&key, format!("{label}:{name}").as_bytes());
        Self { iterations: ITERATIONS, salt: part("salt")[..SALT_BYTES].to_vec(), stored_key: part("stored"), server_key: part("server") }
    }

    /// Whether `password` is the one (for plain-text checks; the SCRAM exchange itself needs only the keys).
    pub fn matches(&self, password: &str) -> bool {
        let other = Self::derive(password, self.salt.clone(), self.iterations);
        let difference = other.stored_key.iter().zip(&self.stored_key).fold(0, |sum, (a, b)| sum | (a ^ b));
        difference == 0
    }

    fn derive(password: &str, salt: Vec<u8>, iterations: u32) -> Self {
        // As PostgreSQL: what SASLprep refuses is used as it is.
        let prepared = stringprep::saslprep(password).unwrap_or(password.into());
        let mut salted = [0; digest::SHA256_OUTPUT_LEN];
        let count = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, count, &salt, prepared.as_bytes(), &mut salted);
        let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
        let client_key = tag(&key, b"Client Key");
        let mut stored_key = [0; 32];
        stored_key.copy_from_slice(digest::digest(&digest::SHA256, &client_key).as_ref());
        Self { iterations, salt, stored_key, server_key: tag(&key, b"Server Key") }
    }
}

/// One role.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Connections at once; `None` = as many as there are.
    pub connection_limit: Option<u32>,
}

/// What `CREATE ROLE`/`ALTER ROLE` says; `None` leaves a thing as it is.
#[derive(Debug, Clone, Default)]
pub struct RoleOptions {
    /// `SUPERUSER` / `NOSUPERUSER`.
    pub superuser: Option<bool>,
    /// `LOGIN` / `NOLOGIN` (`CREATE USER` means LOGIN).
    pub login: Option<bool>,
    /// `PASSWORD '…'` (plain, or a ready `SCRAM-SHA-256$…` verifier); `Some(None)` is `PASSWORD NULL`.
    pub password: Option<Option<String>>,
    /// `CONNECTION LIMIT n`; `Some(None)` is −1, no limit.
    pub connection_limit: Option<Option<u32>>,
}

impl super::Catalog {
    /// Gives a table to another role.
    ///
    /// # Errors
    /// 42P01; 42501 for a caller that does not own it or is no member of the new owner; 42704 for a role that does not exist.
    pub async fn change_owner(&self, caller: &str, table: &str, owner: &str) -> Result<()> {
        let (caller, table, owner) = (caller.to_owned(), table.to_owned(), owner.to_owned());
        self.inner
            .change(move |definitions| {
                let missing = || Error::new(Code::UndefinedTable, format!("relation \"{table}\" does not exist"));
                let before = definitions.relations.get(&table).ok_or_else(missing)?.owner.clone();
                super::access::Rights::owner_in(definitions, &caller, &before, &super::Object::table(table.as_str()))?;
                if !definitions.roles.contains_key(&owner) {
                    return Err(undefined_role(&owner));
                }
                if !super::access::is_superuser(definitions, &caller) && !definitions.access.closure(&caller).contains(&owner) {
                    return Err(Error::new(Code::InsufficientPrivilege, format!("must be able to SET ROLE \"{owner}\"")));
                }
                definitions.access.change_owner(&super::Object::table(table.as_str()), &before, &owner);
                definitions.relations.get_mut(&table).ok_or_else(missing)?.owner = owner;
                Ok(())
            })
            .await
    }

    /// The first superuser by name.
    pub fn first_superuser(&self) -> String {
        self.inner.state().definitions.first_superuser()
    }

    /// All roles, by name.
    pub fn roles(&self) -> Vec<Role> {
        self.inner.state().definitions.roles.iter().map(|(name, stored)| role(name, stored)).collect()
    }

    /// One role.
    pub fn role(&self, name: &str) -> Option<Role> {
        self.inner.state().definitions.roles.get(name).map(|stored| role(name, stored))
    }

    /// `CREATE ROLE`.
    ///
    /// # Errors
    /// 42710 when it exists, 22023 for an empty password.
    pub async fn create_role(&self, name: &str, options: RoleOptions) -> Result<()> {
        let verifier = verifier_text(&options)?.flatten();
        let name = name.to_owned();
        self.inner
            .change(move |definitions| {
                if name.starts_with("pg_") || matches!(name.as_str(), "public" | "none") {
                    return Err(Error::new(Code::ReservedName, format!("role name \"{name}\" is reserved"))
                        .detail("Role names starting with \"pg_\", \"public\" and \"none\" are reserved."));
                }
                if definitions.roles.contains_key(&name) {
                    return Err(Error::new(Code::DuplicateObject, format!("role \"{name}\" already exists")));
                }
                let stored = StoredRole {
                    oid: definitions.take_oid(),
                    superuser: options.superuser.unwrap_or(false),
                    login: options.login.unwrap_or(false),
                    verifier,
                    connection_limit: options.connection_limit.flatten(),
                };
                definitions.roles.insert(name, stored);
                Ok(())
            })
            .await
    }

    /// `ALTER ROLE`.
    ///
    /// # Errors
    /// 42704 when it does not exist.
    pub async fn alter_role(&self, name: &str, options: RoleOptions) -> Result<()> {
        let verifier = verifier_text(&options)?;
        let name = name.to_owned();
        self.inner
            .change(move |definitions| {
                let last = is_last_superuser(&definitions.roles, &name);
                let stored = definitions.roles.get_mut(&name).ok_or_else(|| undefined_role(&name))?;
                if last && (options.superuser == Some(false) || options.login == Some(false)) {
                    return Err(last_superuser());
                }
                stored.superuser = options.superuser.unwrap_or(stored.superuser);
                stored.login = options.login.unwrap_or(stored.login);
                stored.connection_limit = options.connection_limit.unwrap_or(stored.connection_limit);
                if let Some(verifier) = verifier {
                    stored.verifier = verifier;
                }
                Ok(())
            })
            .await
    }

    /// `DROP ROLE`; returns whether there was one.
    ///
    /// # Errors
    /// 42704 without `if_exists`, 2BP01 when it owns something or is the last superuser.
    pub async fn drop_role(&self, name: &str, if_exists: bool) -> Result<bool> {
        let name = name.to_owned();
        self.inner
            .change(move |definitions| {
                if !definitions.roles.contains_key(&name) {
                    return if if_exists { Ok(false) } else { Err(undefined_role(&name)) };
                }
                if is_last_superuser(&definitions.roles, &name) {
                    return Err(last_superuser());
                }
                if let Some((owned, _)) = definitions.relations.iter().find(|(_, relation)| relation.owner == name) {
                    let message = format!("role \"{name}\" cannot be dropped because some objects depend on it");
                    return Err(Error::new(Code::DependentObjects, message).detail(format!("It is the owner of \"{owned}\".")));
                }
                let dependent = |detail: String| {
                    let message = format!("role \"{name}\" cannot be dropped because some objects depend on it");
                    Error::new(Code::DependentObjects, message).detail(detail)
                };
                if let Some((owned, _)) = definitions.audiences.iter().find(|(_, audience)| audience.owner == name) {
                    return Err(dependent(format!("It is the owner of audience \"{owned}\".")));
                }
                if let Some(found) = definitions.access.names(&name) {
                    return Err(dependent(format!("It has {found}.")).hint("REVOKE them first."));
                }
                definitions.access.members.remove(&name);
                for members in definitions.access.members.values_mut() {
                    members.remove(&name);
                }
                definitions.access.members.retain(|_, members| !members.is_empty());
                definitions.roles.remove(&name);
                Ok(true)
            })
            .await
    }

    /// The first start: creates the superuser `name` with a random password and writes `<data-dir>/passfile`, which
    /// libpq reads (`PGPASSFILE`), mode 0600. Returns its path, or `None` when there are roles already.
    ///
    /// # Errors
    /// The file or the catalog cannot be written.
    pub async fn ensure_superuser(&self, name: &str) -> Result<Option<PathBuf>> {
        if !self.inner.state().definitions.roles.is_empty() {
            return Ok(None);
        }
        let password = random_password()?;
        let path = self.inner.folder.join("passfile");
        write_secret(&path, &format!("*:*:*:{name}:{password}\n"))?;
        let options = RoleOptions { superuser: Some(true), login: Some(true), password: Some(Some(password)), ..RoleOptions::default() };
        self.create_role(name, options).await?;
        Ok(Some(path))
    }
}

fn role(name: &str, stored: &StoredRole) -> Role {
    Role {
        name: name.to_owned(),
        oid: stored.oid,
        superuser: stored.superuser,
        login: stored.login,
        verifier: stored.verifier.as_deref().and_then(ScramVerifier::parse),
        connection_limit: stored.connection_limit,
    }
}

fn verifier_text(options: &RoleOptions) -> Result<Option<Option<String>>> {
    match &options.password {
        None => Ok(None),
        Some(None) => Ok(Some(None)),
        Some(Some(password)) if password.is_empty() => Err(Error::invalid("a password must not be empty")),
        Some(Some(password)) => {
            let verifier = ScramVerifier::parse(password).map_or_else(|| ScramVerifier::from_password(password), Ok)?;
            Ok(Some(Some(verifier.to_string())))
        }
    }
}

fn undefined_role(name: &str) -> Error {
    Error::new(Code::UndefinedObject, format!("role \"{name}\" does not exist"))
}

fn is_last_superuser(roles: &std::collections::BTreeMap<String, StoredRole>, name: &str) -> bool {
    let can = |role: &StoredRole| role.superuser && role.login;
    roles.get(name).is_some_and(can) && roles.iter().filter(|(_, role)| can(role)).count() == 1
}

fn last_superuser() -> Error {
    Error::new(Code::DependentObjects, "the last superuser that can log in cannot be dropped or demoted")
        .hint("Create another superuser first.")
}

fn tag(key: &hmac::Key, data: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hmac::sign(key, data).as_ref());
    bytes
}

pub(super) fn random_bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    rand::SystemRandom::new().fill(&mut bytes).map_err(|_| Error::internal("the system gives no random bytes"))?;
    Ok(bytes)
}

/// Letters and digits only: a passfile and a connection string need no escapes.
fn random_password() -> Result<String> {
    const ALPHABET: &[u8; 64] = b"abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789abcdefg";
    let bytes = random_bytes::<PASSWORD_CHARACTERS>()?;
    Ok(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 64)])).collect())
}

/// Writes a file that only this user may read.
pub(super) fn write_secret(path: &std::path::Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let _ = std::fs::remove_file(path);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derives_what_the_standard_says() {
        // RFC 7677, section 3: password "pencil", 4096 iterations; keys computed from its exchange.
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = ScramVerifier::derive("pencil", salt, 4096);
        let text = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        assert_eq!(verifier.to_string(), text);
        assert_eq!(ScramVerifier::parse(text), Some(verifier.clone()));
        assert!(verifier.matches("pencil") && !verifier.matches("Pencil"));
    }

    #[test]
    fn text_that_is_no_verifier_is_a_password() {
        for text in ["", "secret", "SCRAM-SHA-256$x", "SCRAM-SHA-256$0:AA==$AA==:AA==", "SCRAM-SHA-256$4096:AA==$AA==:AA=="] {
            assert_eq!(ScramVerifier::parse(text), None, "{text}");
        }
        let one = ScramVerifier::from_password("same").unwrap();
        assert_ne!(one, ScramVerifier::from_password("same").unwrap());
        assert!(one.matches("same"));
        assert!(!format!("{one:?}").contains(&BASE64.encode(one.stored_key)));
    }

    #[test]
    fn decoys_are_stable_and_fit_nothing() {
        let decoy = ScramVerifier::decoy("nobody", &[7; 32]);
        assert_eq!(decoy, ScramVerifier::decoy("nobody", &[7; 32]));
        assert_ne!(decoy.salt, ScramVerifier::decoy("noone", &[7; 32]).salt);
        assert!(!decoy.matches(""));
    }
}
