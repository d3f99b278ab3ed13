//! Requests to AWS, signed by Signature Version 4, and the client that sends them.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use bytes::Bytes;
use reqwest::{Client, Method, RequestBuilder, redirect::Policy};
use rustls::ClientConfig;

/// What is asked of a service.
pub(crate) struct Asked<'a> {
    /// The service, as signatures name it.
    pub service: &'static str,
    pub region: &'a str,
    pub method: Method,
    /// Escaped as it is sent.
    pub url: String,
    /// Those that are signed.
    pub headers: Vec<(&'static str, &'a str)>,
    pub body: Bytes,
}

impl Asked<'_> {
    /// The request, signed now; `None` if its parts cannot be.
    pub(crate) fn signed(
        self,
        client: &Client,
        signer: Credentials,
        settings: SigningSettings,
    ) -> Option<RequestBuilder> {
        let Self { service, region, method, url, headers, body } = self;
        let signer = signer.into();
        let params = SigningParams::builder().identity(&signer).region(region).name(service);
        let params = params.time(SystemTime::now()).settings(settings).build().ok()?.into();
        let signed_headers = headers.iter().copied();
        let bytes = SignableBody::Bytes(&body);
        let signable = SignableRequest::new(method.as_str(), url.as_str(), signed_headers, bytes).ok()?;
        let (signature, _) = sign(signable, &params).ok()?.into_parts();
        let request = client.request(method.clone(), &url);
        let headers = headers.iter().copied().chain(signature.headers());
        let request = headers.fold(request, |request, (name, value)| request.header(name, value));
        Some(request.body(body))
    }
}

/// A client with these roots and, where they are asked for, this certificate. Redirects are not followed: a signature is
/// for one host.
pub(crate) fn client(tls: ClientConfig) -> reqwest::Result<Client> {
    let client = Client::builder().tls_backend_preconfigured(tls).redirect(Policy::none());
    client.connect_timeout(Duration::from_secs(10)).build()
}
