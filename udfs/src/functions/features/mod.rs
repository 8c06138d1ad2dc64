//! Cleaning and features: missing values, outliers, scaling, encoding, selection, a first look at a table.

use super::package::Package;

/// The functions of this room.
pub fn package() -> Package {
    Package::default()
}
