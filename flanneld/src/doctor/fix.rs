//! `--fix`: does the remedies that are safe to do unasked, and says what it did. Nothing is started, stopped or cut.

use std::process::Command;
use std::time::SystemTime;

use hostnet::{Netlink, sysctl};

use super::finding::{Finding, Fix};
use crate::pods::{self, Places};

/// Does what can be done about these findings. A sentence about each thing done, or why it could not be.
pub(super) fn apply(findings: &[Finding]) -> Vec<String> {
    let remedies = findings
        .iter()
        .filter_map(|finding| finding.remedy.as_ref());
    let mut told = Vec::new();
    for fix in remedies.flat_map(|remedy| &remedy.fixes) {
        match done(fix) {
            Ok(sentences) => told.extend(sentences),
            Err(reason) => told.push(format!("not fixed: {reason}")),
        }
    }
    told
}

fn done(fix: &Fix) -> Result<Vec<String>, String> {
    match fix {
        Fix::Sysctl { setting, value } => {
            sysctl::write(setting, value).map_err(|error| error.to_string())?;
            Ok(vec![format!(
                "fixed: {setting} is {value} now; see that it is after the next boot, too"
            )])
        }
        Fix::Run(words) => run(words).map(|()| vec![format!("fixed: {}", words.join(" "))]),
        Fix::Collect => {
            let mut netlink = Netlink::open().map_err(|error| error.to_string())?;
            let outcome = pods::repair(&Places::default(), &mut netlink, SystemTime::now());
            match outcome.trouble.first() {
                Some(trouble) => Err(trouble.to_string()),
                None => Ok(outcome
                    .done
                    .into_iter()
                    .map(|done| format!("fixed: {done}"))
                    .collect()),
            }
        }
    }
}

fn run(words: &[String]) -> Result<(), String> {
    let Some((program, arguments)) = words.split_first() else {
        return Ok(());
    };
    let line = words.join(" ");
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{line}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}
