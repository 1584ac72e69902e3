//! What the documents claim to be held by a test is: the test is there.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests are an edge")]

use std::path::Path;

/// The names in a document that stand as `path` or `path::test` and begin in a directory that has tests.
fn claims(text: &str) -> impl Iterator<Item = &str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|word| ["src/", "tests/", "benches/", "fuzz/"].iter().any(|root| word.starts_with(root)))
}

#[test]
fn every_test_that_a_document_names_is_there() {
    let mut missing = Vec::new();
    let mut count = 0;
    for document in Path::new("docs").read_dir().unwrap().map(|entry| entry.unwrap().path()) {
        let text = std::fs::read_to_string(&document).unwrap();
        for claim in claims(&text) {
            let (file, test) = claim.split_once("::").unwrap_or((claim, ""));
            let holds = match std::fs::read_to_string(file) {
                Ok(source) => test.is_empty() || source.contains(&format!("fn {test}(")),
                Err(_) => test.is_empty() && Path::new(file).is_dir(),
            };
            count += 1;
            if !holds {
                missing.push(format!("{}: {claim}", document.display()));
            }
        }
    }
    assert!(count > 40, "only {count} tests are named");
    assert!(missing.is_empty(), "no such test:\n{}", missing.join("\n"));
}
