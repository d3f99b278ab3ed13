//! Every example in config/examples is valid as it stands.

use ingot_gateway::config::{Config, Overrides};

#[test]
fn every_example_is_valid() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/examples");
    let mut kinds = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        if !text.contains("[[source]]") {
            continue; // another area's example
        }
        let overrides = Overrides { lake: Some("file:///lake".into()), ..Overrides::default() };
        let config =
            Config::from_toml(&text, overrides).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        kinds.extend(
            config.sources.iter().map(|source| format!("{source:?}").split('(').next().unwrap().to_owned()),
        );
    }
    for kind in ["Serial", "Mqtt", "Modbus", "W1"] {
        assert!(kinds.iter().any(|known| known == kind), "no example for {kind}");
    }
}

#[test]
fn every_mistake_in_a_source_is_told_with_its_key() {
    let text = r#"
        [[source]]
        kind = "serial"
        baud = 1
        [[source]]
        kind = "w1"
        devices = { "10-1" = "a", "28-1" = "no/name" }
        [[source]]
        kind = "modbus"
        [[source]]
        kind = "modbus"
        path = "/dev/ttyX"
        [[source.register]]
        channel = "power"
        scale = 0
        [[source]]
        kind = "serial"
        path = "/dev/ttyX"
        [[source]]
        kind = "mqtt"
        host = "10.0.0.1"
        user = "u"
        [[source.map]]
        topic = "a/{x}"
        [[source.map]]
        topic = "a/{device}"
        channels = { "no name" = "nopointer" }
        [[source.map]]
        topic = "a/b"
        device = "d"
        channels = { power = "" }
        time_offset = "Europe/Berlin"
    "#;
    let overrides = Overrides { lake: Some("file:///lake".into()), ..Overrides::default() };
    let told = Config::from_toml(text, overrides).unwrap_err().to_string();
    for start in [
        "source[0].path: is missing",
        "source[0].baud: wants",
        "source[1].devices: wants \"28-<id>\" = \"name\" and not \"10-1\"",
        "source[1].devices: wants \"28-<id>\" = \"name\" and not \"28-1\" = \"no/name\"",
        "source[2].host: wants either",
        "source[2].register: wants 1 to 1000",
        "source[3].register[0].scale: wants another number",
        "source[3].register[0].address: is missing",
        "source: wants each serial port once: /dev/ttyX",
        "source[5].ca: is missing",
        "source[5].user: wants user and password_file",
        "source[5].map[0].topic: wants a level {device}",
        "source[5].map[0].channels: wants channels",
        "source[5].map[1].channels: wants name",
        "source[5].map: wants each topic in one mapping: \"a/b\"",
        "source[5].map[2].time_offset: wants",
    ] {
        assert!(told.contains(&format!("\n  {start}")), "{start}\n{told}");
    }
    assert!(told.contains("16 problem(s)"), "{told}");
}
