//! Who may know whom: asserted over `cargo tree`, so that a careless dependency fails here.
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::Command;

use ingot_tests::workspace;

fn tree(package: &str) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{lib}",
            "--package",
            package,
        ])
        .current_dir(workspace())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn assert_without(package: &str, forbidden: &[&str]) {
    let tree = tree(package);
    assert!(tree.len() > 1, "the tree of {package} is empty");
    for library in forbidden {
        let found = tree.iter().find(|name| name.starts_with(library));
        assert_eq!(found, None, "{package} must not depend on {library}");
    }
}

#[test]
fn the_agent_knows_no_std_crate() {
    assert_without("ingot-agent", &["tokio", "serde_json", "rumqttc", "ingot_gateway", "ingot_processor"]);
}

#[test]
fn the_gateway_never_sees_the_lakes_engine() {
    assert_without("ingot-gateway", &["arrow", "datafusion", "deltalake", "parquet", "ingot_processor"]);
}

#[test]
fn the_processor_never_sees_drivers_or_the_gateway() {
    assert_without("ingot-processor", &["linux_embedded_hal", "ingot_gateway", "ingot_sim"]);
}

#[test]
fn load_generation_does_not_wait_for_the_lake() {
    assert_without("ingot-sim", &["arrow", "datafusion", "deltalake", "ingot_gateway", "ingot_processor"]);
}
