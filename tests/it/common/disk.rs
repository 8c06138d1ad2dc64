//! File systems of a test's own: a small one in memory that becomes full, an image that can be copied as a power cut leaves it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted file system; it is unmounted when it is dropped.
pub(crate) struct Mounted {
    folder: tempfile::TempDir,
}

impl Mounted {
    /// # Errors
    /// Why this machine cannot, or may not.
    pub(crate) fn memory(bytes: u64) -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "none"]).arg(folder.path()))?;
        Ok(Self { folder })
    }

    /// # Errors
    /// As [`memory`](Self::memory).
    pub(crate) fn image(image: &Path) -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        run(Command::new("mount").args(["-t", "ext4", "-o", "loop,commit=300"]).arg(image).arg(folder.path()))?;
        Ok(Self { folder })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Bytes that are free.
    pub(crate) fn free(&self) -> u64 {
        let path = std::ffi::CString::new(self.folder.path().to_str().unwrap()).unwrap();
        let mut found = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
        // SAFETY: the path ends with NUL and the struct is ours; zeros are a value of it.
        let (status, found) = unsafe { (libc::statvfs(path.as_ptr(), found.as_mut_ptr()), found.assume_init()) };
        assert_eq!(status, 0);
        found.f_bavail * found.f_frsize
    }

    /// Fills it up to `free` bytes. The file is to be removed.
    pub(crate) fn fill(&self, free: u64) -> PathBuf {
        let ballast = self.folder.path().join("ballast");
        let file = std::fs::File::create(&ballast).unwrap();
        let room = i64::try_from(self.free().saturating_sub(free)).unwrap();
        if room > 0 {
            // SAFETY: a call on an open file. Who else writes meanwhile may have taken the space.
            let _ = unsafe { libc::posix_fallocate(std::os::fd::AsRawFd::as_raw_fd(&file), 0, room) };
        }
        ballast
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Whoever was killed a moment ago may still hold it.
        for _ in 0..50 {
            if run(Command::new("umount").arg(self.folder.path())).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        eprintln!("{} is still mounted", self.folder.path().display());
    }
}

/// Makes an image with a file system in it.
///
/// # Errors
/// Why this machine cannot.
pub(crate) fn make_image(image: &Path, bytes: u64) -> Result<(), String> {
    std::fs::File::create(image).unwrap().set_len(bytes).unwrap();
    run(Command::new("mkfs.ext4").args(["-q", "-F", "-E", "lazy_itable_init=1,nodiscard"]).arg(image))
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}
