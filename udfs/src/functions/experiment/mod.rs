//! Experiments: assignment, tests of differences, sample sizes, effects.

use super::package::Package;

/// The functions of this room.
pub fn package() -> Package {
    Package::default()
}
