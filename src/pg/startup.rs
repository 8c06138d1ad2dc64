//! From an accepted socket to a client that is known: encryption, startup packet, authentication, parameters.
//!
//! Every error here is FATAL and closes the connection; nothing a client sends before it is known is executed.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, Bytes};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::startup::{Authentication, NegotiateProtocolVersion, ParameterStatus};
use tokio::net::TcpStream;

use super::auth;
use super::cancel::{LONG_KEY_BYTES, SHORT_KEY_BYTES};
use super::listener::Shared;
use super::message::utf8;
use super::sqlstate::{PgError, PgResult};
use super::tls::{Identity, TlsConfig};
use super::wire::{Stream, Wire};
use crate::catalog::Catalog;
use crate::config::AuthMode;

/// PostgreSQL's own limit on a startup packet.
const STARTUP_BYTES_MAX: usize = 10_000;
const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;
/// How long a wrong cancel key or password is left waiting, so that guessing takes its time.
const GUESS_DELAY: Duration = Duration::from_millis(250);
/// The one database.
pub(crate) const DATABASE: &str = "portrait";

/// What a client said of itself.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) user: String,
    pub(crate) peer: SocketAddr,
    /// Settings of the startup packet, in order; those of `options` first.
    pub(crate) settings: Vec<(String, String)>,
    /// Bytes of the cancel key in the protocol version agreed on.
    pub(crate) key_bytes: usize,
}

/// The end of a connection's first phase.
pub(crate) enum Greeting {
    /// Known; `AuthenticationOk` is in the output buffer.
    Client(Box<(Wire, Client)>),
    /// It was a cancel request, or the socket closed.
    Done,
}

/// Greets a client: at most one encryption request, then startup or cancel.
///
/// # Errors
/// The reply to send before closing, with the wire to send it on. Without a wire there is nobody to tell.
pub(crate) async fn greet(tcp: TcpStream, peer: SocketAddr, shared: &Shared) -> Result<Greeting, (Option<Wire>, PgError)> {
    let mut wire = Wire::new(Stream::Plain(tcp), shared.limits.write_timeout);
    // The one certificate of this connection, whatever is loaded meanwhile.
    let tls = shared.tls.as_ref().map(TlsConfig::now);
    loop {
        let packet = match packet(&mut wire).await {
            Ok(Some(packet)) => packet,
            Ok(None) => return Ok(Greeting::Done),
            Err(error) => return Err((Some(wire), error)),
        };
        match Packet::read(packet) {
            Err(error) => return Err((Some(wire), error)),
            Ok(Packet::Ssl) => wire = encrypt(wire, tls.as_ref(), shared).await?,
            Ok(Packet::Gss) => {
                wire.put_byte(b'N');
                if wire.flush().await.is_err() {
                    return Ok(Greeting::Done);
                }
            }
            Ok(Packet::Cancel { pid, key }) => {
                if shared.cancels.cancel(pid, &key) {
                    shared.metrics.cancelled();
                } else {
                    tokio::time::sleep(GUESS_DELAY).await;
                }
                // Over TLS an end without a goodbye is an error to the client.
                wire.close().await;
                return Ok(Greeting::Done);
            }
            Ok(Packet::Startup { version, parameters }) => {
                return match start(&mut wire, version, parameters, (peer, tls.as_ref()), shared).await {
                    Ok(client) => Ok(Greeting::Client(Box::new((wire, client)))),
                    Err(error) => {
                        tracing::warn!(%peer, sqlstate = error.sqlstate, message = %error.message, "connection refused");
                        if error.sqlstate.starts_with("28") {
                            tokio::time::sleep(GUESS_DELAY).await;
                        }
                        Err((Some(wire), error))
                    }
                };
            }
        }
    }
}

async fn packet(wire: &mut Wire) -> PgResult<Option<Bytes>> {
    loop {
        if let Some(packet) = wire.take_packet(STARTUP_BYTES_MAX)? {
            return Ok(Some(packet));
        }
        if !wire.fill().await.unwrap_or(false) {
            return Ok(None);
        }
    }
}

/// Answers an SSLRequest, with the handshake when TLS is configured.
async fn encrypt(mut wire: Wire, tls: Option<&Identity>, shared: &Shared) -> Result<Wire, (Option<Wire>, PgError)> {
    let tls = tls.filter(|_| !wire.is_tls());
    wire.put_byte(if tls.is_some() { b'S' } else { b'N' });
    let lost = |text: String| (None, PgError::fatal("08006", text));
    wire.flush().await.map_err(|error| lost(error.to_string()))?;
    let Some(tls) = tls else { return Ok(wire) };
    let Some(tcp) = wire.into_plain() else {
        return Err(lost("received unencrypted data after SSL request".into()));
    };
    let stream = tls.acceptor.accept(tcp).await.map_err(|error| lost(error.to_string()))?;
    Ok(Wire::new(Stream::Tls(Box::new(stream)), shared.limits.write_timeout))
}

/// Packets that come before a client is known.
#[derive(Debug)]
enum Packet {
    Ssl,
    Gss,
    Cancel { pid: i32, key: Bytes },
    Startup { version: (u16, u16), parameters: Vec<(String, String)> },
}

impl Packet {
    fn read(mut body: Bytes) -> PgResult<Self> {
        let invalid = || PgError::protocol("invalid startup packet layout");
        if body.remaining() < 4 {
            return Err(invalid());
        }
        match body.get_u32() {
            SSL_REQUEST => Ok(Self::Ssl),
            GSS_REQUEST => Ok(Self::Gss),
            CANCEL_REQUEST if (4 + SHORT_KEY_BYTES..=4 + 256).contains(&body.remaining()) => {
                Ok(Self::Cancel { pid: body.get_i32(), key: body })
            }
            CANCEL_REQUEST => Err(PgError::protocol("invalid length of cancel request packet")),
            version => {
                let version = ((version >> 16) as u16, version as u16);
                if version.0 != 3 {
                    let (major, minor) = version;
                    return Err(PgError::fatal(
                        "08P01",
                        format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.2"),
                    ));
                }
                let mut parameters = Vec::new();
                let mut texts = body.split(|byte| *byte == 0);
                loop {
                    match texts.next().ok_or_else(invalid)? {
                        [] => return Ok(Self::Startup { version, parameters }),
                        name => {
                            let value = texts.next().ok_or_else(invalid)?;
                            parameters.push((
                                utf8(name).map_err(PgError::into_fatal)?.to_owned(),
                                utf8(value).map_err(PgError::into_fatal)?.to_owned(),
                            ));
                        }
                    }
                }
            }
        }
    }
}

async fn start(
    wire: &mut Wire,
    version: (u16, u16),
    parameters: Vec<(String, String)>,
    (peer, tls): (SocketAddr, Option<&Identity>),
    shared: &Shared,
) -> PgResult<Client> {
    let (mut user, mut database, mut unknown) = (None, None, Vec::new());
    let (mut options, mut settings) = (Vec::new(), Vec::new());
    for (name, value) in parameters {
        match name.as_str() {
            "user" => user = Some(value),
            "database" => database = Some(value),
            "options" => options = split_options(&value)?,
            "replication" if !matches!(value.as_str(), "false" | "off" | "no" | "0") => {
                return Err(PgError::fatal("0A000", "replication connections are not supported"));
            }
            "replication" => {}
            name if name.starts_with("_pq_.") => unknown.push(name.to_owned()),
            // PostgreSQL looks at letters and digits only: asyncpg sends `'utf-8'`, with the quotes.
            "client_encoding" => settings.push((name, value.chars().filter(char::is_ascii_alphanumeric).collect())),
            _ => settings.push((name, value)),
        }
    }
    options.append(&mut settings);
    negotiate(wire, version, unknown)?;
    let user = user
        .filter(|user| !user.is_empty())
        .ok_or_else(|| PgError::fatal("28000", "no PostgreSQL user name specified in startup packet"))?;
    match shared.auth {
        AuthMode::Trust if peer.ip().is_loopback() => trusted(shared.engine.catalog(), &user)?,
        AuthMode::Trust => {
            return Err(PgError::fatal("28000", format!("connections from \"{}\" are not trusted", peer.ip())));
        }
        AuthMode::Scram => auth::authenticate(wire, shared.engine.catalog(), tls, &user).await.map_err(PgError::into_fatal)?,
    }
    let database = database.filter(|name| !name.is_empty()).unwrap_or_else(|| user.clone());
    if database != DATABASE {
        return Err(
            PgError::fatal("3D000", format!("database \"{database}\" does not exist")).hint(format!("The one database is \"{DATABASE}\"."))
        );
    }
    wire.put(PgWireBackendMessage::Authentication(Authentication::Ok))?;
    let key_bytes = if version.1 >= 2 { LONG_KEY_BYTES } else { SHORT_KEY_BYTES };
    Ok(Client { user, peer, settings: options, key_bytes })
}

/// Who is trusted must still be somebody, once there are roles.
fn trusted(catalog: &Catalog, user: &str) -> PgResult<()> {
    match catalog.role(user) {
        Some(role) if role.login => Ok(()),
        Some(_) => Err(PgError::fatal("28000", format!("role \"{user}\" is not permitted to log in"))),
        None if catalog.roles().is_empty() => Ok(()),
        None => Err(PgError::fatal("28000", format!("role \"{user}\" does not exist"))),
    }
}

/// Says which protocol is spoken when the client asked for a newer one, or for options we do not know.
fn negotiate(wire: &mut Wire, version: (u16, u16), unknown: Vec<String>) -> PgResult<()> {
    if version.1 > 2 || !unknown.is_empty() {
        let spoken = (3 << 16) | i32::from(version.1.min(2));
        wire.put(PgWireBackendMessage::NegotiateProtocolVersion(NegotiateProtocolVersion::new(spoken, unknown)))?;
    }
    Ok(())
}

/// `options` of the startup packet: `-c name=value` and `--name=value`; a backslash keeps a blank.
fn split_options(text: &str) -> PgResult<Vec<(String, String)>> {
    let mut words = vec![String::new()];
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => words.last_mut().into_iter().for_each(|word| word.extend(characters.next())),
            character if character.is_ascii_whitespace() => words.push(String::new()),
            character => words.last_mut().into_iter().for_each(|word| word.push(character)),
        }
    }
    let mut words = words.into_iter().filter(|word| !word.is_empty());
    let mut settings = Vec::new();
    while let Some(word) = words.next() {
        let assignment = match word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            Some("") => words.next(),
            Some(assignment) => Some(assignment.to_owned()),
            None => None,
        };
        let (name, value) = assignment
            .as_deref()
            .and_then(|assignment| assignment.split_once('='))
            .ok_or_else(|| PgError::fatal("42601", format!("invalid command-line argument for server process: {word}")))?;
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

/// A parameter that the client keeps track of.
pub(crate) fn put_parameter(wire: &mut Wire, name: &str, value: &str) -> PgResult<()> {
    wire.put(PgWireBackendMessage::ParameterStatus(ParameterStatus::new(name.to_owned(), value.to_owned())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn options_are_split_as_a_shell_would() {
        let settings = split_options(r"-c search_path=a\ b --statement-timeout=5s -cDateStyle=ISO").unwrap();
        let expected = [("search_path", "a b"), ("statement_timeout", "5s"), ("DateStyle", "ISO")];
        assert_eq!(settings, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(split_options("-x").unwrap_err().sqlstate, "42601");
        assert_eq!(split_options("-c").unwrap_err().sqlstate, "42601");
    }

    #[test]
    fn startup_packets_are_read_strictly() {
        let mut packet = 196_608_u32.to_be_bytes().to_vec();
        packet.extend_from_slice(b"user\0ann\0database\0portrait\0\0");
        match Packet::read(Bytes::from(packet.clone())).unwrap() {
            Packet::Startup { version: (3, 0), parameters } => assert_eq!(parameters[0], ("user".into(), "ann".into())),
            other => panic!("{other:?}"),
        }
        packet.truncate(packet.len() - 10);
        assert!(Packet::read(Bytes::from(packet)).is_err());
        assert!(Packet::read(Bytes::from_static(b"\0\x02\0\0")).is_err());
    }

    proptest! {
        #[test]
        fn no_packet_panics(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Packet::read(Bytes::from(body));
        }
    }
}
