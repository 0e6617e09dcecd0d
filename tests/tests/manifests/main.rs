//! The manifest, the kustomize base and the chart: that they are the same, that values reach the objects, that a real API server accepts
//! them and has exactly them afterwards.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod accepted;
mod object;
mod same;
mod values;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::{Arguments, Trial};
use loden_tests::kube::{Program, Unavailable};

/// The programs that a test needs, in the order in which it asked.
type Programs = [PathBuf];
/// A test with its name and the programs that it needs.
type Test = (
    &'static str,
    &'static [Program],
    fn(&Programs) -> Result<()>,
);

fn main() -> ExitCode {
    use Program::{ApiServer, Helm, Kubectl};
    let arguments = Arguments::from_args();
    let tests: [Test; _] = [
        (
            "same::the_kustomize_base_is_the_manifest",
            &[Kubectl],
            same::the_kustomize_base_is_the_manifest,
        ),
        (
            "same::the_chart_is_the_manifest",
            &[Helm],
            same::the_chart_is_the_manifest,
        ),
        (
            "same::the_table_of_values_is_complete",
            &[],
            same::the_table_of_values_is_complete,
        ),
        (
            "same::each_container_is_confined_and_says_why_it_ended",
            &[],
            same::each_container_is_confined_and_says_why_it_ended,
        ),
        (
            "values::each_reaches_its_object",
            &[Helm],
            values::each_reaches_its_object,
        ),
        (
            "accepted::everything_is_accepted_without_a_warning",
            &[ApiServer, Kubectl, Helm],
            accepted::everything_is_accepted_without_a_warning,
        ),
        (
            "accepted::applied_gives_exactly_the_objects",
            &[ApiServer, Kubectl, Helm],
            accepted::applied_gives_exactly_the_objects,
        ),
        (
            "accepted::pod_security_objects_to_what_is_documented",
            &[ApiServer, Kubectl],
            accepted::pod_security_objects_to_what_is_documented,
        ),
    ];
    let mut trials = Vec::new();
    for (name, needs, test) in tests {
        let found: Result<Result<Vec<PathBuf>, Unavailable>> =
            needs.iter().map(|program| program.find()).collect();
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                eprintln!("{error:#}");
                return ExitCode::FAILURE;
            }
        };
        if let Err(Unavailable(reason)) = &found {
            println!("skipped {name}: {reason}");
        }
        let missing = found.is_err();
        let programs = found.unwrap_or_default();
        let trial = Trial::test(name, move || {
            test(&programs).map_err(|error| format!("{error:#}").into())
        });
        trials.push(trial.with_ignored_flag(missing));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
