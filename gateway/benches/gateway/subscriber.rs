//! A subscriber that counts what the broker delivers, and times fresh readings; it keeps no payload.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ingot_agent::{Decoder, Frame};
use ingot_gateway::uplink::tls::client_config;
use rumqttc::{
    AsyncClient, Event, Incoming, IncomingPacketSizeLimit, MqttOptions, QoS, TlsConfiguration, Transport,
};
use tokio::runtime::Runtime;

use crate::Place;

/// It ends when it is dropped.
pub struct Subscriber {
    counts: Arc<Mutex<Counts>>,
    _runtime: Runtime,
}

#[derive(Clone, Default)]
pub struct Counts {
    topics: HashSet<String>,
    pub frames: u64,
    pub bytes: u64,
    /// Readings under topics not seen before.
    pub readings: u64,
    /// From a reading's time to its arrival here, of devices called `live`.
    pub delays_ms: Vec<u64>,
    subscribed: bool,
}

impl Subscriber {
    pub fn start(place: &Place) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut options = MqttOptions::new("witness", ("localhost", place.broker.port));
        let tls = Arc::new(client_config(&place.witness).unwrap());
        options
            .set_keep_alive(30)
            .set_incoming_packet_size_limit(IncomingPacketSizeLimit::Bytes(1 << 20))
            .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)));
        let (client, mut events) = AsyncClient::builder(options).capacity(10).build();
        let counts = Arc::new(Mutex::new(Counts::default()));
        let shared = Arc::clone(&counts);
        runtime.spawn(async move {
            let mut decoder = Box::new(Decoder::<1_024, 1_024>::new());
            loop {
                match events.poll().await.unwrap() {
                    Event::Incoming(Incoming::ConnAck(_)) => {
                        client.try_subscribe("ingot/bronze/#", QoS::AtLeastOnce).unwrap();
                    }
                    Event::Incoming(Incoming::SubAck(_)) => shared.lock().unwrap().subscribed = true,
                    Event::Incoming(Incoming::Publish(publish)) => {
                        let topic = String::from_utf8(publish.topic.to_vec()).unwrap();
                        shared.lock().unwrap().take(topic, &publish.payload, &mut decoder);
                    }
                    _ => {}
                }
            }
        });
        let subscriber = Self { counts, _runtime: runtime };
        subscriber.until(|counts| counts.subscribed);
        subscriber
    }

    pub fn counts(&self) -> Counts {
        self.counts.lock().unwrap().clone()
    }

    pub fn until(&self, ready: impl Fn(&Counts) -> bool) {
        while !ready(&self.counts.lock().unwrap()) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Counts {
    fn take(&mut self, topic: String, payload: &[u8], decoder: &mut Decoder<1_024, 1_024>) {
        self.frames += 1;
        self.bytes += payload.len() as u64;
        let mut stuffed = payload.strip_suffix(&[0]).unwrap_or(payload).to_vec();
        let frame = Frame::open(&mut stuffed).unwrap();
        if self.topics.insert(topic) {
            self.readings += u64::from(frame.readings());
        }
        // The backlog's frames are long and of one device: only a frame's first reading is looked at.
        decoder.start(&frame);
        let now_ms = now_ms();
        while let Some((series, reading)) = decoder.next(&frame).unwrap() {
            if decoder.series(series).0 != "live" {
                break;
            }
            self.delays_ms.push(u64::try_from(now_ms - reading.at_ms).unwrap_or(0));
        }
    }
}

pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}
