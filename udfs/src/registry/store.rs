//! The only code that builds object paths.
