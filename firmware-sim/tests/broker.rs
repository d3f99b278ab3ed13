//! The embedded broker as real clients see it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::time::Duration;

use ingot_sim::broker::{PAYLOAD_BYTES_MAX, QUEUE_MESSAGES_MAX};
use ingot_sim::{Broker, BrokerFaults, Outage};
use rumqttc::{
    AsyncClient, BrokerSessionResumePolicy, Event, EventLoop, MqttOptions, Packet, PublishOptions, QoS,
};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(60);

fn client(broker: &Broker, id: &str) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(id, ("127.0.0.1", broker.addr().port()));
    options.set_keep_alive(5);
    options.set_clean_start(false);
    options.set_session_expiry_interval(Some(3600));
    // A client that starts anew takes what the broker kept for it; strictly, rumqttc refuses.
    options.set_broker_session_resume_policy(BrokerSessionResumePolicy::AllowBrokerOnly);
    AsyncClient::builder(options).capacity(10).build()
}

/// What a client's event loop reports.
enum Seen {
    Message(u32),
    Subscribed,
    Puback,
    Lost,
}

/// Drives an event loop, reconnecting for ever, until the test drops the receiver.
fn drive(mut events: EventLoop) -> mpsc::UnboundedReceiver<Seen> {
    let (out, seen) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while !out.is_closed() {
            let event = match events.poll().await {
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    let number = publish.payload[..4].try_into().unwrap();
                    Seen::Message(u32::from_be_bytes(number))
                }
                Ok(Event::Incoming(Packet::SubAck(_))) => Seen::Subscribed,
                Ok(Event::Incoming(Packet::PubAck(_))) => Seen::Puback,
                Ok(_) => continue,
                Err(_) => {
                    sleep(Duration::from_millis(20)).await;
                    Seen::Lost
                }
            };
            let _ = out.send(event);
        }
    });
    seen
}

/// A client that has subscribed, with a session that outlives its connections.
async fn subscriber(broker: &Broker, filter: &str) -> (AsyncClient, mpsc::UnboundedReceiver<Seen>) {
    let (client, events) = client(broker, "subscriber");
    let mut seen = drive(events);
    client.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
    wait_for(&mut seen, |event| matches!(event, Seen::Subscribed)).await;
    (client, seen)
}

async fn wait_for(seen: &mut mpsc::UnboundedReceiver<Seen>, wanted: impl Fn(&Seen) -> bool) {
    timeout(PATIENCE, async { while !wanted(&seen.recv().await.expect("the event loop runs")) {} })
        .await
        .expect("the event comes in time");
}

/// Publishes the numbers below `count`, as fast as the client takes them.
fn publish(client: AsyncClient, count: u32) {
    tokio::spawn(async move {
        for number in 0..count {
            let payload = number.to_be_bytes().to_vec();
            let options = PublishOptions::new(QoS::AtLeastOnce);
            client.publish(format!("test/{number}"), payload, options).await.unwrap();
        }
        // The client must live until its requests are through.
        sleep(PATIENCE).await;
    });
}

/// How often each number came, once all numbers below `count` have come and it is quiet.
async fn received(seen: &mut mpsc::UnboundedReceiver<Seen>, count: u32) -> BTreeMap<u32, u32> {
    let mut times = BTreeMap::new();
    timeout(PATIENCE, async {
        while times.len() < count as usize {
            if let Some(Seen::Message(number)) = seen.recv().await {
                *times.entry(number).or_default() += 1;
            }
        }
    })
    .await
    .unwrap_or_else(|_| panic!("only {} of {count} messages came", times.len()));
    while let Ok(Some(event)) = timeout(Duration::from_millis(300), seen.recv()).await {
        if let Seen::Message(number) = event {
            *times.entry(number).or_default() += 1;
        }
    }
    times
}

#[tokio::test]
async fn a_message_reaches_whom_it_concerns() {
    let broker = Broker::start(BrokerFaults::default()).await.unwrap();
    let (_all, mut seen) = subscriber(&broker, "test/+").await;
    let (sender, events) = client(&broker, "publisher");
    let _acks = drive(events);
    publish(sender, 200);
    let times = received(&mut seen, 200).await;
    assert!(times.values().all(|times| *times == 1));
    let stats = broker.stats();
    assert_eq!((stats.published, stats.pubacks, stats.delivered), (200, 200, 200));
    assert_eq!(broker.queued(), 0);
}

#[tokio::test]
async fn nothing_is_lost_in_outages() {
    let outage = |after| Outage { after: Duration::from_millis(after), lasts: Duration::from_millis(200) };
    let faults = BrokerFaults { outages: vec![outage(300), outage(800)], ..BrokerFaults::default() };
    let broker = Broker::start(faults).await.unwrap();
    let (_client, mut seen) = subscriber(&broker, "test/#").await;
    let (sender, events) = client(&broker, "publisher");
    let mut acks = drive(events);
    // Slowly enough that both outages hit.
    let slow = sender.clone();
    tokio::spawn(async move {
        for number in 0..300_u32 {
            let payload = number.to_be_bytes().to_vec();
            let options = PublishOptions::new(QoS::AtLeastOnce);
            slow.publish("test/slow", payload, options).await.unwrap();
            sleep(Duration::from_millis(4)).await;
        }
        sleep(PATIENCE).await;
    });
    wait_for(&mut acks, |event| matches!(event, Seen::Lost)).await;
    let times = received(&mut seen, 300).await;
    assert_eq!(times.len(), 300);
    assert!(broker.stats().connects > 2, "{:?}", broker.stats());
}

#[tokio::test]
async fn an_outage_on_demand_refuses_and_then_ends() {
    let broker = Broker::start(BrokerFaults::default()).await.unwrap();
    let (sender, mut seen) = subscriber(&broker, "test/#").await;
    broker.outage(Duration::from_millis(300));
    wait_for(&mut seen, |event| matches!(event, Seen::Lost)).await;
    publish(sender, 10);
    assert_eq!(received(&mut seen, 10).await.len(), 10);
    assert!(broker.stats().refused > 0);
}

#[tokio::test]
async fn every_nth_message_comes_twice() {
    let faults = BrokerFaults { duplicate_every: NonZeroU64::new(10), ..BrokerFaults::default() };
    let broker = Broker::start(faults).await.unwrap();
    let (_client, mut seen) = subscriber(&broker, "test/#").await;
    let (sender, events) = client(&broker, "publisher");
    let _acks = drive(events);
    publish(sender, 100);
    let times = received(&mut seen, 100).await;
    let twice: Vec<u32> = times.iter().filter(|(_, n)| **n == 2).map(|(k, _)| *k).collect();
    assert_eq!(twice, [9, 19, 29, 39, 49, 59, 69, 79, 89, 99]);
}

#[tokio::test]
async fn a_lost_puback_costs_a_repeat_and_no_message() {
    let faults = BrokerFaults { lost_puback_every: NonZeroU64::new(50), ..BrokerFaults::default() };
    let broker = Broker::start(faults).await.unwrap();
    let (_client, mut seen) = subscriber(&broker, "test/#").await;
    let (sender, events) = client(&broker, "publisher");
    let _acks = drive(events);
    publish(sender, 500);
    let times = received(&mut seen, 500).await;
    assert!(times.values().any(|times| *times > 1), "the lost one is sent again");
    assert!(broker.stats().pubacks_lost >= 10);
}

#[tokio::test]
async fn a_full_queue_holds_the_publisher_back() {
    let broker = Broker::start(BrokerFaults::default()).await.unwrap();
    // A subscriber that leaves; its session stays.
    let (leaver, seen) = subscriber(&broker, "test/#").await;
    leaver.disconnect().await.unwrap();
    drop((leaver, seen));
    sleep(Duration::from_millis(200)).await;

    let total = QUEUE_MESSAGES_MAX as u32 + 250;
    let (sender, events) = client(&broker, "publisher");
    let mut acks = drive(events);
    publish(sender, total);
    for _ in 0..QUEUE_MESSAGES_MAX {
        wait_for(&mut acks, |event| matches!(event, Seen::Puback)).await;
    }
    // The broker holds what it acknowledged, and acknowledges no more; the publisher, waiting
    // longer than its keep-alive allows for silence, stays connected.
    sleep(Duration::from_secs(8)).await;
    assert_eq!(broker.queued(), QUEUE_MESSAGES_MAX);
    assert_eq!(broker.stats().pubacks, QUEUE_MESSAGES_MAX as u64);
    assert!(acks.try_recv().is_err(), "no further PUBACK, no lost connection");

    let (_client, events) = client(&broker, "subscriber");
    let times = received(&mut drive(events), total).await;
    assert!(times.values().all(|times| *times == 1));
    assert_eq!(broker.stats().pubacks, u64::from(total));
}

#[tokio::test]
async fn a_payload_over_the_limit_ends_the_connection() {
    let broker = Broker::start(BrokerFaults::default()).await.unwrap();
    let (client, mut seen) = subscriber(&broker, "test/#").await;
    for bytes in [PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MAX + 1] {
        let options = PublishOptions::new(QoS::AtMostOnce);
        client.publish("other", vec![0; bytes], options).await.unwrap();
    }
    wait_for(&mut seen, |event| matches!(event, Seen::Lost)).await;
    assert_eq!(broker.stats().published, 1);
}

#[tokio::test]
async fn a_second_connection_takes_the_session_over() {
    let broker = Broker::start(BrokerFaults::default()).await.unwrap();
    let (first, mut seen) = subscriber(&broker, "test/#").await;
    let (_second, events) = client(&broker, "subscriber");
    let mut second_seen = drive(events);
    wait_for(&mut seen, |event| matches!(event, Seen::Lost)).await;
    drop((first, seen)); // before it takes the session back
    sleep(Duration::from_millis(200)).await;

    let (sender, events) = client(&broker, "publisher");
    let _acks = drive(events);
    publish(sender, 10);
    assert_eq!(received(&mut second_seen, 10).await.len(), 10);
}

#[tokio::test]
async fn bytes_that_are_not_mqtt_harm_nobody() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let broker = Broker::start(BrokerFaults::default()).await.unwrap();
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..50 {
        let mut socket = tokio::net::TcpStream::connect(broker.addr()).await.unwrap();
        let noise: Vec<u8> = (0..random.usize(1..200)).map(|_| random.u8(..)).collect();
        let _ = socket.write_all(&noise).await;
        let _ = socket.shutdown().await;
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, socket.read_to_end(&mut answer)).await.expect("closed");
    }
    let (_client, _seen) = subscriber(&broker, "test/#").await;
    assert_eq!(broker.stats().connects, 1);
}

#[tokio::test]
async fn a_stopped_broker_is_gone() {
    let broker = Broker::start(BrokerFaults::default()).await.unwrap();
    let (_client, mut seen) = subscriber(&broker, "test/#").await;
    broker.stop();
    wait_for(&mut seen, |event| matches!(event, Seen::Lost)).await;
    sleep(Duration::from_millis(100)).await;
    assert!(tokio::net::TcpStream::connect(broker.addr()).await.is_err());
}
