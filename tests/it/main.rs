//! The one integration binary: a new integration test is a new module here.

mod statements;
mod tidy;
