//! Sessions, funnels, retention, sequences, paths and attribution.

use super::package::Package;

/// The functions of this room.
pub fn package() -> Package {
    Package::default()
}
