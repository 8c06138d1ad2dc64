//! JSON that survives: a checksum over its own bytes, and floats that come back bit for bit.
