//! Portrait: a SQL-queryable user-profile store with in-database deep learning.
//!
//! # Architecture
//!
//! One process opens one data directory. A client speaks the Postgres protocol (or calls the embedded engine); its text
//! becomes statements, statements become DataFusion plans, plans stream rows back. Models are trained and applied by the
//! functions of [`portrait_udfs`], which any other DataFusion program may use as well.
//!
//! | room | what it does | what it must never know |
//! |---|---|---|
//! | [`cli`] | one subcommand = one file: serve, sql, demo | plans |
//! | [`pg`] | the Postgres wire protocol: connections, authentication, encoding, `pg_catalog` | models |
//! | [`sql`] | text → statements → outcomes; one statement = one file | the protocol |
//! | [`engine`] | sessions, settings, runtimes, memory, cancellation | SQL text, the protocol |
//! | [`plan`] | plan nodes and optimiser rules of the server itself | SQL text, the protocol |
//! | [`catalog`] | what SQL can see: tables, views, roles; durable | how bytes are laid out |
//! | [`storage`] | bytes on object stores: Delta tables, the history index, the durable local store | names and rights |
//! | [`config`], [`error`], [`telemetry`] | leaves | everything above |
//!
//! Imports point one way: `main → cli → pg → sql → engine → {plan, catalog} → storage → portrait_udfs`.
//!
//! # Invariants
//!
//! - The engine knows no SQL text; `pg` knows no models; models know no Arrow; kernels know no DataFusion.
//! - A plan carries a model *version*, never "latest"; prepared statements are planned again at each execution.
//! - A file once written is never modified; what is acknowledged is durable.
//! - Nothing outside `storage` and the registry's store builds an object path.
//! - A result is streamed, never collected; nothing on the query runtime waits for training.
//! - Statements with effects never reach DataFusion's own eager execution: plans of unknown kinds are refused.

pub mod catalog;
pub mod cli;
pub mod config;
pub mod engine;
pub mod error;
pub mod pg;
pub mod plan;
pub mod sql;
pub mod storage;
pub mod telemetry;
