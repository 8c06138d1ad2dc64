//! What a process sets up before anything else runs in it: threads of libraries, memory.

use crate::engine::Idleness;

/// Milliseconds until free memory goes back to the system. A query frees and takes hundreds of megabytes many times over; fresh
/// pages cost it more than its own work.
const PURGE_DELAY_MS: std::ffi::c_long = 2000;
/// The number of that option of the allocator; the bindings have no name for it.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// How often memory that has been free for that long is looked for. The allocator looks by itself only while somebody uses it, and a
/// thread's pages only when that thread does: an idle server would keep what its last query took.
const PURGE_EVERY: std::time::Duration = std::time::Duration::from_millis(1000);

/// Gives free memory back to the system for as long as the process lives, on a thread of its own: what the query threads keep when
/// they have become idle, what nobody keeps always.
///
/// # Errors
/// When there are no more threads.
pub fn return_free_memory(mut threads: Idleness) -> std::io::Result<()> {
    std::thread::Builder::new().name("memory".into()).spawn(move || {
        loop {
            std::thread::sleep(PURGE_EVERY);
            threads.attend(|| collect(true));
            collect(false);
        }
    })?;
    Ok(())
}

/// Gives back pages of this thread that are free: all of them, or those that have been free for a while.
#[allow(unsafe_code, reason = "a function of the allocator")]
fn collect(all: bool) {
    // SAFETY: it may be called on any thread at any time.
    unsafe { libmimalloc_sys::mi_collect(all) };
}

/// Call it first, while the process has one thread.
#[allow(unsafe_code, reason = "the environment, an option of the allocator and a flag of the process, before there are threads")]
pub fn prepare() {
    // The tensor library sizes its thread pools when it is first used. Parallelism is ours to decide: one pool per
    // training. SAFETY: no other thread runs yet.
    unsafe {
        std::env::set_var("CANDLE_NUM_THREADS", "1");
        std::env::set_var("RAYON_NUM_THREADS", "1");
    }
    // SAFETY: an option that may change at any time.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, PURGE_DELAY_MS) };
    // A huge page is cleared as a whole when its first byte is touched; batches and states that come and go paid for that with
    // a third of a query's time. SAFETY: a flag of this process.
    #[cfg(target_os = "linux")]
    unsafe {
        libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
    }
}
