//! 1-Wire: the kernel's files in a temporary directory.

use std::fs;

use super::running::{Gateway, values};

#[tokio::test(flavor = "multi_thread")]
async fn sensors_are_read_and_what_goes_wrong_is_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let put = |id: &str, verdict: &str, millidegrees: i32| {
        let text = format!(
            "72 01 4b 46 7f ff 0e 10 57 : crc=57 {verdict}\n72 01 4b 46 7f ff 0e 10 57 t={millidegrees}\n"
        );
        fs::create_dir_all(dir.path().join(id)).unwrap();
        fs::write(dir.path().join(id).join("w1_slave"), text).unwrap();
    };
    put("28-000001", "YES", 23_125);
    put("28-000002", "NO", 23_125);
    put("28-000003", "YES", 85_000);
    let sources = format!(
        "[[source]]\nkind = \"w1\"\ndir = {:?}\nperiod_ms = 100\n\
         devices = {{ \"28-000001\" = \"boiler\", \"28-000009\" = \"lost\" }}\n",
        dir.path()
    );
    let gateway = Gateway::start(&sources, Vec::new());
    let seen = gateway.until("each sensor was read", |bronze| bronze.rows.len() >= 8).await;
    for (device, value) in values(&seen, "temperature") {
        assert_eq!(value, (device == "boiler").then_some(23.125), "{device}");
    }
    put("28-000009", "YES", -500);
    fs::remove_dir_all(dir.path().join("28-000001")).unwrap();
    let changed = |device: &str, value: Option<f64>| (device.to_owned(), value);
    gateway
        .until("one came back and one went", |bronze| {
            let values = values(bronze, "temperature");
            values.contains(&changed("lost", Some(-0.5))) && values.contains(&changed("boiler", None))
        })
        .await;
    gateway.stop().await;
}
