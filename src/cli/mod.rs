//! The command line: one subcommand = one file.
