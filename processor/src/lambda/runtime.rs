//! Lambda's Runtime API (2018-06-01): the next invocation is asked for, handled, answered, for ever.
//!
//! An invocation that fails, or whose handler panics, is answered as failed, so its event comes again; the next one is
//! handled as if nothing had been. When the API itself fails the loop ends: Lambda then starts the program anew and
//! gives the event to it again.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::FutureExt;
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tracing::error;

/// The variable that says where the API is: host and port, on this machine.
pub const API_VARIABLE: &str = "AWS_LAMBDA_RUNTIME_API";
/// The API's version.
const VERSION: &str = "2018-06-01";

/// The API.
#[derive(Clone, Debug)]
pub struct RuntimeApi {
    http: Client,
    base: String,
}

/// An invocation.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Its id, by which it is answered.
    pub id: String,
    /// Its event.
    pub event: Bytes,
    /// When it is killed: milliseconds since 1970-01-01 UTC.
    pub deadline_ms: u64,
}

impl Invocation {
    /// The time that is left.
    pub fn left(&self) -> Duration {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Duration::from_millis(self.deadline_ms).saturating_sub(now)
    }
}

/// The API failed.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// Nobody answers.
    #[error("Lambda's Runtime API, {call}: {source}")]
    Http {
        /// The call.
        call: &'static str,
        /// What went wrong.
        source: reqwest::Error,
    },
    /// It says no.
    #[error("Lambda's Runtime API, {call}: status {status}")]
    Refused {
        /// The call.
        call: &'static str,
        /// The HTTP status.
        status: u16,
    },
    /// An invocation lacks a header.
    #[error("Lambda's Runtime API gives an invocation without {0}")]
    Header(&'static str),
}

impl RuntimeApi {
    /// The API at `host:port`.
    ///
    /// # Errors
    /// The HTTP client cannot be made.
    pub fn new(host: &str) -> Result<Self, RuntimeError> {
        // No time limit: the next invocation may be hours away. No proxy: the API is on this machine.
        let http = Client::builder().no_proxy().build();
        let http = http.map_err(|source| RuntimeError::Http { call: "its client", source })?;
        Ok(Self { http, base: format!("http://{host}/{VERSION}/runtime") })
    }

    /// Waits for the next invocation.
    async fn next(&self) -> Result<Invocation, RuntimeError> {
        let failed = |source| RuntimeError::Http { call: "next invocation", source };
        let sent = self.http.get(format!("{}/invocation/next", self.base)).send().await.map_err(failed)?;
        let answer = accepted("next invocation", sent)?;
        let header = |name: &'static str| {
            let value = answer.headers().get(name).and_then(|value| value.to_str().ok());
            value.map(str::to_owned).ok_or(RuntimeError::Header(name))
        };
        let deadline = header("Lambda-Runtime-Deadline-Ms")?;
        Ok(Invocation {
            id: header("Lambda-Runtime-Aws-Request-Id")?,
            deadline_ms: deadline
                .parse()
                .map_err(|_| RuntimeError::Header("a Lambda-Runtime-Deadline-Ms that is a number"))?,
            event: answer.bytes().await.map_err(failed)?,
        })
    }

    /// Tells that the program cannot start, and why.
    pub async fn init_failed(&self, reason: &str) -> Result<(), RuntimeError> {
        self.post("the start's failure", "init/error", &failure("InitError", reason)).await
    }

    async fn post(&self, call: &'static str, path: &str, value: &Value) -> Result<(), RuntimeError> {
        let sent = self.http.post(format!("{}/{path}", self.base)).body(value.to_string()).send().await;
        accepted(call, sent.map_err(|source| RuntimeError::Http { call, source })?).map(drop)
    }
}

fn accepted(call: &'static str, answer: Response) -> Result<Response, RuntimeError> {
    let status = answer.status();
    if status.is_success() {
        Ok(answer)
    } else {
        Err(RuntimeError::Refused { call, status: status.as_u16() })
    }
}

fn failure(kind: &str, reason: &str) -> Value {
    json!({"errorType": kind, "errorMessage": reason, "stackTrace": []})
}

/// Handles invocations, one after another; returns when the API fails. The handler's error is the reason that the
/// invoker is told.
pub async fn serve(
    api: &RuntimeApi,
    handle: impl AsyncFn(&Invocation) -> Result<Value, String>,
) -> RuntimeError {
    loop {
        let answered = async {
            let invocation = api.next().await?;
            let id = &invocation.id;
            let handled = AssertUnwindSafe(handle(&invocation)).catch_unwind().await;
            let failed = match handled {
                Ok(Ok(answer)) => {
                    return api.post("the answer", &format!("invocation/{id}/response"), &answer).await;
                }
                Ok(Err(reason)) => failure("Failed", &reason),
                // What it says may hold values of rows.
                Err(_panic) => {
                    failure("Panicked", "the program has a mistake in it: the handler panicked, see its log")
                }
            };
            error!(invocation = %id, reason = %failed["errorMessage"], "the invocation failed; its event comes again");
            api.post("the failure", &format!("invocation/{id}/error"), &failed).await
        };
        if let Err(error) = answered.await {
            return error;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// An API that gives these events, an invocation each, and returns what it was told.
    async fn told(
        events: &'static [&'static str],
        handle: impl AsyncFn(&Invocation) -> Result<Value, String>,
    ) -> Vec<(String, Value)> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = RuntimeApi::new(&listener.local_addr().unwrap().to_string()).unwrap();
        let served = tokio::spawn(async move {
            let (mut events, mut told) = (events.iter().enumerate(), Vec::new());
            loop {
                let (mut connection, _) = listener.accept().await.unwrap();
                let mut request = String::new();
                let (head, body) = loop {
                    let mut chunk = [0; 4096];
                    let read = connection.read(&mut chunk).await.unwrap();
                    request += std::str::from_utf8(&chunk[..read]).unwrap();
                    let Some((head, body)) = request.split_once("\r\n\r\n") else { continue };
                    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                    if body.len() >= length.unwrap_or("0").parse::<usize>().unwrap() {
                        break (head.to_owned(), body.to_owned());
                    }
                };
                let path = head.split(' ').nth(1).unwrap().to_owned();
                let asks = path.ends_with("/next");
                if !asks {
                    told.push((path, serde_json::from_str(&body).unwrap()));
                }
                let (status, headers, answer) = match asks.then(|| events.next()) {
                    None => ("202 x", String::new(), ""),
                    Some(Some((number, event))) => {
                        let id = format!("Lambda-Runtime-Aws-Request-Id: {number}\r\n");
                        ("200 x", id + "Lambda-Runtime-Deadline-Ms: 99999999999999\r\n", *event)
                    }
                    Some(None) => ("500 x", String::new(), ""),
                };
                let length = answer.len();
                let answer = format!(
                    "HTTP/1.1 {status}\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n{answer}"
                );
                connection.write_all(answer.as_bytes()).await.unwrap();
                if status.starts_with("500") {
                    return told;
                }
            }
        });
        let ended = serve(&api, handle).await;
        assert!(matches!(ended, RuntimeError::Refused { status: 500, .. }), "{ended}");
        served.await.unwrap()
    }

    #[tokio::test]
    async fn each_invocation_is_answered_also_after_a_failure_and_a_panic() {
        let told = told(&["fine", "fails", "panics", "fine"], async |invocation| {
            assert!(invocation.left() > Duration::from_secs(1));
            match &invocation.event[..] {
                b"fine" => Ok(json!({"rows": 1})),
                b"fails" => Err("no bucket".to_owned()),
                _ => panic!("value 21.5"),
            }
        })
        .await;
        let path = |number: usize, what: &str| format!("/2018-06-01/runtime/invocation/{number}/{what}");
        assert_eq!(told[0], (path(0, "response"), json!({"rows": 1})));
        assert_eq!(told[1].0, path(1, "error"));
        assert_eq!(told[1].1["errorMessage"], "no bucket");
        assert_eq!(
            (told[2].0.as_str(), &told[2].1["errorType"]),
            (path(2, "error").as_str(), &json!("Panicked"))
        );
        assert!(!told[2].1.to_string().contains("21.5"));
        assert_eq!(told[3], (path(3, "response"), json!({"rows": 1})));
    }
}
