//! An object store behind a network, as the rest of the program may rely on it.
//!
//! Three things are added to the client: a conditional put whose answer was lost is settled by reading what lies under the key;
//! errors are in a person's words and hold nothing that the store wrote back (an answer may repeat tokens); and writes can be
//! refused as a whole, for a store that cannot be written safely.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::client::{HttpError, HttpErrorKind};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error as StoreError, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use portrait_udfs::error::{Code, Error};

/// How often a conditional put is tried whose fate is not known.
const ATTEMPTS: usize = 3;

/// An object store behind a network.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    inner: Arc<dyn ObjectStore>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// As a person names it: `s3://bucket/prefix`.
    name: String,
    /// Why nothing may be written.
    refusal: OnceLock<Error>,
    /// The latest failure: Delta's kernel keeps the text of an error and nothing else of it.
    failure: parking_lot::Mutex<Option<Error>>,
}

impl Remote {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, name: String) -> Self {
        Self { inner, shared: Arc::new(Shared { name, refusal: OnceLock::new(), failure: parking_lot::Mutex::default() }) }
    }

    /// The client below: what it says is not settled.
    pub(super) fn inner(&self) -> &dyn ObjectStore {
        self.inner.as_ref()
    }

    /// As a person names it.
    pub(crate) fn name(&self) -> &str {
        &self.shared.name
    }

    /// From now on every write is this error.
    pub(super) fn refuse_writes(&self, why: Error) {
        // The first reason stays.
        let _ = self.shared.refusal.set(why);
    }

    /// # Errors
    /// Why nothing may be written.
    pub(crate) fn may_write(&self) -> portrait_udfs::error::Result<()> {
        self.shared.refusal.get().map_or(Ok(()), |why| Err(why.clone()))
    }

    fn check_write(&self) -> Result<()> {
        self.may_write().map_err(wrapped)
    }

    /// A client's error in a person's words.
    pub(super) fn in_words(&self, error: StoreError) -> StoreError {
        let error = in_words(error, &self.shared.name);
        if let Some(ours) = Error::find(&error) {
            *self.shared.failure.lock() = Some(ours.clone());
        }
        error
    }

    /// The failure of this store that a text repeats.
    pub(super) fn failure_in(&self, text: &str) -> Option<Error> {
        self.shared.failure.lock().clone().filter(|failure| text.contains(&failure.message))
    }

    /// What became of a conditional put that ended with `error`. `None`: nothing happened, so it may be tried again.
    async fn settle(&self, location: &Path, payload: &PutPayload, mode: &PutMode, error: &StoreError) -> Result<Option<PutResult>> {
        let there = match self.inner.get(location).await {
            Ok(found) => {
                let meta = found.meta.clone();
                Some((meta, found.bytes().await.map_err(|error| self.in_words(error))?))
            }
            Err(StoreError::NotFound { .. }) => None,
            Err(error) => return Err(self.in_words(error)),
        };
        let path = || location.to_string();
        match (there, mode) {
            (Some((meta, bytes)), _) if same(payload, &bytes) => {
                tracing::debug!(%location, %error, "a write reported an error, and had its effect");
                Ok(Some(PutResult { e_tag: meta.e_tag, version: meta.version }))
            }
            (Some(_), PutMode::Create) => Err(StoreError::AlreadyExists { path: path(), source: "there is another one".into() }),
            (Some((meta, _)), PutMode::Update(expected)) if meta.e_tag.is_some() && meta.e_tag == expected.e_tag => Ok(None),
            (Some(_), _) => Err(StoreError::Precondition { path: path(), source: "it was changed".into() }),
            (None, PutMode::Create) => Ok(None),
            (None, _) => Err(StoreError::Precondition { path: path(), source: "it is gone".into() }),
        }
    }
}

/// Whether what was to be written is what is there.
fn same(payload: &PutPayload, there: &Bytes) -> bool {
    let mut rest = there.as_ref();
    payload.content_length() == there.len()
        && payload.iter().all(|chunk| match rest.split_at_checked(chunk.len()) {
            Some((begin, tail)) => {
                rest = tail;
                begin == chunk.as_ref()
            }
            None => false,
        })
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shared.name)
    }
}

#[async_trait]
impl ObjectStore for Remote {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.check_write()?;
        let mut attempts = 0;
        loop {
            let error = match self.inner.put_opts(location, payload.clone(), options.clone()).await {
                Ok(put) => return Ok(put),
                Err(error) => error,
            };
            attempts += 1;
            // Two equal overwrites are one; and what was refused outright did not happen.
            if options.mode == PutMode::Overwrite || is_refused(&error) {
                return Err(self.in_words(error));
            }
            match self.settle(location, &payload, &options.mode, &error).await? {
                Some(landed) => return Ok(landed),
                None if attempts < ATTEMPTS => {}
                // Nothing is there; but a request that is still on its way may land.
                None => return Err(self.in_words(error)),
            }
        }
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.check_write()?;
        let inner = self.inner.put_multipart_opts(location, options).await.map_err(|error| self.in_words(error))?;
        Ok(Box::new(RemoteUpload { inner: Some(inner), store: self.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let mut found = self.inner.get_opts(location, options).await.map_err(|error| self.in_words(error))?;
        if let GetResultPayload::Stream(stream) = found.payload {
            let store = self.clone();
            found.payload = GetResultPayload::Stream(stream.map_err(move |error| store.in_words(error)).boxed());
        }
        Ok(found)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await.map_err(|error| self.in_words(error))
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        if let Err(error) = self.check_write() {
            return futures::stream::once(std::future::ready(Err(error))).boxed();
        }
        let store = self.clone();
        self.inner.delete_stream(locations).map_err(move |error| store.in_words(error)).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let store = self.clone();
        self.inner.list(prefix).map_err(move |error| store.in_words(error)).boxed()
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let store = self.clone();
        self.inner.list_with_offset(prefix, offset).map_err(move |error| store.in_words(error)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await.map_err(|error| self.in_words(error))
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.check_write()?;
        self.inner.copy_opts(from, to, options).await.map_err(|error| self.in_words(error))
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.check_write()?;
        self.inner.rename_opts(from, to, options).await.map_err(|error| self.in_words(error))
    }
}

/// An upload in parts; dropped before its end, the store is told to forget the parts, which it would keep and charge for.
#[derive(Debug)]
struct RemoteUpload {
    inner: Option<Box<dyn MultipartUpload>>,
    store: Remote,
}

impl RemoteUpload {
    fn ended() -> StoreError {
        StoreError::Generic { store: "S3", source: "the upload was completed or aborted before".into() }
    }
}

#[async_trait]
impl MultipartUpload for RemoteUpload {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        let Some(inner) = &mut self.inner else { return Box::pin(std::future::ready(Err(Self::ended()))) };
        let (part, store) = (inner.put_part(payload), self.store.clone());
        Box::pin(async move { part.await.map_err(|error| store.in_words(error)) })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let inner = self.inner.as_mut().ok_or_else(Self::ended)?;
        let done = inner.complete().await.map_err(|error| self.store.in_words(error))?;
        self.inner = None;
        Ok(done)
    }

    async fn abort(&mut self) -> Result<()> {
        match self.inner.take() {
            Some(mut inner) => inner.abort().await.map_err(|error| self.store.in_words(error)),
            None => Ok(()),
        }
    }
}

impl Drop for RemoteUpload {
    fn drop(&mut self) {
        let (Some(mut inner), Ok(runtime)) = (self.inner.take(), tokio::runtime::Handle::try_current()) else { return };
        runtime.spawn(async move {
            if let Err(error) = inner.abort().await {
                tracing::debug!(error = %in_words(error, ""), "parts of an unfinished upload not removed");
            }
        });
    }
}

/// Whether a put that ended like this had no effect, for certain.
fn is_refused(error: &StoreError) -> bool {
    let refused = matches!(
        error,
        StoreError::NotImplemented { .. }
            | StoreError::NotSupported { .. }
            | StoreError::InvalidPath { .. }
            | StoreError::PermissionDenied { .. }
            | StoreError::Unauthenticated { .. }
    );
    refused || matches!(http_kind(error), Some(HttpErrorKind::Connect))
}

fn http_kind(error: &StoreError) -> Option<HttpErrorKind> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<HttpError>() {
            return Some(found.kind());
        }
        next = error.source();
    }
    None
}

fn wrapped(error: Error) -> StoreError {
    StoreError::Generic { store: "S3", source: Box::new(error) }
}

/// Answers that mean: not you, or not so.
const DENIALS: [&str; 11] = [
    "AccessDenied",
    "AuthorizationHeaderMalformed",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidToken",
    "PermanentRedirect",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "status 401",
    "status 403",
];

/// A client's error as one of ours inside the kind that callers look for. The answer's text stays behind: only its code is told.
fn in_words(error: StoreError, name: &str) -> StoreError {
    if Error::find(&error).is_some() {
        return error;
    }
    let answer = answer_code(&error.to_string());
    let answer = answer.as_deref();
    if answer == Some("NoSuchBucket") {
        return wrapped(
            Error::invalid(format!("the bucket of \"{name}\" does not exist"))
                .hint("Check the name; for a store of your own check AWS_ENDPOINT_URL as well."),
        );
    }
    let said = answer.map_or_else(|| "The store gave no reason.".to_owned(), |code| format!("The store answered {code}."));
    let denied = answer.is_some_and(|answer| DENIALS.contains(&answer))
        || matches!(error, StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. });
    match error {
        StoreError::NotFound { path, .. } => StoreError::NotFound { path, source: "there is no such object".into() },
        StoreError::AlreadyExists { path, .. } => StoreError::AlreadyExists { path, source: "there is one".into() },
        StoreError::Precondition { path, .. } => StoreError::Precondition { path, source: "it was changed".into() },
        StoreError::NotModified { path, .. } => StoreError::NotModified { path, source: "it is the same".into() },
        StoreError::NotImplemented { operation, .. } => {
            wrapped(Error::new(Code::FeatureNotSupported, format!("the object store of \"{name}\" does not know {operation}")))
        }
        _ if denied => wrapped(
            Error::new(Code::InsufficientPrivilege, format!("the object store refuses this server's access to \"{name}\"")).detail(said).hint(
                "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and AWS_REGION of the server, and what the bucket allows.",
            ),
        ),
        other => wrapped(match http_kind(&other) {
            Some(kind @ (HttpErrorKind::Connect | HttpErrorKind::Timeout)) => {
                let what = if matches!(kind, HttpErrorKind::Connect) { "No connection can be made." } else { "It does not answer in time." };
                Error::new(Code::Io, format!("the object store of \"{name}\" cannot be reached"))
                    .detail(what)
                    .hint("Check AWS_ENDPOINT_URL and AWS_REGION of the server, the network between them, and its certificate.")
            }
            Some(_) => Error::new(Code::Io, format!("the connection to the object store of \"{name}\" broke")),
            None => Error::new(Code::Io, format!("the object store of \"{name}\" failed")).detail(said),
        }),
    }
}

/// What an answer calls its error: `<Code>NoSuchBucket</Code>`, or else the status.
fn answer_code(text: &str) -> Option<String> {
    let word = |text: &str| {
        Some(text.to_owned()).filter(|word| !word.is_empty() && word.len() < 64 && word.chars().all(|c| c.is_ascii_alphanumeric()))
    };
    let tagged = text.split_once("<Code>").and_then(|(_, rest)| word(rest.split_once("</Code>")?.0));
    let deleting = || word(text.rsplit_once("(code: ")?.1.strip_suffix(')')?);
    let status = || word(text.split_once("status code: ")?.1.get(..3)?).map(|status| format!("status {status}"));
    tagged.or_else(deleting).or_else(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_tell_the_code_and_nothing_else_of_an_answer() {
        let body = "Server returned non-2xx status code: 403 Forbidden: <Error><Code>SignatureDoesNotMatch</Code><StringToSign>hidden-token</StringToSign></Error>";
        let path = || "p".to_owned();
        let errors = [
            (StoreError::PermissionDenied { path: path(), source: body.into() }, Code::InsufficientPrivilege, "SignatureDoesNotMatch"),
            (
                StoreError::Generic { store: "S3", source: body.replace("403", "503").replace("<Code>", "<C>").into() },
                Code::Io,
                "status 503",
            ),
            (StoreError::NotFound { path: path(), source: "x <Code>NoSuchBucket</Code> hidden-token".into() }, Code::InvalidParameter, ""),
        ];
        for (error, code, said) in errors {
            let error = in_words(error, "s3://bucket/p");
            assert!(!format!("{error:?} {error}").contains("hidden"), "{error:?}");
            let ours = super::super::super::store_error(error);
            assert_eq!(ours.code, code);
            assert!(ours.detail.unwrap_or_default().contains(said));
        }
        let gone = in_words(StoreError::NotFound { path: path(), source: "<Code>NoSuchKey</Code> hidden-token".into() }, "s3://bucket/p");
        assert!(matches!(gone, StoreError::NotFound { .. }) && !gone.to_string().contains("hidden"));
    }

    #[test]
    fn payloads_are_compared_over_their_chunks() {
        let payload = PutPayload::from_iter([Bytes::from_static(b"ab"), Bytes::from_static(b"c")]);
        assert!(same(&payload, &Bytes::from_static(b"abc")));
        assert!(!same(&payload, &Bytes::from_static(b"abd")));
        assert!(!same(&payload, &Bytes::from_static(b"abcd")));
    }

    #[tokio::test]
    async fn a_refused_write_is_our_error() {
        let store = Remote::new(Arc::new(object_store::memory::InMemory::new()), "s3://bucket".into());
        store.refuse_writes(Error::new(Code::ReadOnly, "no"));
        let put = store.put(&Path::from("a"), "x".into()).await.unwrap_err();
        let part = store.put_multipart(&Path::from("a")).await.unwrap_err();
        let delete = store.delete(&Path::from("a")).await.unwrap_err();
        for error in [put, part, delete] {
            assert_eq!(Error::find(&error).unwrap().code, Code::ReadOnly);
        }
        assert!(matches!(store.get(&Path::from("a")).await, Err(StoreError::NotFound { .. })));
    }
}
