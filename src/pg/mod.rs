//! The PostgreSQL wire protocol, and nothing else.
//!
//! Life of a connection: `listener` accepts and counts sockets and gives each to one of `threads`; `startup` answers encryption requests, lets `auth` find
//! out who connects, and gives every error as FATAL; `connection` reads messages and hands them to `simple` or
//! `extended`; both call `crate::sql` and pass what comes back to `rows`, which encodes batches (`encode`) while they
//! arrive and stops when the client cancels, goes away or reads nothing. `activity`, `metrics` and `http` tell whoever watches. `catalog` answers the questions that drivers
//! ask about types, tables and settings; `compat` gives functions, operators and casts the meaning that they have in PostgreSQL.
//!
//! Invariants: nothing a client sends before it is known is executed; results are never collected (at most two batches
//! and [`wire::FLUSH_BYTES`] per connection); a panic ends its connection and nothing else; every error has its
//! SQLSTATE in `sqlstate`, and internal text stays in the log. Must never know: models, files, plans.

mod activity;
mod auth;
mod cancel;
pub(crate) mod catalog;
mod compat;
mod connection;
mod copy;
mod encode;
mod extended;
mod http;
mod interval;
mod known;
mod listener;
mod message;
mod metrics;
mod pace;
mod params;
mod rows;
mod simple;
mod sqlstate;
mod startup;
mod templates;
mod threads;
mod tls;
mod types;
mod wire;

pub use catalog::install;
pub use encode::TextRows;
pub use listener::{serve, serve_watched};
pub use sqlstate::sqlstate;
pub use tls::TlsConfig;
