//! `docs/operations.md` names a test for each thing that can happen: they exist, and each trial of the repair matrix is named.

#[path = "repair/table.rs"]
mod table;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use table::{Backend, DAMAGES, Outcome, trials};

const PAGE: &str = include_str!("../../docs/operations.md");

/// The rows of the tables: what Loden does, and the names of the tests, which stand in backticks in the last column.
fn rows() -> impl Iterator<Item = (&'static str, Vec<String>)> {
    let rows = PAGE
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
    rows.filter_map(|row| {
        let (rest, tests) = row.trim_end_matches(" |").rsplit_once(" | ")?;
        let names = tests.split('`').skip(1).step_by(2);
        Some((
            rest.rsplit(" | ").next()?,
            names.flat_map(multiplied_out).collect(),
        ))
    })
}

fn names() -> BTreeSet<String> {
    rows().flat_map(|(_, names)| names).collect()
}

/// `a_{b,c}` is `a_b` and `a_c`, as in a shell.
fn multiplied_out(name: &str) -> Vec<String> {
    let Some((start, rest)) = name.split_once('{') else {
        return vec![name.to_owned()];
    };
    let (choices, end) = rest.split_once('}').unwrap_or((rest, ""));
    choices
        .split(',')
        .flat_map(|choice| multiplied_out(&format!("{start}{choice}{end}")))
        .collect()
}

/// Whether `binary::name` is a function of that test binary.
fn is_function(binary: &str, name: &str) -> bool {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut files = vec![tests.join(format!("{binary}.rs"))];
    let modules = fs::read_dir(tests.join(binary)).into_iter().flatten();
    files.extend(modules.filter_map(|entry| Some(entry.ok()?.path())));
    let declaration = format!("fn {name}(");
    files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok())
        .any(|text| text.contains(&declaration))
}

fn matrix() -> BTreeSet<String> {
    [Backend::Vxlan, Backend::HostGw]
        .into_iter()
        .flat_map(trials)
        .map(|(name, ..)| name)
        .collect()
}

#[test]
fn every_test_that_the_page_names_exists() {
    let matrix = matrix();
    let missing: Vec<String> = names()
        .into_iter()
        .filter(|name| match name.split_once("::") {
            Some((binary, function)) => !is_function(binary, function),
            None => !matrix.contains(name),
        })
        .collect();
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
}

#[test]
fn every_trial_of_the_matrix_is_on_the_page() {
    let names = names();
    let unnamed: Vec<String> = matrix()
        .into_iter()
        .filter(|trial| !names.contains(trial))
        .collect();
    assert!(unnamed.is_empty(), "not on the page: {unnamed:#?}");
}

#[test]
fn the_page_leaves_alone_what_the_matrix_does() {
    let alone: BTreeSet<String> = rows()
        .filter(|(does, _)| does.starts_with("leaves it alone"))
        .flat_map(|(_, names)| names)
        .collect();
    for backend in [Backend::Vxlan, Backend::HostGw] {
        for (name, _, damage) in trials(backend) {
            let left = damage.is_some_and(|damage| matches!(damage.outcome, Outcome::LeftAlone(_)));
            assert_eq!(alone.contains(&name), left, "{name}");
        }
    }
}

#[test]
fn no_two_trials_do_the_same() {
    let commands: BTreeSet<&str> = DAMAGES.iter().map(|damage| damage.command).collect();
    assert_eq!(commands.len(), DAMAGES.len());
    let objects: BTreeSet<_> = DAMAGES
        .iter()
        .map(|damage| (damage.object, damage.what))
        .collect();
    assert_eq!(objects.len(), DAMAGES.len(), "two trials have one name");
}

#[test]
fn a_name_that_is_nothing_is_noticed() {
    assert!(is_function("overlay", "a_cut_cable_heals"));
    assert!(!is_function("overlay", "a_cut_cable"));
    assert_eq!(
        multiplied_out("{a,b}_{c,d}"),
        ["a_c", "a_d", "b_c", "b_d"].map(str::to_owned)
    );
}
