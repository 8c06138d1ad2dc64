//! One client that is known: reads its messages, answers them, and survives whatever a statement does.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::response::{CommandComplete, ReadyForQuery, TransactionStatus as WireStatus};
use portrait_udfs::context::NoticeSink;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::activity::{Backend, Ended, Watch};
use super::auth::put_key_data;
use super::cancel::{Registration, Running};
use super::encode::Style;
use super::extended::{Portal, PreparedStatement};
use super::known::Known;
use super::listener::Shared;
use super::message::Message;
use super::pace::Pace;
use super::rows::{Attention, Failure, NOTICES_MAX};
use super::sqlstate::{PgError, PgResult, Severity};
use super::startup::{Client, put_parameter};
use super::wire::Wire;
use crate::engine::{Session, TransactionStatus};
use crate::sql::{RunOptions, Statement};

/// The largest message: a Bind with large values.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The largest message of a kind that carries a name and a number.
const SMALL_MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// A connection and all that belongs to it.
pub(crate) struct Connection {
    pub(super) wire: Wire,
    pub(super) session: Session,
    pub(super) running: Arc<Running>,
    pub(super) statements: HashMap<String, Arc<PreparedStatement>>,
    pub(super) portals: HashMap<String, Portal>,
    pub(super) notices: mpsc::Receiver<String>,
    sink: mpsc::Sender<String>,
    shared: Arc<Shared>,
    registration: Registration,
    /// Parameters as the client knows them.
    told: Vec<(&'static str, String)>,
    /// How often settings had changed when it was told.
    told_at: Option<u64>,
    known: Known,
    pace: Pace,
    /// After an error in the extended protocol, everything up to Sync is skipped.
    skip_to_sync: bool,
    /// The statement that runs.
    watch: Option<Watch>,
    peer: std::net::SocketAddr,
}

/// What to do after a message.
enum Next {
    Continue,
    Close,
}

impl Connection {
    /// Opens the session of a client and says hello; nothing is sent yet.
    ///
    /// # Errors
    /// When a startup setting is wrong: the error to send, and the wire to send it on.
    pub(crate) fn open(wire: Wire, client: Client, shared: Arc<Shared>) -> Result<Self, Box<(Wire, PgError)>> {
        let session = match open_session(&client, &shared) {
            Ok(session) => session,
            Err(error) => return Err(Box::new((wire, error))),
        };
        let running = Arc::new(Running::default());
        let backend = Backend::new(session.id() as i32, &session, client.peer, wire.is_tls());
        let registration = shared.cancels.register(backend, client.key_bytes, Arc::clone(&running));
        let (sink, notices) = mpsc::channel(NOTICES_MAX);
        tracing::info!(peer = %client.peer, user = %client.user, pid = registration.pid, tls = wire.is_tls(), "connected");
        Ok(Self {
            wire,
            session,
            running,
            statements: HashMap::new(),
            portals: HashMap::new(),
            notices,
            sink,
            shared,
            registration,
            told: Vec::new(),
            told_at: None,
            known: Known::default(),
            pace: Pace::default(),
            skip_to_sync: false,
            watch: None,
            peer: client.peer,
        })
    }

    /// Answers messages until the client leaves, breaks the protocol, or the server goes down.
    pub(crate) async fn run(mut self) {
        if let Err(Failure::Error(error)) = self.converse().await {
            // The client reads why, when it still can.
            let _ = self.wire.put(PgWireBackendMessage::ErrorResponse(error.response()));
        }
        self.portals.clear();
        tracing::info!(peer = %self.peer, pid = self.registration.pid, "disconnected");
        self.wire.close().await;
    }

    async fn converse(&mut self) -> Result<(), Failure> {
        self.put_parameters()?;
        put_key_data(&mut self.wire.output, self.registration.pid, &self.registration.key);
        self.put_ready()?;
        loop {
            let Some((kind, body)) = self.read().await? else { return Ok(()) };
            let message = match Message::decode(kind, body) {
                Ok(message) => message,
                Err(error) if error.severity == Severity::Fatal => return Err(error.into()),
                Err(error) if self.skip_to_sync => {
                    tracing::debug!(error = %error.message, "malformed message skipped");
                    continue;
                }
                Err(error) => {
                    self.put_error(&error)?;
                    if kind == b'Q' {
                        self.put_ready()?
                    } else {
                        self.skip_to_sync = true
                    };
                    continue;
                }
            };
            // A panic leaves the protocol's state unknown: the client is told, and its connection closed.
            let handled = AssertUnwindSafe(self.handle(message)).catch_unwind().await;
            self.running.finish();
            match &handled {
                Ok(Ok(_)) => {}
                Ok(Err(_)) => self.ended(Ended::Failed("08006")),
                Err(_) => self.ended(Ended::Failed("XX000")),
            }
            match handled {
                Ok(Ok(Next::Continue)) => {}
                Ok(Ok(Next::Close)) => return Ok(()),
                Ok(Err(failure)) => return Err(failure),
                Err(panic) => return Err(PgError::internal(&panic_text(panic.as_ref())).into_fatal().into()),
            }
        }
    }

    /// The next message; what was answered is sent before waiting. `None` when the client left.
    async fn read(&mut self) -> Result<Option<(u8, bytes::Bytes)>, Failure> {
        loop {
            if let Some(message) = self.wire.take_message(message_limit)? {
                return Ok(Some(message));
            }
            self.wire.flush().await.map_err(Failure::Lost)?;
            let asked = Instant::now();
            self.pace.watch_for(&self.wire).await;
            let idle = self.idle_timeout();
            tokio::select! {
                biased;
                // Before reading: a client that never pauses must not keep the server up.
                () = self.shared.shutdown.cancelled() => return Err(terminated().into()),
                () = self.registration.end.cancelled() => return Err(terminated().into()),
                filled = self.wire.fill() => match filled {
                    Ok(true) => {}
                    Ok(false) | Err(_) => return Ok(None),
                },
                error = idle => return Err(error.into()),
            }
            self.pace.answered(asked.elapsed());
        }
    }

    /// Resolves when the server goes down.
    pub(super) fn shutdown(&self) -> impl Future<Output = ()> + use<> {
        self.shared.shutdown.clone().cancelled_owned()
    }

    /// Resolves when the session has been idle for too long.
    fn idle_timeout(&mut self) -> impl Future<Output = PgError> + use<> {
        let active = self.session.transaction() != TransactionStatus::Idle;
        let known = self.known();
        let most = if active { known.idle_in_transaction } else { known.idle };
        async move {
            match most {
                Some(most) => tokio::time::sleep(most).await,
                None => std::future::pending().await,
            }
            if active {
                PgError::fatal("25P03", "terminating connection due to idle-in-transaction timeout")
            } else {
                PgError::fatal("57P05", "terminating connection due to idle-session timeout")
            }
        }
    }

    /// Answers one message. An error that ends the statement is sent here; what is returned ends the connection.
    async fn handle(&mut self, message: Message) -> Result<Next, Failure> {
        match message {
            Message::Terminate => return Ok(Next::Close),
            Message::Query(text) => {
                // An error of the extended protocol holds until Sync, whatever comes between.
                if self.skip_to_sync {
                    return Ok(Next::Continue);
                }
                // Boxed: the futures of planning are large, and each frame would hold one.
                let result = Box::pin(self.simple_query(&text)).await;
                self.report(result)?;
                self.put_ready()?;
            }
            Message::Sync => {
                self.skip_to_sync = false;
                if self.session.transaction() == TransactionStatus::Idle {
                    self.portals.clear();
                }
                self.put_ready()?;
            }
            Message::Copy => {}
            Message::FunctionCall if !self.skip_to_sync => {
                self.put_error(&PgError::new("0A000", "function calls by protocol message are not supported").hint("Use SELECT."))?;
                self.put_ready()?;
            }
            _ if self.skip_to_sync => {}
            extended => {
                let result = Box::pin(self.extended_message(extended)).await;
                if self.report(result)? {
                    self.skip_to_sync = true;
                }
            }
        }
        Ok(Next::Continue)
    }

    /// Sends the error of a statement; says whether there was one.
    fn report(&mut self, result: Result<(), Failure>) -> Result<bool, Failure> {
        match result {
            Ok(()) => Ok(false),
            Err(Failure::Error(error)) if error.severity == Severity::Error => {
                self.session.statement_failed();
                self.ended(Ended::Failed(error.sqlstate));
                self.put_error(&error)?;
                Ok(true)
            }
            Err(failure) => Err(failure),
        }
    }

    /// A statement starts: it is watched until it [ended](Self::ended).
    pub(super) fn begin(&mut self, statement: &Statement) {
        self.watch = Some(Watch::begin(&self.registration.backend, statement));
    }

    /// The statement ended, if one was watched.
    pub(super) fn ended(&mut self, ended: Ended) {
        if let Some(watch) = self.watch.take() {
            watch.end(&self.registration.backend, &self.session, ended, self.shared.logging, &self.shared.metrics);
        }
    }

    fn put_error(&mut self, error: &PgError) -> PgResult<()> {
        self.wire.put(PgWireBackendMessage::ErrorResponse(error.response()))
    }

    pub(super) fn put_complete(&mut self, tag: String) -> PgResult<()> {
        // The number of rows is the tag's last word, where it has one.
        let rows = tag.rsplit(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0);
        self.ended(Ended::Done(rows));
        self.wire.put(PgWireBackendMessage::CommandComplete(CommandComplete::new(tag)))
    }

    /// `ReadyForQuery`, after what changed of the parameters.
    fn put_ready(&mut self) -> PgResult<()> {
        self.put_parameters()?;
        let status = match self.session.transaction() {
            TransactionStatus::Idle => WireStatus::Idle,
            TransactionStatus::Active => WireStatus::Transaction,
            TransactionStatus::Failed => WireStatus::Error,
        };
        self.wire.put(PgWireBackendMessage::ReadyForQuery(ReadyForQuery::new(status)))
    }

    fn put_parameters(&mut self) -> PgResult<()> {
        let changes = self.session.setting_changes();
        if self.told_at.replace(changes) == Some(changes) {
            return Ok(());
        }
        let now = self.session.with_settings(|settings| settings.reported());
        for (name, value) in &now {
            if !self.told.iter().any(|(known, old)| known == name && old == value) {
                put_parameter(&mut self.wire, name, value)?;
            }
        }
        self.told = now;
        Ok(())
    }

    /// What a statement needs to run: a token that this connection's cancel fires, and a way to say things meanwhile.
    pub(super) fn run_options(&mut self, cancel: &CancellationToken) -> RunOptions {
        RunOptions { cancel: cancel.clone(), notice: self.notice_sink() }
    }

    fn notice_sink(&mut self) -> NoticeSink {
        if self.known().quiet {
            return Arc::new(|_| {});
        }
        let sink = self.sink.clone();
        Arc::new(move |message| {
            // Progress that nobody reads in time is worth nothing later: a full queue drops it.
            let _ = sink.try_send(message.to_owned());
        })
    }

    /// The parts that are needed while a statement runs, apart from the session.
    pub(super) fn around<'a>(&'a mut self, cancel: &'a CancellationToken) -> Attention<'a> {
        Attention { wire: &mut self.wire, notices: &mut self.notices, cancel }
    }

    /// What settings say now.
    pub(super) fn known(&mut self) -> &Known {
        self.known.follow(&self.session);
        &self.known
    }

    /// How values are shown, by the settings of now.
    pub(super) fn style(&mut self) -> Style {
        self.known().style.clone()
    }
}

fn terminated() -> PgError {
    PgError::fatal("57P01", "terminating connection due to administrator command")
}

fn open_session(client: &Client, shared: &Shared) -> PgResult<Session> {
    let session = shared.engine.session(&client.user)?;
    for (name, value) in &client.settings {
        session.change_settings(|settings| settings.set_startup(name, value))?;
    }
    Ok(session)
}

pub(super) fn message_limit(kind: u8) -> usize {
    match kind {
        b'Q' | b'P' | b'B' | b'd' | b'F' => MESSAGE_BYTES_MAX,
        _ => SMALL_MESSAGE_BYTES_MAX,
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("a statement panicked: {}", text.unwrap_or_default())
}
