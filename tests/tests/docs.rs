//! The pages of `docs` name tests. Names change, and a page that names what is no longer there proves nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All files below a directory with this extension, except what a build makes.
fn files(directory: &Path, extension: &str, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let hidden = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(b".");
        if path.is_dir() {
            if !path.ends_with("target") && !path.file_name().is_some_and(hidden) {
                files(&path, extension, found)?;
            }
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    Ok(())
}

/// What stands between backticks and looks like `suite::test`.
fn names_of_tests(page: &str) -> impl Iterator<Item = (&str, &str)> {
    let quoted = page.split('`').skip(1).step_by(2);
    quoted.filter_map(|quoted| {
        let word = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
        };
        let (suite, test) = quoted.split_once("::")?;
        (word(suite) && word(test)).then_some((suite, test))
    })
}

/// The suites that a file's tests may be named by: itself, and the folders above it.
fn suites(file: &Path) -> impl Iterator<Item = String> {
    file.with_extension("")
        .iter()
        .map(|part| part.to_string_lossy().replace('-', "_"))
        .collect::<Vec<_>>()
        .into_iter()
}

#[test]
fn every_test_that_a_page_names_is_there() {
    let mut sources = Vec::new();
    files(&root(), "rs", &mut sources).unwrap();
    let mut tests = BTreeSet::new();
    for source in &sources {
        let text = fs::read_to_string(source).unwrap();
        for line in text.lines() {
            let words = line.trim_start().trim_start_matches("pub(crate) ");
            let words = words.trim_start_matches("async ");
            let Some(rest) = words.strip_prefix("fn ") else {
                continue;
            };
            let name: String = rest
                .chars()
                .take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_')
                .collect();
            tests.extend(suites(source).map(|suite| (suite, name.clone())));
        }
    }
    let mut pages = Vec::new();
    files(&root().join("docs"), "md", &mut pages).unwrap();
    let mut named = 0;
    let mut missing = Vec::new();
    for page in &pages {
        let text = fs::read_to_string(page).unwrap();
        for (suite, test) in names_of_tests(&text) {
            named += 1;
            if !tests.contains(&(suite.to_owned(), test.to_owned())) {
                let page = page
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                missing.push(format!("{page}: {suite}::{test}"));
            }
        }
    }
    assert!(
        named > 50,
        "only {named} names of tests found: are they still written `suite::test`?"
    );
    assert!(
        missing.is_empty(),
        "pages name tests that are not there:\n{}",
        missing.join("\n")
    );
}
