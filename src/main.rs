//! The program `portrait`. Everything it does is in `portrait::cli`.

/// Models are made of many short-lived buffers; the system's allocator returns and takes their pages again and again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    // The tensor library sizes its thread pools when it is first used. Parallelism is ours to decide: one pool per
    // training. SAFETY: no other thread runs yet.
    unsafe {
        std::env::set_var("CANDLE_NUM_THREADS", "1");
        std::env::set_var("RAYON_NUM_THREADS", "1");
    }
    // One crypto stack, chosen here, whatever else a dependency brings along. The second call of a process would fail;
    // this is the first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    portrait::cli::main()
}
