//! The catalog's one file: every definition, versioned, checked, replaced atomically.
//!
//! Two lines: a header with the format version and a BLAKE3 hash, then the definitions as JSON. A file from a newer
//! program is refused, not guessed at; a damaged one is XX001 and never silently an empty catalog.

use std::collections::BTreeMap;

use object_store::path::Path;
use portrait_udfs::error::{Code, Error, Result};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::access::StoredAccess;
use super::erasure::StoredErasures;
use super::materialized::StoredMaterialized;
use super::owner::StoredOwner;
use super::views::ViewOptions;
use crate::storage::{ExternalSource, Role, Store, Tag};

/// The newest format that this program reads and the one it writes.
const FORMAT_VERSION: u32 = 1;
/// Object ids below are PostgreSQL's own.
const FIRST_OID: u32 = 16_384;
const FILE: &str = "catalog/catalog.json";

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format_version: u32,
    blake3: String,
}

/// Everything the catalog remembers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Definitions {
    /// The next object id; ids are never reused.
    pub(super) next_oid: u32,
    /// Relations of schema `public`, by name.
    pub(super) relations: BTreeMap<String, Relation>,
    /// Roles, by name.
    pub(super) roles: BTreeMap<String, StoredRole>,
    /// Audiences, by name.
    #[serde(default)]
    pub(super) audiences: BTreeMap<String, StoredAudience>,
    /// The queries of materialized views, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) materialized: BTreeMap<String, StoredMaterialized>,
    /// Who may do what.
    #[serde(default, skip_serializing_if = "StoredAccess::is_empty")]
    pub(super) access: StoredAccess,
    /// Users who are forgotten.
    #[serde(default, skip_serializing_if = "StoredErasures::is_empty")]
    pub(super) erasures: StoredErasures,
    /// The server that writes to the store, where several can reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) owner: Option<StoredOwner>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Relation {
    pub(super) oid: u32,
    pub(super) owner: String,
    /// The columns: an Arrow schema in IPC form, base64.
    pub(super) schema: String,
    pub(super) body: Body,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Body {
    Managed {
        folder: Uuid,
        #[serde(default, skip_serializing_if = "Role::is_plain")]
        role: Role,
    },
    External(ExternalSource),
    View {
        query: String,
        #[serde(default, skip_serializing_if = "ViewOptions::is_empty")]
        options: ViewOptions,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredRole {
    pub(super) oid: u32,
    pub(super) superuser: bool,
    pub(super) login: bool,
    /// `SCRAM-SHA-256$…`, as PostgreSQL stores it.
    pub(super) verifier: Option<String>,
    /// Connections at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) connection_limit: Option<u32>,
}

/// A named set of users and the query that makes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredAudience {
    pub(super) owner: String,
    pub(super) query: String,
    /// Whether its users are called by texts; by whole numbers otherwise.
    pub(super) text_key: bool,
    /// The oldest first.
    pub(super) versions: Vec<StoredVersion>,
    pub(super) refreshed_at_us: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredVersion {
    pub(super) version: u32,
    /// The file of the set.
    pub(super) file: Uuid,
    pub(super) members: u64,
    pub(super) bytes: u64,
    /// BLAKE3 of the set.
    pub(super) hash: String,
    pub(super) created_at_us: i64,
}

impl Default for Definitions {
    fn default() -> Self {
        Self {
            next_oid: FIRST_OID,
            relations: BTreeMap::new(),
            roles: BTreeMap::new(),
            audiences: BTreeMap::new(),
            materialized: BTreeMap::new(),
            access: StoredAccess::default(),
            erasures: StoredErasures::default(),
            owner: None,
        }
    }
}

impl Definitions {
    /// The first superuser by name; what belongs to nobody else belongs to it.
    pub(super) fn first_superuser(&self) -> String {
        self.roles.iter().find(|(_, role)| role.superuser).map_or_else(|| "portrait".to_owned(), |(name, _)| name.clone())
    }

    /// A fresh object id.
    pub(super) fn take_oid(&mut self) -> u32 {
        let oid = self.next_oid;
        self.next_oid += 1;
        oid
    }

    /// Reads the catalog of a store, and what its file was; a new one is empty.
    pub(super) async fn read(store: &Store) -> Result<(Self, Tag)> {
        match store.read(&Path::from(FILE)).await? {
            Some((bytes, tag)) => Ok((Self::decode(&bytes)?, tag)),
            None => Ok((Self::default(), Tag::default())),
        }
    }

    /// Replaces the catalog; durable when it returns.
    ///
    /// # Errors
    /// 40001 when it is no longer what `tag` says; failures of the store.
    pub(super) async fn write(&self, store: &Store, tag: &mut Tag) -> Result<()> {
        store.replace(&Path::from(FILE), self.encode()?.into(), tag).await
    }

    /// Whether the catalog's file is what `tag` says.
    pub(super) async fn is_still(store: &Store, tag: &Tag) -> Result<bool> {
        store.is_still(&Path::from(FILE), tag).await
    }

    fn encode(&self) -> Result<Vec<u8>> {
        let internal = |error: serde_json::Error| Error::internal(format!("catalog not written: {error}"));
        let body = serde_json::to_vec(self).map_err(internal)?;
        let header = Header { format_version: FORMAT_VERSION, blake3: blake3::hash(&body).to_hex().to_string() };
        let mut bytes = serde_json::to_vec(&header).map_err(internal)?;
        bytes.push(b'\n');
        bytes.extend(body);
        Ok(bytes)
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let damaged = |what: &str| Error::new(Code::DataCorrupted, format!("catalog file \"{FILE}\" is damaged: {what}"));
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(|| damaged("no header"))?;
        let (header, body) = (&bytes[..end], &bytes[end + 1..]);
        let header: Header = serde_json::from_slice(header).map_err(|_| damaged("unreadable header"))?;
        if header.format_version > FORMAT_VERSION {
            return Err(Error::new(
                Code::FeatureNotSupported,
                format!("the data directory has format {}, this program reads up to {FORMAT_VERSION}", header.format_version),
            )
            .hint("Use the version of portrait that wrote it, or a newer one."));
        }
        if header.format_version == 0 {
            return Err(damaged("its format version is 0"));
        }
        if blake3::hash(body).to_hex().as_str() != header.blake3 {
            return Err(damaged("its hash is wrong"));
        }
        serde_json::from_slice(body).map_err(|error| damaged(&error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_byte_is_noticed() {
        let mut definitions = Definitions::default();
        let oid = definitions.take_oid();
        let body = Body::View { query: "SELECT 1".into(), options: ViewOptions::default() };
        definitions.relations.insert("v".into(), Relation { oid, owner: "portrait".into(), schema: String::new(), body });
        let bytes = definitions.encode().unwrap();
        let read = Definitions::decode(&bytes).unwrap();
        assert_eq!((read.next_oid, read.relations), (FIRST_OID + 1, definitions.relations));
        for place in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[place] ^= 1;
            assert!(Definitions::decode(&flipped).is_err(), "byte {place}");
        }
    }

    #[test]
    fn what_older_programs_wrote_is_read() {
        let text = r#"{"next_oid":16400,"roles":{},"relations":{"v":{"oid":16390,"owner":"ann","schema":"","body":{"view":{"query":"SELECT 1"}}}},
            "access":{"acls":{"table v":[{"grantee":"bob","grantor":"ann","privileges":"r"}]}}}"#;
        let read: Definitions = serde_json::from_str(text).unwrap();
        assert_eq!(read.relations["v"].body, Body::View { query: "SELECT 1".into(), options: ViewOptions::default() });
        // Nothing says what the owner holds: everything.
        assert!(read.access.acls["table v"].of_owner().is_none() && read.access.defaults.is_empty());
        let again: Definitions = serde_json::from_slice(&serde_json::to_vec(&read).unwrap()).unwrap();
        assert_eq!((again.relations, again.access), (read.relations, read.access));
    }

    #[test]
    fn a_newer_format_is_refused() {
        let newer = b"{\"format_version\":2,\"blake3\":\"\"}\n{}";
        assert_eq!(Definitions::decode(newer).unwrap_err().code, Code::FeatureNotSupported);
    }
}
