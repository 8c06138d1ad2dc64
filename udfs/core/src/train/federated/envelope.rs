//! What lies in an exchange: a message that is whole, of this format, and of this training.
//!
//! Layout: blake3 of the rest (32 bytes), length of the head (8, little endian), the head as JSON, the body.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result};

/// The format this build writes; another one is not read.
const FORMAT: u32 = 1;
const HASH_BYTES: usize = 32;
const LENGTH_BYTES: usize = 8;

#[derive(Serialize, Deserialize)]
struct Head<T> {
    format: u32,
    /// Which training; messages of another one are not meant.
    run: String,
    message: T,
}

fn damaged(name: &str, reason: impl std::fmt::Display) -> Error {
    Error::new(Code::DataCorrupted, format!("file \"{name}\" of the exchange is damaged")).detail(format!("{reason}."))
}

/// A message in bytes.
pub(super) fn seal<T: Serialize>(run: &str, message: &T, body: &[u8]) -> Result<Vec<u8>> {
    let head = Head { format: FORMAT, run: run.to_owned(), message };
    let head = serde_json::to_vec(&head).map_err(|error| Error::internal(format!("a message cannot be written: {error}")))?;
    let mut rest = (head.len() as u64).to_le_bytes().to_vec();
    rest.extend(head);
    rest.extend_from_slice(body);
    let mut bytes = blake3::hash(&rest).as_bytes().to_vec();
    bytes.extend(rest);
    Ok(bytes)
}

/// The message, its run, and its body.
///
/// # Errors
/// XX001 naming the file when it is not whole; 0A000 when another version wrote it.
pub(super) fn open<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<(String, T, Vec<u8>)> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let (hash, rest) = bytes.split_at_checked(HASH_BYTES).ok_or_else(|| damaged(name, "It is too short"))?;
    if blake3::hash(rest).as_bytes() != hash {
        return Err(damaged(name, "Its checksum is wrong"));
    }
    let (length, rest) = rest.split_at_checked(LENGTH_BYTES).ok_or_else(|| damaged(name, "It is too short"))?;
    let length = length.try_into().map(u64::from_le_bytes).map_err(|error| damaged(name, error))?;
    let split = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
    let (head, body) = split.ok_or_else(|| damaged(name, "It is too short"))?;
    let format: Format = serde_json::from_slice(head).map_err(|error| damaged(name, error))?;
    if format.format != FORMAT {
        return Err(Error::new(Code::FeatureNotSupported, format!("file \"{name}\" of the exchange has an unknown format"))
            .detail(format!("It has format {}; this server reads format {FORMAT}.", format.format))
            .hint("Use the same version of Portrait everywhere."));
    }
    let head: Head<T> = serde_json::from_slice(head).map_err(|error| damaged(name, error))?;
    Ok((head.run, head.message, body.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_and_damage_is_noticed() {
        let bytes = seal("run", &(1u32, "a".to_owned()), b"body").unwrap();
        let (run, message, body) = open::<(u32, String)>("x", &bytes).unwrap();
        assert_eq!((run.as_str(), message, body.as_slice()), ("run", (1, "a".to_owned()), b"body".as_slice()));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            assert_eq!(open::<(u32, String)>("x", &damaged).unwrap_err().code, Code::DataCorrupted, "{at}");
        }
        assert_eq!(open::<(u32, String)>("x", &bytes[..bytes.len() - 1]).unwrap_err().code, Code::DataCorrupted);
        assert_eq!(open::<(u32, String)>("x", b"").unwrap_err().code, Code::DataCorrupted);
    }
}
