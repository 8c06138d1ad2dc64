//! Metrics and health over HTTP, for what watches the server: `GET /metrics`, `/healthz` (the process answers) and `/readyz` (it takes
//! statements that write).
//!
//! One short answer per connection; nothing of the data or of statements is told. Requests are read with `httparse`, bounded in
//! bytes and time.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;
use crate::engine::Engine;

/// The longest request that is read.
const REQUEST_BYTES_MAX: usize = 8 * 1024;
/// From accept to the end of the answer.
const TIME_MAX: Duration = Duration::from_secs(5);
/// Requests at once.
const REQUESTS_MAX: usize = 16;
const HEADERS_MAX: usize = 64;

/// Answers until `shutdown` fires.
pub(crate) async fn serve(listener: TcpListener, engine: Arc<Engine>, metrics: Arc<Metrics>, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(REQUESTS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((tcp, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (engine, metrics) = (Arc::clone(&engine), Arc::clone(&metrics));
        tokio::spawn(async move {
            // A client that is slow, or gone, is nobody's concern.
            let _ = tokio::time::timeout(TIME_MAX, attend(tcp, &engine, &metrics)).await;
            drop(place);
        });
    }
}

async fn attend(mut tcp: TcpStream, engine: &Engine, metrics: &Metrics) -> std::io::Result<()> {
    let answer = match request(&mut tcp).await? {
        Some((method, path)) => answer(&method, &path, engine, metrics),
        None => Answer::text(400, "Bad Request", "bad request\n"),
    };
    tcp.write_all(&answer.bytes()).await?;
    tcp.shutdown().await
}

/// Method and path of a request; `None` for what is none.
async fn request(tcp: &mut TcpStream) -> std::io::Result<Option<(String, String)>> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&bytes) {
            Ok(httparse::Status::Complete(_)) => {
                let (method, path) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
                return Ok(Some((method.to_owned(), path.split('?').next().unwrap_or_default().to_owned())));
            }
            Ok(httparse::Status::Partial) if bytes.len() < REQUEST_BYTES_MAX => {}
            _ => return Ok(None),
        }
        if tcp.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    }
}

fn answer(method: &str, path: &str, engine: &Engine, metrics: &Metrics) -> Answer {
    if !matches!(method, "GET" | "HEAD") {
        return Answer::text(405, "Method Not Allowed", "only GET is answered\n");
    }
    match path {
        "/metrics" => match metrics.text() {
            Ok(text) => Answer { kind: "application/openmetrics-text; version=1.0.0; charset=utf-8", ..Answer::text(200, "OK", text) },
            Err(_) => Answer::text(500, "Internal Server Error", "metrics cannot be written\n"),
        },
        "/healthz" => Answer::text(200, "OK", "ok\n"),
        "/readyz" => match engine.catalog().may_write() {
            Ok(()) => Answer::text(200, "OK", "ready\n"),
            Err(error) => Answer::text(503, "Service Unavailable", format!("{}\n", error.message)),
        },
        _ => Answer::text(404, "Not Found", "there are /metrics, /healthz and /readyz\n"),
    }
}

struct Answer {
    status: u16,
    reason: &'static str,
    kind: &'static str,
    body: String,
}

impl Answer {
    fn text(status: u16, reason: &'static str, body: impl Into<String>) -> Self {
        Self { status, reason, kind: "text/plain; charset=utf-8", body: body.into() }
    }

    fn bytes(&self) -> Vec<u8> {
        let Self { status, reason, kind, body } = self;
        let length = body.len();
        format!("HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
            .into_bytes()
    }
}
