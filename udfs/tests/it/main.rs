//! The functions in a plain DataFusion program, through SQL only. One binary; a new test is a new module.

mod program;
mod reference;
mod whole;
