//! Contract parsing: any text is a contract or a list of problems, never a panic.

use ingot_processor::contract::Contract;
use ingot_processor::lint::lint;

use crate::fuzz;
use crate::mutate::mutated;

/// Of so many texts, one is also linted, which plans its queries and takes longer.
const LINTED_EVERY: u64 = 8;

/// The contracts that the repository holds.
pub fn texts() -> Vec<Vec<u8>> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../contracts");
    let mut texts = Vec::new();
    for folder in [root.to_owned(), format!("{root}/examples")] {
        let mut files: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let yaml = files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "yaml"));
        texts.extend(yaml.map(|file| std::fs::read(file).unwrap()));
    }
    assert!(texts.len() >= 3);
    texts
}

#[test]
fn any_text_is_a_contract_or_a_list_of_problems() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let good = texts();
    let mut contracts = 0;
    fuzz(
        |rng| mutated(&good, rng),
        |bytes, trial| {
            let text = String::from_utf8_lossy(bytes);
            let parsed = Contract::parse(&text);
            match &parsed {
                Ok(_) => contracts += 1,
                Err(errors) => assert!(!errors.to_string().trim().is_empty()),
            }
            if trial.is_multiple_of(LINTED_EVERY) {
                let problems = runtime.block_on(lint(&text, None));
                assert!(parsed.is_ok() || !problems.is_empty(), "no contract, and nothing wrong with it");
            }
        },
    );
    assert!(contracts > 0, "no mutation left a contract a contract; the mutations are too coarse");
}
