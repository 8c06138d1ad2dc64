//! The one integration binary: a new integration test is a new module here.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, clippy::print_stdout, unreachable_pub, reason = "a test fails loudly")]

mod audiences;
mod checkpoints;
mod docs;
mod erasure;
mod events;
mod identity;
mod materialized_views;
mod retention;
mod statements;
mod storage;
mod tidy;
mod wire;
