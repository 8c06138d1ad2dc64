//! The program `portrait`. Everything it does is in `portrait::cli`.

/// Models are made of many short-lived buffers; the system's allocator returns and takes their pages again and again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Milliseconds until free memory goes back to the system. A query frees and takes hundreds of megabytes many times over; fresh
/// pages cost it more than its own work.
const PURGE_DELAY_MS: std::ffi::c_long = 500;
/// The number of that option; the bindings have no name for it.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

fn main() -> std::process::ExitCode {
    // The tensor library sizes its thread pools when it is first used. Parallelism is ours to decide: one pool per
    // training. SAFETY: no other thread runs yet.
    unsafe {
        std::env::set_var("CANDLE_NUM_THREADS", "1");
        std::env::set_var("RAYON_NUM_THREADS", "1");
    }
    // SAFETY: an option of the allocator, which may change at any time.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, PURGE_DELAY_MS) };
    // A huge page is cleared as a whole when its first byte is touched; batches and states that come and go paid for that with
    // a third of a query's time. SAFETY: a flag of this process.
    #[cfg(target_os = "linux")]
    unsafe {
        libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
    }
    // One crypto stack, chosen here, whatever else a dependency brings along. The second call of a process would fail;
    // this is the first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    portrait::cli::main()
}
