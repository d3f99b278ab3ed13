//! One alert per cause: opened once, resolved once, whoever looks and however often; told when it can be.

use std::collections::BTreeMap;
use std::path::Path;

use crate::moto::Moto;
use crate::queues::told;
use chrono::Utc;
use ingot_processor::alert::episode::{Event, Kind};
use ingot_processor::alert::judge;
use ingot_processor::alert::store::{CLAIM_MS, Store};
use ingot_processor::alert::target::{TRIES_MAX, Target, Webhook};
use ingot_processor::contract::Contract;
use ingot_processor::lake::Lake;
use ingot_processor::run::run;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// The sensors' contract with the alerts of this test.
fn sensors(alerts: &str) -> Vec<Contract> {
    let text = include_str!("../../../contracts/sensor_readings.yaml");
    let start = text.find("  - property: alerts").unwrap();
    let end = text.find("  - property: examples").unwrap();
    let text = format!("{}  - property: alerts\n    value: [{alerts}]\n{}", &text[..start], &text[end..]);
    vec![Contract::parse(&text).unwrap()]
}

const DISCARDS: &str =
    "{ name: discards, watch: discard_rate, openAbovePercent: 80, resolveBelowPercent: 60, rowsMin: 100 }";

fn lake() -> (tempfile::TempDir, Lake) {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::create(&format!("file://{}", dir.path().display())).unwrap();
    (dir, lake)
}

/// One object: a reading of each of many devices.
fn feed(root: &Path, name: &str, gateway: &str, devices: usize, value: f64) {
    let dir = root.join(format!("bronze/sensor_readings/dt=2026-01-01/gateway={gateway}"));
    std::fs::create_dir_all(&dir).unwrap();
    let line = |device| {
        format!(
            "{{\"device\":\"{name}-{device}\",\"boot\":1,\"seq\":0,\"channel\":\"temperature\",\"value\":{value},\"at\":1767225600000,\"quality\":0}}\n"
        )
    };
    std::fs::write(dir.join(format!("{name}.ndjson")), (0..devices).map(line).collect::<String>()).unwrap();
}

async fn judged(lake: &Lake, contracts: &[Contract], targets: &[Target], now_ms: i64) -> Vec<Event> {
    judge(lake, contracts, targets, now_ms).await.unwrap().events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_devices_that_fail_one_rule_are_one_alert_and_one_resolve() {
    let (dir, lake) = lake();
    let contracts = sensors(DISCARDS);
    feed(dir.path(), "good", "gw-1", 500, 20.0);
    feed(dir.path(), "bad", "gw-2", 10_000, 500.0);
    run(&lake, &contracts, |_, _| {}).await.unwrap();
    let now_ms = Utc::now().timestamp_millis();

    // Eight processors look at the same moment.
    let looks: Vec<_> = (0..8)
        .map(|_| {
            let (lake, contracts) = (lake.clone(), contracts.clone());
            tokio::spawn(async move { judged(&lake, &contracts, &[Target::Log], now_ms).await })
        })
        .collect();
    let mut events = Vec::new();
    for look in looks {
        events.extend(look.await.unwrap());
    }
    assert_eq!(events.len(), 1, "{events:?}");
    let Event { kind, episode, .. } = &events[0];
    assert_eq!((*kind, episode.rule.as_str()), (Kind::Open, "out_of_range"));
    let common = [("channel", "temperature"), ("contract", "1.0.0"), ("gateway", "gw-2")];
    let common: BTreeMap<_, _> = common.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    assert_eq!(episode.common, common);
    assert_eq!(
        episode.summary,
        "out_of_range discards 95.2 % of the rows, 10000 of 10500; 10000 different values of device"
    );
    assert!(!format!("{events:?}").contains("bad-"), "a device is named");

    // A restart sees it open; between the thresholds (70 %) it stays open; below (50 %) it resolves, once.
    assert_eq!(judged(&lake, &contracts, &[Target::Log], now_ms + 1).await, []);
    for (name, devices, kinds) in
        [("more", 3_700, vec![]), ("most", 6_000, vec![Kind::Resolve]), ("all", 1, vec![])]
    {
        feed(dir.path(), name, "gw-1", devices, 20.0);
        run(&lake, &contracts, |_, _| {}).await.unwrap();
        let events = judged(&lake, &contracts, &[Target::Log], Utc::now().timestamp_millis()).await;
        assert_eq!(events.iter().map(|event| event.kind).collect::<Vec<_>>(), kinds, "{name}");
    }
    assert!(Store::new(&lake).load().await.unwrap().open.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn silver_that_grows_old_opens_and_a_fresh_row_resolves() {
    let (dir, lake) = lake();
    let contracts =
        sensors("{ name: late, watch: freshness, openAboveMinutes: 30, resolveBelowMinutes: 10 }");
    // Nothing has come yet: nothing is late.
    assert_eq!(judged(&lake, &contracts, &[], 0).await, []);
    feed(dir.path(), "a", "gw-1", 1, 20.0);
    run(&lake, &contracts, |_, _| {}).await.unwrap();
    let minute = |minutes: i64| 1_767_225_600_000 + minutes * 60_000;
    assert_eq!(judged(&lake, &contracts, &[], minute(29)).await, []);
    let opened = judged(&lake, &contracts, &[], minute(31)).await;
    assert_eq!(opened[0].episode.summary, "the newest row is of 2026-01-01T00:00:00+00:00, 31 minutes ago");
    assert_eq!(judged(&lake, &contracts, &[], minute(20)).await, []);
    assert_eq!(judged(&lake, &contracts, &[], minute(9)).await[0].kind, Kind::Resolve);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dataset_check_that_fails_opens_and_resolves_when_it_passes() {
    let (dir, lake) = lake();
    let contracts = sensors("{ name: checks, watch: checks, windowMinutes: 60 }");
    let write = |name: &str, seqs: &[u64]| {
        let dir = dir.path().join("bronze/sensor_readings");
        std::fs::create_dir_all(&dir).unwrap();
        let line = |seq: &u64| {
            format!(
                "{{\"device\":\"holed\",\"boot\":1,\"seq\":{seq},\"channel\":\"temperature\",\"value\":2{seq}.5,\"at\":{},\"quality\":0}}\n",
                1_767_225_600_000 + seq * 60_000
            )
        };
        std::fs::write(dir.join(name), seqs.iter().map(line).collect::<String>()).unwrap();
    };
    write("a.ndjson", &[0, 1, 5]);
    run(&lake, &contracts, |_, _| {}).await.unwrap();
    let now_ms = || Utc::now().timestamp_millis();
    let opened = judged(&lake, &contracts, &[], now_ms()).await;
    assert_eq!(opened.len(), 1, "{opened:?}");
    assert_eq!((opened[0].kind, opened[0].episode.rule.as_str()), (Kind::Open, "sequence_gaps"));
    assert_eq!(opened[0].episode.summary, "the check sequence_gaps fails for the window 2026-01-01");
    assert_eq!(judged(&lake, &contracts, &[], now_ms()).await, []);
    write("b.ndjson", &[2, 3, 4]);
    run(&lake, &contracts, |_, _| {}).await.unwrap();
    let resolved = judged(&lake, &contracts, &[], now_ms()).await;
    assert_eq!(resolved.iter().map(|event| event.kind).collect::<Vec<_>>(), [Kind::Resolve]);
}

/// Answers as many POSTs as there are answers, and gives them back.
async fn server(listener: TcpListener, answers: &[u16]) -> Vec<String> {
    let mut requests = Vec::new();
    for answer in answers {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let read = stream.read(&mut buffer).await.unwrap();
            request.extend_from_slice(&buffer[..read]);
            let text = String::from_utf8_lossy(&request);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() >= length.parse::<usize>().unwrap() {
                requests.push(text.into_owned());
                break;
            }
        }
        let answer = format!("HTTP/1.1 {answer} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
    requests
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_was_down_gets_what_it_missed_in_order_and_signed() {
    let (dir, lake) = lake();
    let contracts = sensors(DISCARDS);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook?token=secret", listener.local_addr().unwrap());
    let targets = [Target::Log, Target::Webhook(Box::new(Webhook::new(&url, Some(b"key")).unwrap()))];
    let now_ms = Utc::now().timestamp_millis();
    judged(&lake, &contracts, &targets, now_ms).await;
    feed(dir.path(), "bad", "gw-1", 1_000, 500.0);
    run(&lake, &contracts, |_, _| {}).await.unwrap();

    // It fails for one run, each try.
    let now_ms = Utc::now().timestamp_millis();
    let down = vec![500; TRIES_MAX as usize];
    let (first, requests) = tokio::join!(judge(&lake, &contracts, &targets, now_ms), server(listener, &down));
    let first = first.unwrap();
    assert_eq!((first.events.len(), first.untold.len()), (1, 1));
    assert!(!first.untold[0].contains("secret"), "{:?}", first.untold);
    assert_eq!(requests.len(), 3);
    // Then it is gone altogether, while the alert resolves.
    feed(dir.path(), "good", "gw-1", 9_000, 20.0);
    run(&lake, &contracts, |_, _| {}).await.unwrap();
    let second = judge(&lake, &contracts, &targets, Utc::now().timestamp_millis()).await.unwrap();
    assert_eq!((second.events.len(), second.untold.len()), (1, 1));
    assert!(!second.untold[0].contains("secret"), "{:?}", second.untold);

    let listener =
        TcpListener::bind(url.trim_start_matches("http://").split('/').next().unwrap()).await.unwrap();
    let (third, requests) =
        tokio::join!(judge(&lake, &contracts, &targets, now_ms + CLAIM_MS), server(listener, &[200, 204]));
    assert_eq!(third.unwrap().untold, Vec::<String>::new());
    for (request, kind) in requests.iter().zip(["open", "resolve"]) {
        assert!(request.contains("ingot-alert-id: sensor_readings/discards/out_of_range@"), "{request}");
        assert!(request.contains(&format!("\"kind\":\"{kind}\"")), "{request}");
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        let signature = head.lines().find_map(|line| line.strip_prefix("ingot-signature: t=")).unwrap();
        let (time, tag) = signature.split_once(",v1=").unwrap();
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"key");
        let tag: Vec<u8> =
            (0..tag.len()).step_by(2).map(|at| u8::from_str_radix(&tag[at..at + 2], 16).unwrap()).collect();
        ring::hmac::verify(&key, format!("{time}.{body}").as_bytes(), &tag).unwrap();
    }
    // All is told: nothing more is sent, or this would fail.
    let fourth = judge(&lake, &contracts, &targets, now_ms + 2 * CLAIM_MS).await.unwrap();
    assert_eq!(fourth.untold, Vec::<String>::new());
}

#[test]
fn thresholds_that_would_flap_or_mean_nothing_are_refused_at_once() {
    let text = include_str!("../../../contracts/sensor_readings.yaml");
    let alerts = "{ name: a, watch: discard_rate, openAbovePercent: 5, resolveBelowPercent: 9 }, { name: b, watch: freshness, openAbovePercent: 5 }, { name: c, watch: mood }, { name: c, watch: lost, windowMinutes: 0 }";
    let start = text.find("  - property: alerts").unwrap();
    let end = text.find("  - property: examples").unwrap();
    let text = format!("{}  - property: alerts\n    value: [{alerts}]\n{}", &text[..start], &text[end..]);
    let errors = Contract::parse(&text).unwrap_err().to_string();
    for problem in [
        "alert a: it resolves below 9 and opens above 5",
        "alert b: freshness is measured as openAboveMinutes",
        "alert b: openAboveMinutes and resolveBelowMinutes are missing",
        "alert c: watch mood is not one of",
        "alert c: windowMinutes 0",
    ] {
        assert!(errors.contains(problem), "{problem}: {errors}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_told_once_when_it_opens_and_once_when_it_resolves() {
    let (dir, lake) = lake();
    let moto = Moto::start();
    let (queue, topic) = (moto.queue("seen"), moto.topic("alerts", "seen"));

    let run = |name: &str, value: f64| {
        feed(dir.path(), name, "gw-1", 2_000, value);
        let (code, _, stderr) =
            moto.processor(&["run", "--lake", lake.url().as_str(), "--alert-topic", &topic]);
        assert_eq!(code, 0, "{stderr}");
    };
    run("bad", 500.0);
    run("still", 500.0);
    feed(dir.path(), "good-1", "gw-1", 50_000, 20.0);
    run("good-2", 20.0);
    run("good-3", 20.0);

    let events: Vec<Value> = moto
        .received(&queue)
        .iter()
        .map(|body| told(body))
        .filter(|event: &Value| event["alert"] == "discards")
        .collect();
    let kinds: Vec<(&str, &str)> = events
        .iter()
        .map(|event| (event["kind"].as_str().unwrap(), event["rule"].as_str().unwrap()))
        .collect();
    assert_eq!(kinds, [("open", "out_of_range"), ("resolve", "out_of_range")], "{events:#?}");
}
