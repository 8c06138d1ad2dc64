//! Who connects: SCRAM-SHA-256 against stored verifiers, or trust on loopback.
//!
//! One exchange belongs to one connection. Unknown names walk through the same exchange as known ones, with a
//! verifier made from the name, so that neither the answers nor their timing tell which names exist.

use bytes::{BufMut, Bytes, BytesMut};
use pgwire::api::auth::sasl::scram::{ScramSecret, ScramServerAuth};
use pgwire::error::PgWireError;
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::startup::Authentication;

use super::message::Reader;
use super::sqlstate::{PgError, PgResult};
use super::tls::Identity;
use super::wire::Wire;
use crate::catalog::{Catalog, ScramVerifier};

const SCRAM: &str = "SCRAM-SHA-256";
const SCRAM_PLUS: &str = "SCRAM-SHA-256-PLUS";
/// No message of an exchange is longer.
pub(crate) const PASSWORD_MESSAGE_BYTES_MAX: usize = 8 * 1024;

/// Lets `user` in, or says why not. Does not send `AuthenticationOk`.
pub(crate) async fn authenticate(wire: &mut Wire, catalog: &Catalog, tls: Option<&Identity>, user: &str) -> PgResult<()> {
    let role = catalog.role(user);
    let verifier = role.as_ref().and_then(|role| role.verifier.clone());
    let known = verifier.is_some();
    let secret = secret(verifier.unwrap_or_else(|| decoy(catalog, user)));
    let accepted = scram(wire, tls.filter(|_| wire.is_tls()), secret).await?;
    if !accepted || !known {
        return Err(PgError::fatal("28P01", format!("password authentication failed for user \"{user}\"")));
    }
    if role.is_some_and(|role| !role.login) {
        return Err(PgError::fatal("28000", format!("role \"{user}\" is not permitted to log in")));
    }
    Ok(())
}

fn secret(verifier: ScramVerifier) -> ScramSecret {
    ScramSecret::Verifier {
        salt: verifier.salt,
        iterations: verifier.iterations as usize,
        stored_key: verifier.stored_key.to_vec(),
        server_key: verifier.server_key.to_vec(),
    }
}

/// A verifier that nobody's password fits, the same for a name each time: made from the name under a secret of this
/// data directory (the verifiers it holds).
fn decoy(catalog: &Catalog, user: &str) -> ScramVerifier {
    let mut secret = blake3::Hasher::new_derive_key("portrait decoy scram verifier v1");
    for role in catalog.roles() {
        if let Some(verifier) = &role.verifier {
            secret.update(&verifier.stored_key);
        }
    }
    ScramVerifier::decoy(user, secret.finalize().as_bytes())
}

/// The exchange; says whether the proof was right.
async fn scram(wire: &mut Wire, tls: Option<&Identity>, secret: ScramSecret) -> PgResult<bool> {
    let mut server = ScramServerAuth::new();
    // A certificate whose signature has no hash of its own (Ed25519) has no channel binding; the rest stays.
    let plus = tls.is_some_and(|tls| server.configure_certificate(&tls.certificate_pem).is_ok());
    let mechanisms = if plus { vec![SCRAM_PLUS.to_owned(), SCRAM.to_owned()] } else { vec![SCRAM.to_owned()] };
    ask(wire, Authentication::SASL(mechanisms)).await?;

    let mut first = Reader(answer(wire).await?);
    let mechanism = first.text()?;
    if mechanism != SCRAM && !(plus && mechanism == SCRAM_PLUS) {
        return Err(PgError::protocol("client selected an invalid SASL authentication mechanism"));
    }
    let length = usize::try_from(first.i32()?).map_err(|_| PgError::protocol("malformed SCRAM message"))?;
    let client_first = first.bytes(length)?;
    if client_first.starts_with(b"p=") != (mechanism == SCRAM_PLUS) {
        return Err(PgError::protocol("malformed SCRAM message").detail("The channel binding flag does not fit the mechanism."));
    }
    let (server_first, exchange) = server.on_client_first_message_with_secret(&client_first, secret).map_err(malformed)?;
    ask(wire, Authentication::SASLContinue(Bytes::from(server_first))).await?;

    let client_final = answer(wire).await?;
    match exchange.on_client_final_message(&client_final) {
        Ok(server_final) => {
            wire.put(PgWireBackendMessage::Authentication(Authentication::SASLFinal(Bytes::from(server_final))))?;
            Ok(true)
        }
        Err(PgWireError::InvalidPassword(_)) => Ok(false),
        Err(error) => Err(malformed(error)),
    }
}

fn malformed(error: PgWireError) -> PgError {
    PgError::protocol("malformed SCRAM message").detail(error.to_string())
}

async fn ask(wire: &mut Wire, authentication: Authentication) -> PgResult<()> {
    wire.put(PgWireBackendMessage::Authentication(authentication))?;
    wire.flush().await.map_err(lost)
}

/// The next password message; nothing else is read before a client is known.
async fn answer(wire: &mut Wire) -> PgResult<Bytes> {
    loop {
        match wire.take_message(|_| PASSWORD_MESSAGE_BYTES_MAX)? {
            Some((b'p', body)) => return Ok(body),
            Some((kind, _)) => return Err(PgError::protocol(format!("expected SASL response, got message type {kind}"))),
            None => {
                if !wire.fill().await.map_err(lost)? {
                    return Err(PgError::fatal("08006", "connection lost during authentication"));
                }
            }
        }
    }
}

fn lost(error: std::io::Error) -> PgError {
    PgError::fatal("08006", "connection lost during authentication").detail(error.to_string())
}

/// `BackendKeyData` with a key of any length; pgwire's own knows 4 bytes or 3.2's, not which.
pub(crate) fn put_key_data(output: &mut BytesMut, pid: i32, key: &[u8]) {
    output.put_u8(b'K');
    output.put_i32(8 + key.len() as i32);
    output.put_i32(pid);
    output.put_slice(key);
}
