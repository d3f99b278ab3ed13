//! docs/contracts.md is followed literally: its commands run, and print what it says.

use std::process::Command;

use ingot_tests::{binary, workspace};

/// The document's fenced blocks: language and text.
fn blocks(document: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let text: String =
                lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect();
            blocks.push((language.to_owned(), text));
        }
    }
    blocks
}

#[test]
fn the_document_leads_from_an_empty_file_to_gold() {
    let folder = tempfile::tempdir().unwrap();
    let bin = binary("ingot-processor").parent().unwrap().to_owned();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let document = std::fs::read_to_string(workspace().join("docs/contracts.md")).unwrap();
    let blocks = blocks(&document);
    let mut compared = 0;
    for (place, (language, commands)) in blocks.iter().enumerate().filter(|(_, block)| block.0 == "sh") {
        let output = Command::new("sh")
            .args(["-ec", commands])
            .current_dir(folder.path())
            .env("PATH", &path)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{language}\n{commands}\n{errors}");
        if let Some((_, said)) = blocks.get(place + 1).filter(|(language, _)| language == "text") {
            assert_eq!(String::from_utf8_lossy(&output.stdout), *said, "{commands}\n{errors}");
            compared += 1;
        }
    }
    assert_eq!(compared, 6, "blocks of commands whose output the document shows");
}
