//! What a connection's settings say, looked up again only when they may have changed: every message asks.

use std::sync::Arc;
use std::time::Duration;

use super::encode::{Style, Zone};
use crate::engine::Session;
use crate::engine::settings::Settings;

/// The settings that the protocol itself follows.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// How often settings had changed.
    at: Option<u64>,
    /// The session's time zone, by name.
    pub(super) zone: Arc<str>,
    pub(super) style: Style,
    /// How long a session may wait for its client; `None`: for ever.
    pub(super) idle: Option<Duration>,
    /// The same within a transaction block.
    pub(super) idle_in_transaction: Option<Duration>,
    /// Whether notices are kept from the client.
    pub(super) quiet: bool,
}

impl Known {
    /// Looks again if something may have changed.
    pub(super) fn follow(&mut self, session: &Session) {
        let at = Some(session.setting_changes());
        if self.at != at {
            *self = session.with_settings(|settings| Self { at, ..Self::of(settings) });
        }
    }

    fn of(settings: &Settings) -> Self {
        let text = |name| settings.raw(name).unwrap_or_default();
        let time = |name| u64::try_from(settings.integer(name)).ok().filter(|ms| *ms > 0).map(Duration::from_millis);
        let zone = text("TimeZone");
        Self {
            at: None,
            style: Style { zone: Zone::parse(&zone).unwrap_or_default() },
            zone: zone.into(),
            idle: time("idle_session_timeout"),
            idle_in_transaction: time("idle_in_transaction_session_timeout"),
            quiet: matches!(text("client_min_messages").as_str(), "warning" | "error"),
        }
    }
}
