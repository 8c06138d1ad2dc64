//! Names of an event table's files: `part-<commit>-<number>.crc.zstd.parquet`, and `_ids/<commit>.ids` beside them.
//!
//! A name tells that we wrote the file, in order, and which commit's ids belong to it; names survive checkpoints and
//! every program that copies a Delta table. A file of any other name was written by somebody else.

use uuid::Uuid;

use crate::storage::checked::CHECKED_SUFFIX;

/// Letters of a UUID.
const UUID_CHARS: usize = 36;

/// How the files of one write are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileNames {
    /// Each by an id of its own.
    Unordered,
    /// By the commit that they belong to.
    Events(Uuid),
}

impl FileNames {
    /// The name of file `number`.
    pub(in crate::storage) fn name(self, number: usize) -> String {
        match self {
            Self::Unordered => format!("part-{number:05}-{}{CHECKED_SUFFIX}", Uuid::now_v7()),
            Self::Events(run) => format!("part-{run}-{number:05}{CHECKED_SUFFIX}"),
        }
    }
}

/// The commit that wrote an ordered file; `None` for files of others.
pub(in crate::storage) fn run_of(name: &str) -> Option<Uuid> {
    let rest = name.strip_prefix("part-")?;
    let (run, number) = (rest.get(..UUID_CHARS)?, rest.get(UUID_CHARS..)?);
    let number = number.strip_prefix('-')?.strip_suffix(".zstd.parquet")?;
    // Files had no checksums once.
    let number = number.strip_suffix(".crc").unwrap_or(number);
    let ours = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    ours.then(|| Uuid::try_parse(run).ok()).flatten()
}

/// The name of the ids of the file `name`, or of all files of its commit.
pub(super) fn ids_name(name: &str) -> String {
    match run_of(name) {
        Some(run) => format!("{run}.ids"),
        None => format!("{}.ids", blake3::hash(name.as_bytes()).to_hex()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_commit() {
        let run = Uuid::now_v7();
        assert_eq!(run_of(&FileNames::Events(run).name(7)), Some(run));
        assert_eq!(run_of(&format!("part-{run}-00007.zstd.parquet")), Some(run));
        assert_eq!(ids_name(&FileNames::Events(run).name(0)), ids_name(&FileNames::Events(run).name(1)));
        for foreign in [FileNames::Unordered.name(3), "part-00000-a.snappy.parquet".into(), "x.parquet".into(), String::new()] {
            assert_eq!(run_of(&foreign), None, "{foreign}");
            assert!(ids_name(&foreign).ends_with(".ids"));
        }
        assert_eq!(run_of(&format!("part-{run}-é.zstd.parquet")), None);
    }
}
