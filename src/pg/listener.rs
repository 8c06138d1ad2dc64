//! The accept loop: one task per connection on one of the [`Threads`], limits on how many, and an orderly end.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pgwire::messages::PgWireBackendMessage;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::activity::Logging;
use super::cancel::CancelRegistry;
use super::connection::Connection;
use super::metrics::Metrics;
use super::sqlstate::{PgError, PgResult};
use super::startup::{Client, Greeting, greet};
use super::threads::Threads;
use super::tls::TlsConfig;
use super::wire::Wire;
use crate::catalog::{Object, ObjectClass, Privilege};
use crate::config::AuthMode;
use crate::engine::Engine;
use crate::error::{Error, Result};

/// Connections that are kept for superusers, as in PostgreSQL: whoever mends things must get in.
const RESERVED: usize = 3;

/// What one server allows.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Clients that are known, at once.
    pub(crate) connections: usize,
    /// How many of them only superusers may be.
    pub(crate) reserved: usize,
    /// Sockets that are not known yet, at once; more wait in the kernel's queue.
    pub(crate) unknown: usize,
    /// The same for one remote address.
    pub(crate) unknown_per_address: usize,
    /// From accept to "known".
    pub(crate) startup: Duration,
    /// A client that takes no byte for so long is gone.
    pub(crate) write_timeout: Duration,
    /// Statements that run at shutdown may go on for so long.
    pub(crate) drain: Duration,
}

impl Limits {
    fn of(engine: &Engine) -> Self {
        Self {
            connections: engine.config().max_connections,
            reserved: RESERVED.min(engine.config().max_connections.saturating_sub(1)),
            unknown: 256,
            unknown_per_address: 32,
            startup: Duration::from_secs(10),
            write_timeout: Duration::from_secs(60),
            drain: engine.config().drain_timeout,
        }
    }
}

/// What all connections of one listener share.
pub(crate) struct Shared {
    pub(crate) engine: Arc<Engine>,
    pub(crate) auth: AuthMode,
    pub(crate) tls: Option<TlsConfig>,
    pub(crate) limits: Limits,
    pub(crate) cancels: Arc<CancelRegistry>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) logging: Logging,
    /// Fired when the server goes down: idle connections end, running statements may finish.
    pub(crate) shutdown: CancellationToken,
    connections: Arc<Semaphore>,
    unknown: Mutex<HashMap<IpAddr, usize>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Serves clients until `shutdown` fires, then lets running statements finish for a while.
///
/// # Errors
/// 22023 when the listener is reachable from elsewhere without TLS and passwords: nothing is served then.
pub async fn serve(
    engine: Arc<Engine>,
    listener: TcpListener,
    auth: AuthMode,
    tls: Option<TlsConfig>,
    shutdown: CancellationToken,
) -> Result<()> {
    serve_watched(engine, listener, None, auth, tls, shutdown).await
}

/// As [`serve`], with metrics and health over HTTP on another listener.
///
/// # Errors
/// As [`serve`].
pub async fn serve_watched(
    engine: Arc<Engine>,
    listener: TcpListener,
    http: Option<TcpListener>,
    auth: AuthMode,
    tls: Option<TlsConfig>,
    shutdown: CancellationToken,
) -> Result<()> {
    let address = listener.local_addr()?;
    if !address.ip().is_loopback() && (tls.is_none() || auth == AuthMode::Trust) {
        return Err(Error::invalid(format!("cannot listen on {address} without TLS and passwords"))
            .hint("Configure a certificate and its key with SCRAM authentication, or listen on 127.0.0.1."));
    }

    let cancels: Arc<CancelRegistry> = Arc::default();
    super::catalog::install_with(&engine, Arc::clone(&cancels));
    let (limits, metrics) = (Limits::of(&engine), Arc::new(Metrics::new(&engine)));
    if let Some(http) = http {
        tokio::spawn(super::http::serve(http, Arc::clone(&engine), Arc::clone(&metrics), shutdown.clone()));
    }
    let logging = Logging { slow: engine.config().log_min_duration, audit: engine.config().audit };
    let shared = Arc::new(Shared {
        engine,
        auth,
        tls,
        cancels,
        metrics,
        logging,
        shutdown: shutdown.clone(),
        connections: Arc::new(Semaphore::new(limits.connections)),
        unknown: Mutex::default(),
        limits,
    });
    let (tasks, threads) = (TaskTracker::new(), Threads::start()?);
    let unknown = Arc::new(Semaphore::new(shared.limits.unknown));
    tracing::debug!(%address, tls = shared.tls.is_some(), "accepting connections");
    loop {
        let permit = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            permit = Arc::clone(&unknown).acquire_owned() => permit,
        };
        let Ok(permit) = permit else { break };
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, peer)) => {
                // Out of this loop, to be taken into that of a thread.
                match tcp.into_std() {
                    Ok(tcp) => threads.give(&tasks, attend(tcp, peer, Arc::clone(&shared), permit)),
                    Err(error) => tracing::warn!(%peer, %error, "a connection was lost"),
                }
            }
            Err(error) => {
                // Out of file descriptors, as a rule: there is nothing to accept until a connection ends.
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(shared.limits.drain, tasks.wait()).await.is_err() {
        tracing::warn!(connections = tasks.len(), "statements still run after the drain time; cancelling them");
        shared.cancels.cancel_all();
        let _ = tokio::time::timeout(Duration::from_secs(5), tasks.wait()).await;
    }
    Ok(())
}

/// One connection from accept to close. A panic ends this task only.
async fn attend(tcp: std::net::TcpStream, peer: SocketAddr, shared: Arc<Shared>, permit: OwnedSemaphorePermit) {
    let tcp = match TcpStream::from_std(tcp) {
        Ok(tcp) => tcp,
        Err(error) => return tracing::warn!(%peer, %error, "a connection was lost"),
    };
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
    }
    let Some(counted) = Unknown::enter(&shared, peer.ip()) else {
        tracing::warn!(%peer, "too many unauthenticated connections from one address");
        return;
    };
    let greeting = tokio::select! {
        biased;
        () = shared.shutdown.cancelled() => return,
        greeting = tokio::time::timeout(shared.limits.startup, greet(tcp, peer, &shared)) => greeting,
    };
    drop((counted, permit));
    match greeting {
        Err(_) => tracing::warn!(%peer, "no login within the time allowed"),
        Ok(Ok(Greeting::Done)) => {}
        Ok(Ok(Greeting::Client(client))) => {
            let (wire, client) = *client;
            admit(wire, client, shared).await;
        }
        Ok(Err((wire, error))) => {
            shared.metrics.refused(error.sqlstate);
            if shared.logging.audit {
                tracing::info!(target: "portrait::audit", %peer, sqlstate = error.sqlstate, message = %error.message, "login refused");
            }
            refuse(wire, &error.into_fatal()).await;
        }
    }
}

async fn admit(wire: Wire, client: Client, shared: Arc<Shared>) {
    let place = match place(&client, &shared) {
        Ok(place) => place,
        Err(error) => {
            shared.metrics.refused(error.sqlstate);
            return refuse(Some(wire), &error).await;
        }
    };
    let (_place, _connected) = (place, shared.metrics.connected());
    if shared.logging.audit {
        tracing::info!(target: "portrait::audit", peer = %client.peer, user = %client.user, tls = wire.is_tls(), "login");
    }
    match Connection::open(wire, client, shared) {
        Ok(connection) => connection.run().await,
        Err(refused) => {
            let (wire, error) = *refused;
            refuse(Some(wire), &error.into_fatal()).await;
        }
    }
}

/// A place for a client that is known, if there is one for it.
fn place(client: &Client, shared: &Shared) -> PgResult<OwnedSemaphorePermit> {
    let catalog = shared.engine.catalog();
    let rights = catalog.rights(&client.user);
    if !rights.may(Privilege::Connect, &Object::new(ObjectClass::Database, super::startup::DATABASE)) {
        let message = format!("permission denied for database \"{}\"", super::startup::DATABASE);
        return Err(PgError::fatal("42501", message).detail("User does not have CONNECT privilege."));
    }
    if let Some(limit) = catalog.role(&client.user).and_then(|role| role.connection_limit)
        && !rights.superuser()
        && shared.cancels.count(&client.user) >= limit as usize
    {
        return Err(PgError::fatal("53300", format!("too many connections for role \"{}\"", client.user)));
    }
    if !rights.superuser() && shared.connections.available_permits() <= shared.limits.reserved {
        return Err(PgError::fatal("53300", "remaining connection slots are reserved for superusers"));
    }
    let place = Arc::clone(&shared.connections).try_acquire_owned();
    place.map_err(|_| PgError::fatal("53300", "sorry, too many clients already"))
}

/// Sends a FATAL error, if there is anybody to send it to, and closes.
async fn refuse(wire: Option<Wire>, error: &PgError) {
    if let Some(mut wire) = wire
        && wire.put(PgWireBackendMessage::ErrorResponse(error.response())).is_ok()
    {
        let _ = tokio::time::timeout(Duration::from_secs(5), wire.close()).await;
    }
}

/// Counts a socket of an address while its client is unknown. Loopback is not limited.
struct Unknown<'a> {
    shared: &'a Shared,
    address: IpAddr,
}

impl<'a> Unknown<'a> {
    fn enter(shared: &'a Shared, address: IpAddr) -> Option<Self> {
        let mut counts = shared.unknown.lock();
        let count = counts.entry(address).or_default();
        if *count >= shared.limits.unknown_per_address && !address.is_loopback() {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Self { shared, address })
    }
}

impl Drop for Unknown<'_> {
    fn drop(&mut self) {
        let mut counts = self.shared.unknown.lock();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}
