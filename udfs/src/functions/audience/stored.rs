//! What the scalar functions over stored audiences share: the context, and members that are read once for a batch.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};

use crate::context::{AudienceRef, UserNumbers};
use crate::error::{Error, Result};
use crate::functions::MlContext;
use crate::functions::blocking::block_on;
use crate::kernels::bitmap::Bitmap;

/// The context, compared by identity.
#[derive(Clone)]
pub(super) struct Audiences(Arc<MlContext>);

impl Audiences {
    pub(super) fn new(context: &Arc<MlContext>) -> Self {
        Self(Arc::clone(context))
    }

    /// The members of each audience that a column of names holds, and what their numbers mean: persons.
    ///
    /// # Errors
    /// As [`AudienceRef::resolve`], and when one cannot be read.
    pub(super) fn members(&self, names: &ArrayRef, caller: &str) -> Result<(BTreeMap<String, Arc<Bitmap>>, Arc<dyn UserNumbers>)> {
        let names = names.as_string_opt::<i32>().ok_or_else(|| Error::internal("names of audiences are no texts"))?;
        let mut found = BTreeMap::new();
        let mut last = None;
        for name in names.iter().flatten() {
            if last.replace(name) == Some(name) || found.contains_key(name) {
                continue;
            }
            let version = AudienceRef::resolve(&*self.0.audiences, name)?;
            let audiences = Arc::clone(&self.0.audiences);
            audiences.check(caller, &version.name)?;
            let members = block_on(async move { audiences.members(&version.name, version.version).await })??;
            found.insert(name.to_owned(), members);
        }
        let numbers = self.numbers()?;
        found.values_mut().for_each(|members| *members = numbers.persons(members));
        Ok((found, numbers))
    }

    /// What the members' numbers mean.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn numbers(&self) -> Result<Arc<dyn UserNumbers>> {
        let audiences = Arc::clone(&self.0.audiences);
        block_on(async move { audiences.numbers().await })?
    }
}

impl fmt::Debug for Audiences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audiences").finish_non_exhaustive()
    }
}

impl PartialEq for Audiences {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Audiences {}

impl Hash for Audiences {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}
