//! The server of Portrait.
pub mod catalog;
pub mod storage;
