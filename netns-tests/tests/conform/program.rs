//! The program `cni-conform` itself: its arguments, its two kinds of output, its exit status.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use netns_tests::programs;
use serde_json::{Value, json};

use crate::{REFERENCE, reference_plugin};

fn program(arguments: &[&str]) -> Result<Output> {
    let program = programs::find("cni-conform")?;
    Ok(Command::new(program).args(arguments).output()?)
}

pub(crate) fn the_program_tells_a_table_and_json() -> Result<()> {
    reference_plugin("ptp")?;
    let plugin = format!("{REFERENCE}/ptp");
    let common = ["--plugin", &plugin, "--versions", "0.3.1,1.0.0"];
    let only = |checks: &[&'static str]| -> Vec<&str> {
        let checks = checks.iter().flat_map(|check| ["--only", check]);
        common.into_iter().chain(checks).collect()
    };

    let good = only(&["version.answers", "add.succeeds", "check.after-add"]);
    let output = program(&good)?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{output:?}");
    for words in [
        "ptp (/usr/lib/cni/ptp)",
        "0.3.1 1.0.0",
        "add.succeeds",
        "CHECK exists since 0.4.0: check.after-add",
        "Everything that applies holds.",
    ] {
        ensure!(text.contains(words), "no {words:?} in\n{text}");
    }

    let output = program(&[good, vec!["-o", "json"]].concat())?;
    let report: Value = serde_json::from_slice(&output.stdout).context("no JSON")?;
    ensure!(output.status.success(), "{output:?}");
    ensure!(report["conformant"] == true, "{report:#}");
    ensure!(
        report["versions"] == json!(["0.3.1", "1.0.0"]),
        "{report:#}"
    );
    let first = &report["checks"][0];
    ensure!(first["id"] == "version.answers", "{first:#}");
    ensure!(first["findings"][0]["version"].is_null(), "{first:#}");
    ensure!(first["findings"][0]["outcome"] == "holds", "{first:#}");
    let check = &report["checks"][2]["findings"];
    ensure!(check[0]["outcome"] == "not-applicable", "{check:#}");
    ensure!(check[0]["reason"].is_string(), "{check:#}");
    let must = &report["summary"]["must"];
    ensure!(
        must["holds"] == 4 && must["not-applicable"] == 1,
        "{must:#}"
    );

    // A quality that is missing matters only to the strict; a must always.
    let missing = only(&["version.newest"]);
    ensure!(program(&missing)?.status.code() == Some(0), "not strict");
    let strict = [missing, vec!["--strict"]].concat();
    ensure!(program(&strict)?.status.code() == Some(1), "strict");
    let output = program(&only(&["add.two-interfaces"]))?;
    ensure!(output.status.code() == Some(1), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(text.contains("file exists"), "no evidence in\n{text}");
    Ok(())
}

pub(crate) fn the_program_says_what_is_wrong_with_its_arguments() -> Result<()> {
    let list = program(&["--list"])?;
    let text = String::from_utf8_lossy(&list.stdout);
    ensure!(
        list.status.success() && text.contains("del.twice"),
        "{list:?}"
    );
    let shell = "/bin/sh";
    ensure!(Path::new(shell).exists(), "there is no shell");
    for (arguments, words) in [
        (vec![], "--plugin"),
        (vec!["--plugin", "/there/is/none"], "/there/is/none"),
        (vec!["--plugin", shell], "no built-in config for sh"),
        (vec!["--plugin", shell, "--versions", "7.0.0"], "7.0.0"),
        (vec!["--plugin", shell, "--only", "xyz"], "xyz"),
        (
            vec!["--plugin", shell, "--config", "/etc/passwd"],
            "/etc/passwd is not JSON",
        ),
    ] {
        let output = program(&arguments)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(2), "{arguments:?}: {output:?}");
        ensure!(said.contains(words), "{arguments:?}: {said}");
    }
    Ok(())
}
