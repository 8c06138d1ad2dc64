//! The program `portrait`. Everything it does is in `portrait::cli`.

/// Models are made of many short-lived buffers; the system's allocator returns and takes their pages again and again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    portrait::cli::process::prepare();
    // One crypto stack, chosen here, whatever else a dependency brings along. The second call of a process would fail;
    // this is the first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    portrait::cli::main()
}
