//! The wire protocol against a real server in this process: drivers, and sockets that misbehave.

mod access;
mod cancel;
mod copy;
mod extended;
mod fuzz;
mod raw;
mod simple;
mod startup;
mod types;

use std::net::SocketAddr;
use std::sync::Arc;

use portrait::config::{AuthMode, Config};
use portrait::engine::Engine;
use portrait::pg::{TlsConfig, serve};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};
use tokio_util::sync::CancellationToken;

/// A server on a port of its own, with a data directory of its own; both are gone when it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) engine: Arc<Engine>,
    runtime: Option<Runtime>,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Trusts everybody.
    pub(crate) fn start() -> Self {
        Self::start_with(AuthMode::Trust, None, |_| {})
    }

    pub(crate) fn start_with(auth: AuthMode, tls: Option<TlsConfig>, change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::for_dir(folder.path()).unwrap();
        config.query_threads = 2;
        change(&mut config);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_stack_size(8 << 20).enable_all().build().unwrap();
        let stop = CancellationToken::new();
        let (engine, address) = runtime.block_on(async {
            let engine = portrait::sql::open(&config).await.unwrap();
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            tokio::spawn(serve(Arc::clone(&engine), listener, auth, tls, stop.clone()));
            (engine, address)
        });
        Self { address, engine, runtime: Some(runtime), stop, _folder: folder }
    }

    /// Runs a test on the server's own IO threads.
    pub(crate) fn run<T>(&self, test: impl Future<Output = T>) -> T {
        self.runtime.as_ref().unwrap().block_on(test)
    }

    /// Connects as `user` without a password.
    pub(crate) async fn connect(&self, user: &str) -> Client {
        self.connect_with(&format!("user={user}")).await.unwrap()
    }

    /// Connects with more of a connection string.
    pub(crate) async fn connect_with(&self, options: &str) -> Result<Client, tokio_postgres::Error> {
        let text = format!("host=127.0.0.1 port={} dbname=portrait sslmode=disable {options}", self.address.port());
        let (client, connection) = tokio_postgres::connect(&text, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(std::time::Duration::from_secs(5));
        }
    }
}

/// The SQLSTATE of a failed call.
pub(crate) fn code<T>(result: Result<T, tokio_postgres::Error>) -> String {
    match result {
        Ok(_) => "no error".into(),
        Err(error) => error.code().map_or_else(|| error.to_string(), |code| code.code().to_owned()),
    }
}
