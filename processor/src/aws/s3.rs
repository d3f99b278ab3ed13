//! A bucket of S3 as an object store that says what to do when S3 refuses.
//!
//! `object_store` speaks to S3 and tries again where that can help. A write on the condition that the key is new is
//! S3's own (`If-None-Match`), whatever the environment says: commits stand on it. Here a denial gets the name of the
//! missing right, and a bucket that is elsewhere or nowhere is called so, for whoever asked: the lake, Delta or a query.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::path::Path;
use object_store::{
    ClientConfigKey, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, RetryConfig,
};
use url::Url;

use super::access::{Access, Service};
use super::error::{BucketError, CallError, SetupError, code_and_message};

/// Further tries of a request that S3 could not answer, and of one that it throttled.
const RETRIES_MAX: usize = 6;
/// The time after which no further try begins.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Longest idle time of a connection that is used again: S3 ends idle ones, and a frozen function does not see it.
const IDLE_MAX: &str = "5 seconds";

/// Where a lake is in S3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Place {
    /// The bucket.
    pub bucket: String,
    /// What stands before `bronze/` in keys: empty, or ending in `/`.
    pub prefix: String,
}

impl S3Place {
    /// The place of an `s3://bucket/prefix` URL; `None` for another URL. A prefix is of letters, digits and `._=-`, between
    /// slashes, so that it is written the same in URLs, keys and policies.
    pub fn parse(url: &str) -> Option<Self> {
        let parsed = Url::parse(url).ok().filter(|url| url.scheme() == "s3")?;
        let prefix = parsed.path().trim_matches('/');
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '=' | '-');
        let folders = || prefix.split('/').all(|folder| !folder.is_empty() && folder.chars().all(plain));
        if parsed.query().is_some() || parsed.fragment().is_some() || !(prefix.is_empty() || folders()) {
            return None;
        }
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Some(Self { bucket: parsed.host_str()?.to_owned(), prefix })
    }
}

/// A bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    name: String,
    region: String,
    store: AmazonS3,
}

impl Bucket {
    /// The bucket of the name; asks for nothing yet. Other `AWS_*` variables that `object_store` knows, of encryption
    /// for one, hold.
    ///
    /// # Errors
    /// Such a variable is wrong.
    pub fn new(access: &Access, name: &str) -> std::result::Result<Self, SetupError> {
        let endpoint = access.endpoint(Service::S3);
        let retry = RetryConfig { max_retries: RETRIES_MAX, retry_timeout: RETRY_MAX, ..Default::default() };
        let store = AmazonS3Builder::from_env()
            .with_bucket_name(name)
            .with_region(access.region())
            .with_config(AmazonS3ConfigKey::S3Endpoint, endpoint.as_str().trim_end_matches('/'))
            .with_virtual_hosted_style_request(false)
            .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::PoolIdleTimeout), IDLE_MAX)
            .with_allow_http(endpoint.scheme() == "http")
            .with_credentials(Arc::new(access.credentials().clone()))
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_retry(retry)
            .build()
            .map_err(SetupError::Bucket)?;
        Ok(Self { name: name.to_owned(), region: access.region().to_owned(), store })
    }

    /// What S3 said, in words that tell the operator what to do; what callers reckon with stays as it is.
    fn explain(&self, action: &'static str, key: &str, error: Error) -> Error {
        let resource = match action {
            "s3:ListBucket" => format!("arn:aws:s3:::{}", self.name),
            _ => format!("arn:aws:s3:::{}/{key}", self.name),
        };
        if let Error::Unauthenticated { source, path } = error {
            let source = CallError::no_credentials(action, &resource, source.to_string());
            return Error::Unauthenticated { path, source: source.into() };
        }
        let text = error.to_string();
        let (code, message) = code_and_message(&text);
        let bucket = || self.name.clone();
        let generic = |source: BucketError| Error::Generic { store: "S3", source: source.into() };
        match code.as_str() {
            "NoSuchBucket" => generic(BucketError::Missing { bucket: bucket() }),
            "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken" | "InvalidToken" => {
                let source = CallError::no_credentials(action, &resource, format!("{code}: {message}"));
                Error::Unauthenticated { path: key.to_owned(), source: source.into() }
            }
            "PermanentRedirect" | "AuthorizationHeaderMalformed" => {
                generic(BucketError::Elsewhere { bucket: bucket(), region: self.region.clone() })
            }
            // Without a body, as an answer to HEAD is.
            _ if text.contains("redirect without LOCATION") => {
                generic(BucketError::Elsewhere { bucket: bucket(), region: self.region.clone() })
            }
            // A denied listing is no `PermissionDenied`, and a denied key of a deletion has no XML.
            _ if matches!(error, Error::PermissionDenied { .. })
                || code == "AccessDenied"
                || text.contains("code: AccessDenied") =>
            {
                let message = if action == "s3:GetObject" {
                    format!(
                        "{message}; S3 says the same of a key that is not there to those without s3:ListBucket on arn:aws:s3:::{}",
                        self.name
                    )
                } else {
                    message
                };
                let source = CallError::refusal(action, &resource, 403, "AccessDenied".to_owned(), message);
                Error::PermissionDenied { path: key.to_owned(), source: source.into() }
            }
            _ => error,
        }
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "s3://{}", self.name)
    }
}

#[async_trait]
impl ObjectStore for Bucket {
    async fn put_opts(&self, at: &Path, bytes: PutPayload, options: PutOptions) -> Result<PutResult> {
        let put = self.store.put_opts(at, bytes, options).await;
        put.map_err(|error| self.explain("s3:PutObject", at.as_ref(), error))
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let begun = self.store.put_multipart_opts(at, options).await;
        begun.map_err(|error| self.explain("s3:PutObject", at.as_ref(), error))
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        let got = self.store.get_opts(at, options).await;
        got.map_err(|error| self.explain("s3:GetObject", at.as_ref(), error))
    }

    async fn get_ranges(&self, at: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let got = self.store.get_ranges(at, ranges).await;
        got.map_err(|error| self.explain("s3:GetObject", at.as_ref(), error))
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let bucket = self.clone();
        let deleted = self.store.delete_stream(keys);
        deleted.map_err(move |error| bucket.explain("s3:DeleteObject", "*", error)).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (bucket, at) = (self.clone(), prefix.cloned().unwrap_or_default());
        let listed = self.store.list(prefix);
        listed.map_err(move |error| bucket.explain("s3:ListBucket", at.as_ref(), error)).boxed()
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (bucket, at) = (self.clone(), prefix.cloned().unwrap_or_default());
        let listed = self.store.list_with_offset(prefix, offset);
        listed.map_err(move |error| bucket.explain("s3:ListBucket", at.as_ref(), error)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let at = prefix.map_or("", |prefix| prefix.as_ref());
        let listed = self.store.list_with_delimiter(prefix).await;
        listed.map_err(|error| self.explain("s3:ListBucket", at, error))
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let copied = self.store.copy_opts(from, to, options).await;
        copied.map_err(|error| self.explain("s3:PutObject", to.as_ref(), error))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use object_store::{ObjectStoreExt, PutMode};

    use super::super::access::tests::access;
    use super::super::client::tests::answering;
    use super::*;

    /// A bucket whose requests get these answers.
    async fn bucket(answers: &[(u16, &str)]) -> Bucket {
        let (endpoint, _) = answering(answers).await;
        let access = access(&[("AWS_REGION", "eu-west-1"), ("AWS_ENDPOINT_URL", &endpoint)]).unwrap();
        Bucket::new(&access, "lake").unwrap()
    }

    fn xml(code: &str) -> String {
        format!("<Error><Code>{code}</Code><Message>Said so</Message></Error>")
    }

    #[test]
    fn a_place_is_a_bucket_and_a_plain_prefix() {
        let place =
            |bucket: &str, prefix: &str| S3Place { bucket: bucket.to_owned(), prefix: prefix.to_owned() };
        assert_eq!(S3Place::parse("s3://lake"), Some(place("lake", "")));
        assert_eq!(S3Place::parse("s3://lake/"), Some(place("lake", "")));
        assert_eq!(S3Place::parse("s3://lake/tenant=a/b_1/"), Some(place("lake", "tenant=a/b_1/")));
        for url in [
            "file:///data/lake",
            "lake",
            "s3://",
            "s3://lake/a b",
            "s3://lake/a%20b",
            "s3://lake/a//b",
            "s3://lake/a?b",
        ] {
            assert_eq!(S3Place::parse(url), None, "{url}");
        }
    }

    #[tokio::test]
    async fn a_denial_names_the_right_and_what_it_is_for() {
        let denied = xml("AccessDenied");
        let bucket = bucket(&[(403, &denied), (403, &denied), (403, ""), (403, &denied)]).await;
        let at = Path::from("bronze/orders/a.csv");
        let put = bucket.put_opts(&at, PutPayload::new(), PutMode::Create.into()).await.unwrap_err();
        assert!(
            put.to_string().ends_with("needs s3:PutObject on arn:aws:s3:::lake/bronze/orders/a.csv"),
            "{put}"
        );
        let get = bucket.get(&at).await.unwrap_err().to_string();
        assert!(get.ends_with("needs s3:GetObject on arn:aws:s3:::lake/bronze/orders/a.csv"), "{get}");
        let head = bucket.head(&at).await.unwrap_err().to_string();
        assert!(head.contains("without s3:ListBucket on arn:aws:s3:::lake"), "{head}");
        let list = bucket.list(Some(&at)).try_next().await.unwrap_err().to_string();
        assert!(list.ends_with("needs s3:ListBucket on arn:aws:s3:::lake"), "{list}");
    }

    #[tokio::test]
    async fn a_bucket_that_is_elsewhere_or_nowhere_and_refused_keys_are_told_apart() {
        let at = Path::from("ledger/_delta_log/_last_checkpoint");
        for (status, code, wanted) in [
            (404, "NoSuchBucket", "there is no bucket lake; create it, or correct --lake"),
            (
                301,
                "PermanentRedirect",
                "the bucket lake is not in eu-west-1; set AWS_REGION to the bucket's region",
            ),
            (400, "AuthorizationHeaderMalformed", "set AWS_REGION to the bucket's region"),
            (403, "InvalidAccessKeyId", "there are no usable AWS credentials (InvalidAccessKeyId: Said so)"),
            (403, "SignatureDoesNotMatch", "there are no usable AWS credentials"),
        ] {
            let error = bucket(&[(status, &xml(code))]).await.get(&at).await.unwrap_err();
            assert!(error.to_string().contains(wanted), "{code}: {error}");
            assert!(!matches!(error, Error::NotFound { .. }), "{code}");
        }
        let missing = bucket(&[(404, &xml("NoSuchKey"))]).await.get(&at).await.unwrap_err();
        assert!(matches!(missing, Error::NotFound { .. }), "{missing}");
    }

    #[tokio::test]
    async fn a_new_key_is_written_on_the_condition_that_it_is_new() {
        let taken = xml("PreconditionFailed");
        let (endpoint, served) = answering(&[(200, ""), (412, &taken)]).await;
        let access = access(&[("AWS_REGION", "eu-west-1"), ("AWS_ENDPOINT_URL", &endpoint)]).unwrap();
        let bucket = Bucket::new(&access, "lake").unwrap();
        let at = Path::from("ledger/_delta_log/00000000000000000000.json");
        bucket.put_opts(&at, PutPayload::new(), PutMode::Create.into()).await.ok();
        let second = bucket.put_opts(&at, PutPayload::new(), PutMode::Create.into()).await.unwrap_err();
        assert!(matches!(second, Error::AlreadyExists { .. }), "{second}");
        assert!(served.await.unwrap().iter().all(|request| request.contains("if-none-match: *")));
    }
}
