//! A subscriber with a session of its own that outlives its connections: it says what reached the broker.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ingot_gateway::uplink::tls::{TlsPaths, client_config};
use rumqttc::{
    AsyncClient, Event, Incoming, IncomingPacketSizeLimit, MqttOptions, PublishOptions, QoS, SessionMode,
    TlsConfiguration, Transport,
};
use tokio::task::JoinHandle;

/// Each topic with the payloads that came under it, in order.
pub type Seen = BTreeMap<String, Vec<Vec<u8>>>;

/// A subscriber to some filters; it ends with the test.
pub struct Witness {
    client: AsyncClient,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    seen: Seen,
    news: Option<Instant>,
    subscribed: bool,
}

impl Witness {
    /// Subscribes; returns once the broker has said so.
    pub async fn start(port: u16, tls: &TlsPaths, filters: &'static [&'static str]) -> Self {
        let mut options = MqttOptions::new("witness", ("127.0.0.1", port));
        options
            .set_session_mode(SessionMode::Persistent)
            .set_session_expiry_interval(Some(3_600))
            .set_keep_alive(5)
            .set_incoming_packet_size_limit(IncomingPacketSizeLimit::Bytes(1 << 20))
            .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(
                client_config(tls).unwrap(),
            ))));
        let (client, mut events) = AsyncClient::builder(options).capacity(10).build();
        let state = Arc::new(Mutex::new(State::default()));
        let (shared, subscriber) = (Arc::clone(&state), client.clone());
        let task = tokio::spawn(async move {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Incoming::ConnAck(_))) => {
                        for filter in filters {
                            subscriber.try_subscribe(*filter, QoS::AtLeastOnce).unwrap();
                        }
                    }
                    Ok(Event::Incoming(Incoming::SubAck(_))) => shared.lock().unwrap().subscribed = true,
                    Ok(Event::Incoming(Incoming::Publish(publish))) => {
                        let topic = String::from_utf8(publish.topic.to_vec()).unwrap();
                        let mut state = shared.lock().unwrap();
                        state.news = Some(Instant::now());
                        state.seen.entry(topic).or_default().push(publish.payload.to_vec());
                    }
                    Ok(_) => {}
                    Err(_) => {
                        shared.lock().unwrap().subscribed = false;
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            }
        });
        let witness = Self { client, state, task };
        witness.subscribed().await;
        witness
    }

    /// Waits until it is connected and subscribed.
    pub async fn subscribed(&self) {
        self.until(|state| state.subscribed).await;
    }

    /// Says something itself, to be kept for those who subscribe later.
    pub async fn publish_retained(&self, topic: &str, payload: &'static str) {
        let options = PublishOptions::new(QoS::AtLeastOnce).retained();
        let notice = self.client.publish_tracked(topic, payload, options).await.unwrap();
        notice.wait_async().await.unwrap();
    }

    /// Waits until nothing has come for `quiet`.
    pub async fn quiet_for(&self, quiet: Duration) {
        self.until(|state| state.news.is_none_or(|news| news.elapsed() >= quiet)).await;
    }

    /// Waits until this many topics were seen; gives all that were, at the latest after ten seconds.
    pub async fn seen(&self, topics: usize) -> Seen {
        let started = Instant::now();
        while self.state.lock().unwrap().seen.len() < topics && started.elapsed() < Duration::from_secs(10) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.state.lock().unwrap().seen.clone()
    }

    async fn until(&self, ready: impl Fn(&State) -> bool) {
        let started = Instant::now();
        while !ready(&self.state.lock().unwrap()) {
            assert!(started.elapsed() < Duration::from_secs(10), "the witness waits in vain");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.task.abort();
    }
}
