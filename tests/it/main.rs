//! The one integration binary: a new integration test is a new module here.

mod statements;
mod storage;
mod tidy;
mod wire;
