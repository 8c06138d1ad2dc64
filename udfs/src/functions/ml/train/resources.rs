//! The session's temporary files and memory pool, as training sees them.
//!
//! Files are the disk manager's: they lie where sorts spill, count against the same limit, and go when they are dropped
//! (a server empties the folder when it starts, which takes care of a crash).

use std::fmt;
use std::io::Write;
use std::sync::Arc;

use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SpillFile as EngineFile, SpillWriter};
use parking_lot::Mutex;

use crate::error::{Code, Error, Result};
use crate::features::{SpillFile, SpillSpace};
use crate::train::MemoryBudget;
use crate::train::memory::size;

/// Where a session spills.
#[derive(Debug)]
pub(super) struct SessionFiles(pub(super) Arc<RuntimeEnv>);

impl SpillSpace for SessionFiles {
    fn create(&self, what: &str) -> Result<Arc<dyn SpillFile>> {
        let file = self.0.disk_manager.create_tmp_file(what).map_err(|error| match error.find_root() {
            DataFusionError::ResourcesExhausted(_) => no_files(),
            _ => failed(Error::from_engine(error)),
        })?;
        // Rows are read wherever a batch wants them, which a stream of bytes cannot do.
        let path = file.path().ok_or_else(no_files)?;
        let reader = std::fs::File::open(path).map_err(|error| failed(error.into()))?;
        let writer = file.open_writer().map_err(|error| failed(Error::from_engine(error)))?;
        Ok(Arc::new(SessionFile { reader, writer: Mutex::new(writer), _file: file }))
    }
}

/// The program keeps no temporary files that can be read at any place.
fn no_files() -> Error {
    Error::new(Code::OutOfMemory, "the training data does not fit in memory")
        .detail("Its rows could be spilled, but this session has no temporary files on a local disk.")
        .hint("Train on a sample (option sample), or allow the session more memory.")
}

struct SessionFile {
    reader: std::fs::File,
    writer: Mutex<Box<dyn SpillWriter>>,
    /// Removed with its last owner.
    _file: Arc<dyn EngineFile>,
}

impl fmt::Debug for SessionFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionFile").field("reader", &self.reader).finish_non_exhaustive()
    }
}

impl SpillFile for SessionFile {
    fn append(&self, bytes: &[u8]) -> Result<()> {
        self.writer.lock().write_all(bytes).map_err(|error| failed(if is_full(&error) { full(&error) } else { error.into() }))
    }

    #[cfg(unix)]
    fn read_at(&self, offset: u64, to: &mut [u8]) -> Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.reader, to, offset).map_err(|error| failed(error.into()))
    }

    #[cfg(not(unix))]
    fn read_at(&self, offset: u64, to: &mut [u8]) -> Result<()> {
        use std::io::{Read, Seek, SeekFrom};
        // The lock keeps the place and the reading together.
        let _one = self.writer.lock();
        let mut reader = &self.reader;
        let read = reader.seek(SeekFrom::Start(offset)).and_then(|_| reader.read_exact(to));
        read.map_err(|error| failed(error.into()))
    }
}

/// Whether the disk, or the space that the session allows, is full. The engine wraps what the disk says, and has words
/// only for its own limit.
fn is_full(error: &std::io::Error) -> bool {
    if matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) {
        return true;
    }
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<DataFusionError>());
    match inner.map(DataFusionError::find_root) {
        Some(DataFusionError::IoError(io)) => is_full(io),
        Some(DataFusionError::ResourcesExhausted(_)) => true,
        _ => error.to_string().contains("max_temp_directory_size"),
    }
}

fn full(error: &std::io::Error) -> Error {
    let text = error.to_string();
    let detail = if text.contains("max_temp_directory_size") { "They would exceed the limit of all temporary files".into() } else { text };
    Error::new(Code::DiskFull, "").detail(format!("{}.", detail.trim_end_matches('.')))
}

/// An error of a temporary file, in words about the training.
fn failed(error: Error) -> Error {
    match error.code {
        Code::DiskFull => Error { message: "no space for the training's temporary files".into(), ..error }
            .hint("Free space on the disk of temporary files, raise spill_limit or memory_limit, or train on a sample (option sample)."),
        _ => Error { message: format!("a temporary file of the training failed: {}", error.message), ..error },
    }
}

/// The session's memory pool.
pub(crate) struct PoolBudget {
    env: Arc<RuntimeEnv>,
    held: MemoryReservation,
}

impl PoolBudget {
    /// Memory for a training, counted in the pool of `env`.
    pub(crate) fn shared(env: Arc<RuntimeEnv>) -> Arc<dyn MemoryBudget> {
        let held = MemoryConsumer::new("training").register(&env.memory_pool);
        Arc::new(Self { env, held })
    }
}

impl MemoryBudget for PoolBudget {
    fn take(&self, bytes: usize) -> Result<()> {
        self.held.try_grow(bytes).map_err(|_| {
            let pool = &self.env.memory_pool;
            let taken = size(pool.reserved() as u64);
            let detail = match pool.memory_limit() {
                MemoryLimit::Finite(limit) => format!("The memory pool holds {}, and {taken} are taken.", size(limit as u64)),
                _ => format!("{taken} of the memory pool are taken."),
            };
            Error::new(Code::OutOfMemory, "out of memory").detail(detail)
        })
    }

    fn give(&self, bytes: usize) {
        self.held.shrink(bytes);
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
    use datafusion::execution::memory_pool::GreedyMemoryPool;
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;

    use super::*;

    fn env(folder: &std::path::Path, limit: u64) -> Arc<RuntimeEnv> {
        let disk = DiskManagerBuilder::default()
            .with_mode(DiskManagerMode::Directories(vec![folder.to_path_buf()]))
            .with_max_temp_directory_size(limit);
        let pool = Arc::new(GreedyMemoryPool::new(1000));
        RuntimeEnvBuilder::new().with_memory_pool(pool).with_disk_manager_builder(disk).build_arc().unwrap()
    }

    fn files(folder: &std::path::Path) -> usize {
        let below = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        below.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
    }

    #[test]
    fn files_are_read_at_any_place_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let env = env(folder.path(), 1 << 20);
        let file = SessionFiles(Arc::clone(&env)).create("rows").unwrap();
        file.append(b"hello ").unwrap();
        file.append(b"world").unwrap();
        let mut read = [0; 5];
        file.read_at(6, &mut read).unwrap();
        assert_eq!(&read, b"world");
        assert_eq!(file.read_at(7, &mut read).unwrap_err().code, Code::Io);
        assert_eq!((env.disk_manager.used_disk_space(), files(folder.path())), (11, 1));
        drop(file);
        assert_eq!((env.disk_manager.used_disk_space(), files(folder.path())), (0, 0));
    }

    #[test]
    fn a_limit_that_is_reached_is_a_full_disk() {
        let folder = tempfile::tempdir().unwrap();
        let file = SessionFiles(env(folder.path(), 10)).create("rows").unwrap();
        file.append(b"0123456789").unwrap();
        let error = file.append(b"x").unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (Code::DiskFull, "no space for the training's temporary files"));
        assert!(error.detail.unwrap().contains("limit") && error.hint.unwrap().contains("spill_limit"));
        drop(file);
        assert_eq!(files(folder.path()), 0);
    }

    #[test]
    fn a_full_disk_is_found_inside_what_the_engine_says() {
        let of = |kind: std::io::ErrorKind| std::io::Error::other(DataFusionError::IoError(std::io::Error::from(kind)));
        assert!(is_full(&of(std::io::ErrorKind::StorageFull)) && is_full(&std::io::ErrorKind::QuotaExceeded.into()));
        assert!(!is_full(&of(std::io::ErrorKind::PermissionDenied)) && !is_full(&std::io::ErrorKind::NotFound.into()));
    }

    #[test]
    fn a_session_without_files_refuses() {
        let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
        let env = RuntimeEnvBuilder::new().with_disk_manager_builder(disk).build_arc().unwrap();
        assert_eq!(SessionFiles(env).create("rows").unwrap_err().code, Code::OutOfMemory);
    }

    #[test]
    fn memory_is_the_pools() {
        let folder = tempfile::tempdir().unwrap();
        let env = env(folder.path(), 0);
        let budget = PoolBudget::shared(Arc::clone(&env));
        budget.take(900).unwrap();
        assert_eq!(env.memory_pool.reserved(), 900);
        let error = budget.take(200).unwrap_err();
        assert_eq!(error.code, Code::OutOfMemory);
        assert!(error.detail.unwrap().contains("0.9 KiB are taken"));
        budget.give(900);
        assert_eq!(env.memory_pool.reserved(), 0);
    }
}
