//! The one integration binary: a new integration test is a new module here.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, clippy::print_stdout, unreachable_pub, reason = "a test fails loudly")]

mod audiences;
mod checkpoints;
mod common;
mod corruption;
mod crashes;
mod disk_full;
mod docs;
mod erasure;
mod events;
mod hostile_files;
mod identity;
mod materialized_views;
mod power_cuts;
mod retention;
mod statements;
mod storage;
mod temporary;
mod tidy;
mod wire;
