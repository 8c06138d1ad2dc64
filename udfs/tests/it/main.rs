//! The functions in a plain DataFusion program, through SQL only. One binary; a new test is a new module.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, clippy::print_stdout, unreachable_pub, reason = "a test fails loudly")]

mod behavior;
mod program;
mod reference;
mod splits;
mod whole;
