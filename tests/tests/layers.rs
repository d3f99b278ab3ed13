//! Who may know whom, and that nothing heavy is built twice: asserted over `cargo tree`, so that a careless dependency
//! fails here.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use ingot_tests::workspace;

fn tree(words: &[&str]) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--prefix", "none"])
        .args(words)
        .current_dir(workspace())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn assert_without(package: &str, forbidden: &[&str]) {
    let tree = tree(&["--edges", "normal", "--format", "{lib}", "--package", package]);
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

/// Each crate with the features that it is built with there.
fn features(words: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
    let mut features = BTreeMap::<_, BTreeSet<_>>::new();
    for line in tree(&[&["--format", "{p}|{f}"], words].concat()) {
        let Some((name, with)) = line.split_once('|') else { continue };
        features.entry(name.to_owned()).or_default().insert(with.trim_end_matches(" (*)").to_owned());
    }
    features
}

/// A feature that only tests, or only some programs, ask of a crate below DataFusion would have it all built again.
#[test]
fn programs_demo_and_tests_are_built_from_one_tree() {
    let tests = features(&["--workspace", "--all-features", "--edges", "normal,build,dev"]);
    let programs = features(&["--workspace", "--all-features", "--edges", "normal,build"]);
    let aliases = std::fs::read_to_string(workspace().join(".cargo/config.toml")).unwrap();
    let (_, alias) = aliases.split_once("demo = \"run ").unwrap();
    let (words, _) = alias.split_once(" -- demo").unwrap();
    let demo = features(&words.split(' ').chain(["--edges", "normal,build"]).collect::<Vec<_>>());
    for (what, tree) in [("programs", programs), ("demo", demo)] {
        assert!(tree.len() > 300, "{what}: {} crates", tree.len());
        let others: Vec<_> = tree.iter().filter(|(name, with)| tests.get(*name) != Some(with)).collect();
        assert!(others.is_empty(), "{what} have crates with other features than the tests have: {others:#?}");
    }
}
