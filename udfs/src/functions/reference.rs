//! The function reference, generated from the functions themselves: `udfs/FUNCTIONS.md`.
