//! S3 and what speaks its protocol: `s3://bucket/prefix`, with credentials and endpoint from the environment.
//!
//! SQL names a place and nothing else: never a key, never an endpoint. A request has a time limit and is repeated a few times,
//! so that a store that does not answer is an error within a minute, not a statement that hangs.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use portrait_udfs::error::{Error, Result};

/// What a location in an object store begins with.
const SCHEME: &str = "s3://";
/// To find the host and shake hands with it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// One request, its answer read to the end.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a request is repeated when the connection breaks or the store says that it is busy.
const RETRIES_MAX: usize = 5;
/// No request is begun again after this.
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);

/// Whether a location is one in an object store.
pub(crate) fn is_remote(location: &str) -> bool {
    location.get(..SCHEME.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME))
}

/// A bucket and a place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct S3Place {
    pub(super) bucket: String,
    /// The key as it is written, without a slash at its beginning; it may hold a pattern.
    pub(super) key: String,
}

impl S3Place {
    /// Reads `s3://bucket/key`.
    ///
    /// # Errors
    /// 22023 for what is no such place. What is written is repeated only where it cannot hold a password.
    pub(super) fn parse(location: &str) -> Result<Self> {
        let bad = |what: &str| Error::invalid(what).hint("Write s3://bucket/prefix; credentials come from the server's environment.");
        let rest = location.get(SCHEME.len()..).filter(|_| is_remote(location)).ok_or_else(|| bad("not a location of scheme \"s3\""))?;
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.contains('@') {
            return Err(bad("a location must not hold credentials"));
        }
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if !(3..=255).contains(&bucket.len()) || !bucket.chars().all(named) {
            return Err(bad("a location of scheme \"s3\" needs the name of a bucket"));
        }
        if key.contains(['\0', '\\']) || key.starts_with('/') || key.contains("//") {
            return Err(bad("a key of a location must not hold an empty part, a backslash or a zero byte"));
        }
        Ok(Self { bucket: bucket.to_owned(), key: key.to_owned() })
    }

    /// The key as a path.
    ///
    /// # Errors
    /// 22023 for a part that no object can be called by.
    pub(super) fn path(&self) -> Result<Path> {
        Path::parse(&self.key).map_err(|_| {
            Error::invalid(format!("\"{self}\" is not a valid location")).hint("A key must not hold \"..\" or control characters.")
        })
    }
}

impl std::fmt::Display for S3Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.bucket, self.key)
    }
}

/// A client of a bucket. Nothing is contacted yet.
///
/// # Errors
/// 22023 when the environment has no credentials, or something that cannot be used.
pub(super) fn connect(bucket: &str) -> Result<Arc<dyn ObjectStore>> {
    check_environment(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()), bucket)?;
    let retry = RetryConfig {
        backoff: BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(5), base: 2.0 },
        max_retries: RETRIES_MAX,
        retry_timeout: RETRY_TIMEOUT,
    };
    let allow_http =
        std::env::var("AWS_ALLOW_HTTP").is_ok_and(|value| matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "on" | "yes"));
    check_endpoint(|name| std::env::var(name).ok(), allow_http)?;
    let client = ClientOptions::new().with_connect_timeout(CONNECT_TIMEOUT).with_timeout(REQUEST_TIMEOUT).with_allow_http(allow_http);
    let store = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_client_options(client)
        .with_retry(retry)
        .build()
        // Its text may repeat what the environment says.
        .map_err(|_| Error::invalid(format!("object store {SCHEME}{bucket} cannot be used")).hint(ENVIRONMENT))?;
    Ok(Arc::new(store))
}

const ENVIRONMENT: &str = "Check the server's AWS_* variables: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, \
                           AWS_ENDPOINT_URL (with AWS_ALLOW_HTTP=true for http).";

/// Refuses an endpoint in clear text that nobody asked for.
fn check_endpoint(variable: impl Fn(&str) -> Option<String>, allow_http: bool) -> Result<()> {
    let endpoint = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"].into_iter().find_map(variable);
    match endpoint {
        Some(endpoint) if !allow_http && endpoint.to_ascii_lowercase().starts_with("http://") => {
            Err(Error::invalid("the endpoint of the object store is not encrypted")
                .hint("Use https in AWS_ENDPOINT_URL, or set AWS_ALLOW_HTTP=true to let data pass in clear text."))
        }
        _ => Ok(()),
    }
}

/// Refuses an environment that says nothing about who we are: without, the client would ask the metadata service of a cloud that
/// we may not be in, and wait for it.
fn check_environment(is_set: impl Fn(&str) -> bool, bucket: &str) -> Result<()> {
    let complete = |names: &[&str]| names.iter().all(|name| is_set(name));
    let known = complete(&["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
        || complete(&["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"])
        || is_set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
        || complete(&["AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"])
        || is_set("AWS_METADATA_ENDPOINT")
        || is_set("AWS_SKIP_SIGNATURE");
    if known {
        return Ok(());
    }
    Err(Error::invalid(format!("there are no credentials for {SCHEME}{bucket}"))
        .detail("They come from the environment of the server.")
        .hint("Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for a public bucket."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_written() {
        for (text, bucket, key) in [
            ("s3://lake/events/*.parquet", "lake", "events/*.parquet"),
            ("S3://lake", "lake", ""),
            ("s3://my.bucket-1/a/day=2024-05-01/x%2Fy.csv", "my.bucket-1", "a/day=2024-05-01/x%2Fy.csv"),
        ] {
            let place = S3Place::parse(text).unwrap();
            assert_eq!((place.bucket.as_str(), place.key.as_str()), (bucket, key));
            assert!(place.to_string().starts_with(&format!("s3://{bucket}/")));
        }
        for bad in [
            "s3://",
            "s3:///x",
            "s3://ab/x",
            "s3://key:secret@bucket/x",
            "s3://bu cket/x",
            "s3://bucket//x",
            "s3://bucket/a//b",
            "gs://b/x",
            "x",
        ] {
            let error = S3Place::parse(bad).unwrap_err();
            assert!(!error.message.contains("secret"), "{error}");
        }
        assert!(S3Place::parse("s3://bucket/a/../b").unwrap().path().is_err());
        assert_eq!(S3Place::parse("s3://bucket/a/b/").unwrap().path().unwrap().as_ref(), "a/b");
    }

    #[test]
    fn without_credentials_nobody_is_asked() {
        let with = |set: &'static [&'static str]| check_environment(move |name| set.contains(&name), "bucket");
        assert!(with(&["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]).is_ok());
        assert!(with(&["AWS_SKIP_SIGNATURE"]).is_ok());
        let endpoint = |name: &str| (name == "AWS_ENDPOINT_URL").then(|| "http://localhost:9000".to_owned());
        assert!(check_endpoint(endpoint, false).unwrap_err().hint.unwrap().contains("AWS_ALLOW_HTTP"));
        assert!(check_endpoint(endpoint, true).is_ok() && check_endpoint(|_| None, false).is_ok());
        let error = with(&["AWS_ACCESS_KEY_ID"]).unwrap_err();
        assert!(error.hint.unwrap().contains("AWS_SECRET_ACCESS_KEY"));
    }
}
