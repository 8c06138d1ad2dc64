//! Profiles of users: recency and frequency, life cycle, preferences, life-time value, cards.

use super::package::Package;

/// The functions of this room.
pub fn package() -> Package {
    Package::default()
}
