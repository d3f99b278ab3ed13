//! Where lineage goes: a file of one event per line, or an HTTP collector.
//!
//! Sending never stops or slows ingestion. Events wait in a queue of at most [`QUEUE_EVENTS_MAX`], which one
//! task empties; a full queue, a refusal or no answer within [`TIMEOUT`] costs the event, which is counted and
//! warned of. When the program ends it waits at most [`FLUSH_MAX`] for what is queued. Plain HTTP goes to this
//! machine alone unless it is allowed.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use serde_json::Value;
use tokio::fs::OpenOptions;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinHandle;
use tracing::warn;
use url::{Host, Url};

/// Events that wait to be sent; a run of ten datasets makes twenty.
pub const QUEUE_EVENTS_MAX: usize = 256;
/// One event's sending, in all.
pub const TIMEOUT: Duration = Duration::from_secs(5);
/// What the program's end waits for the queue.
pub const FLUSH_MAX: Duration = Duration::from_secs(5);

/// Takes events and sends them when it can.
#[derive(Debug)]
pub struct Outlet {
    queue: Sender<Value>,
    task: JoinHandle<()>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Events that are queued or being sent.
    waiting: AtomicU64,
    dropped: AtomicU64,
}

/// What is given as a target is none.
#[derive(Debug, thiserror::Error)]
pub enum OutletError {
    /// No URL of a known kind.
    #[error("--lineage is neither file:///path/events.ndjson nor an http:// or https:// URL")]
    Url,
    /// Lineage would cross the network unencrypted.
    #[error(
        "--lineage is http:// to another machine, where anyone on the way can read it; use https://, or allow it with --lineage-allow-http"
    )]
    Plain,
    /// The client.
    #[error("the lineage collector's client: {0}")]
    Client(reqwest::Error),
}

enum Target {
    File(PathBuf),
    Collector { url: Url, client: Client },
}

/// An event was not sent.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("{0}")]
    File(#[from] std::io::Error),
    #[error("no answer: {0}")]
    NoAnswer(reqwest::Error),
    #[error("the collector answered {0}")]
    Refused(StatusCode),
}

impl Outlet {
    /// Opens an outlet; nothing is sent yet. Call within a tokio runtime.
    pub fn open(target: &str, allow_http: bool) -> Result<Self, OutletError> {
        let target = Target::parse(target, allow_http)?;
        let (queue, waiting) = mpsc::channel(QUEUE_EVENTS_MAX);
        let counts = Arc::new(Counts::default());
        let task = tokio::spawn(send_all(target, waiting, Arc::clone(&counts)));
        Ok(Self { queue, task, counts })
    }

    /// Queues an event, or counts it as dropped where the queue is full. Never waits.
    pub fn put(&self, event: Value) {
        self.counts.waiting.fetch_add(1, Ordering::Relaxed);
        if self.queue.try_send(event).is_err() {
            self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            warn!(dropped = self.dropped(), "the lineage queue is full, an event is dropped");
        }
    }

    /// Events that were not sent.
    pub fn dropped(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed)
    }

    /// Waits for what is queued, at most [`FLUSH_MAX`]; the events that were not sent.
    pub async fn close(self) -> u64 {
        let Self { queue, mut task, counts } = self;
        drop(queue);
        if tokio::time::timeout(FLUSH_MAX, &mut task).await.is_err() {
            task.abort();
            let left = counts.waiting.load(Ordering::Relaxed);
            counts.dropped.fetch_add(left, Ordering::Relaxed);
            warn!(dropped = left, "the lineage collector is too slow, what was queued is dropped");
        }
        counts.dropped.load(Ordering::Relaxed)
    }
}

impl Target {
    fn parse(target: &str, allow_http: bool) -> Result<Self, OutletError> {
        let url = Url::parse(target).map_err(|_| OutletError::Url)?;
        match url.scheme() {
            "file" => {
                let path = url.to_file_path().map_err(|()| OutletError::Url)?;
                Ok(Self::File(path))
            }
            "http" if !allow_http && !is_this_machine(&url) => Err(OutletError::Plain),
            "http" | "https" => {
                let client = Client::builder().timeout(TIMEOUT).redirect(Policy::none()).build();
                let client = client.map_err(|error| OutletError::Client(error.without_url()))?;
                Ok(Self::Collector { url, client })
            }
            _ => Err(OutletError::Url),
        }
    }

    async fn send(&self, event: &Value) -> Result<(), SendError> {
        match self {
            Self::File(path) => {
                let mut line = event.to_string();
                line.push('\n');
                let mut file = OpenOptions::new().create(true).append(true).open(path).await?;
                file.write_all(line.as_bytes()).await?;
                Ok(file.flush().await?)
            }
            Self::Collector { url, client } => {
                let json = HeaderValue::from_static("application/json");
                let request = client.post(url.clone()).header(CONTENT_TYPE, json).body(event.to_string());
                // A URL may hold a secret: it is not in the error.
                let answer =
                    request.send().await.map_err(|error| SendError::NoAnswer(error.without_url()))?;
                if answer.status().is_success() { Ok(()) } else { Err(SendError::Refused(answer.status())) }
            }
        }
    }
}

fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => false,
    }
}

async fn send_all(target: Target, mut queue: Receiver<Value>, counts: Arc<Counts>) {
    while let Some(event) = queue.recv().await {
        let sent = target.send(&event).await;
        counts.waiting.fetch_sub(1, Ordering::Relaxed);
        if let Err(error) = sent {
            let dropped = counts.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            warn!(%error, dropped, "a lineage event is dropped");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Instant;

    use serde_json::json;
    use tokio::net::TcpListener;

    use super::*;
    use crate::aws::client::tests::answering;

    #[tokio::test]
    async fn a_target_is_checked_before_anything_is_sent() {
        for (target, problem) in [
            ("events.ndjson", "neither"),
            ("ftp://example.org", "neither"),
            ("http://example.org/api/v1/lineage", "--lineage-allow-http"),
            ("http://192.0.2.1/", "--lineage-allow-http"),
        ] {
            let error = Target::parse(target, false).err().unwrap().to_string();
            assert!(error.contains(problem), "{target}: {error}");
        }
        for target in ["https://example.org/", "http://localhost:5000/", "http://127.0.0.1/", "http://[::1]/"]
        {
            assert!(Target::parse(target, false).is_ok(), "{target}");
        }
        assert!(Target::parse("http://example.org/", true).is_ok());
    }

    #[tokio::test]
    async fn a_file_gets_a_line_for_each_event() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.ndjson");
        let outlet = Outlet::open(Url::from_file_path(&path).unwrap().as_str(), false).unwrap();
        outlet.put(json!({ "n": 1 }));
        outlet.put(json!({ "n": 2 }));
        assert_eq!(outlet.close().await, 0);
        assert_eq!(std::fs::read_to_string(path).unwrap(), "{\"n\":1}\n{\"n\":2}\n");
    }

    #[tokio::test]
    async fn a_collector_gets_each_event_and_a_refusal_costs_one() {
        let (collector, served) = answering(&[(201, ""), (400, "no lineage of yours")]).await;
        let outlet = Outlet::open(&collector, false).unwrap();
        outlet.put(json!({ "n": 1 }));
        outlet.put(json!({ "n": 2 }));
        assert_eq!(outlet.close().await, 1);
        let requests = served.await.unwrap();
        assert!(requests[0].contains("content-type: application/json"), "{requests:?}");
        assert!(requests[0].ends_with("{\"n\":1}") && requests[1].ends_with("{\"n\":2}"), "{requests:?}");
    }

    #[tokio::test]
    async fn a_collector_that_hangs_or_is_gone_costs_its_events_and_no_time() {
        // It accepts and never answers.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hanging = format!("http://{}/", listener.local_addr().unwrap());
        let outlet = Outlet::open(&hanging, false).unwrap();
        let start = Instant::now();
        for n in 0..QUEUE_EVENTS_MAX + 50 {
            outlet.put(json!({ "n": n }));
        }
        assert!(start.elapsed() < Duration::from_secs(1));
        assert!(outlet.dropped() >= 49);
        let dropped = outlet.close().await;
        assert!(start.elapsed() < FLUSH_MAX + Duration::from_secs(2));
        assert!(dropped as usize >= QUEUE_EVENTS_MAX, "{dropped}");

        drop(listener);
        let gone = Outlet::open(&hanging, false).unwrap();
        gone.put(json!({}));
        assert_eq!(gone.close().await, 1);
    }
}
