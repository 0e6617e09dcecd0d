//! Asking `flanneld doctor` on hosts that are furnished as an installation leaves them.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{Endpoint, Host, eventually, programs};

/// Where furnished hosts have their CNI programs: a directory that they do not share.
pub const PROGRAMS: &str = "/run/cni-bin";

/// How long what is done may take to be seen.
pub const FOLLOW: Duration = Duration::from_secs(30);

const CONFLIST: &str = include_str!("../../manifests/10-flannel.conflist");

/// Gives a host the conflist and the programs of an installation.
pub fn furnish(host: &Host) -> Result<()> {
    fs::write(host.path("/etc/cni/net.d/10-flannel.conflist"), CONFLIST)?;
    fs::create_dir_all(host.path("/etc/kube-flannel"))?;
    fs::write(host.path("/etc/kube-flannel/cni-conf.json"), CONFLIST)?;
    fs::create_dir_all(host.path(PROGRAMS))?;
    symlink(
        programs::find("flannel")?,
        host.path(PROGRAMS).join("flannel"),
    )?;
    symlink("/bin/true", host.path(PROGRAMS).join("portmap"))?;
    Ok(())
}

/// What the doctor said.
#[derive(Debug)]
pub struct Diagnosis(
    /// Its JSON.
    pub Value,
    /// Its exit status.
    pub i32,
);

impl Diagnosis {
    /// The check that is named as the cause.
    pub fn cause(&self) -> Option<&str> {
        self.0["cause"]["check"].as_str()
    }

    /// The first evidence of the cause.
    pub fn evidence(&self) -> &str {
        self.0["cause"]["evidence"][0].as_str().unwrap_or_default()
    }

    /// Host and command.
    pub fn commands(&self) -> Vec<(Option<String>, String)> {
        let commands = self.0["cause"]["remedy"]["commands"].as_array();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let steps = commands.into_iter().flatten();
        steps
            .filter_map(|step| Some((text(&step["on"]), text(&step["run"])?)))
            .collect()
    }

    /// What a check says.
    pub fn finding(&self, check: &str) -> Result<&Value> {
        let mut findings = self.0["findings"].as_array().into_iter().flatten();
        let found = findings.find(|finding| finding["check"] == check);
        found.with_context(|| format!("no {check} in {:#}", self.0))
    }

    /// How a check came out.
    pub fn verdict(&self, check: &str) -> Result<&str> {
        self.finding(check)?["verdict"]
            .as_str()
            .context("no verdict")
    }
}

/// Asks for JSON.
pub fn ask(host: &Host, words: &[&str]) -> Result<Diagnosis> {
    ask_under(host, &[], words)
}

/// The same, with these variables in the environment.
pub fn ask_under(host: &Host, environment: &[(&str, String)], words: &[&str]) -> Result<Diagnosis> {
    let (out, err, status) = run(host, environment, &[&["-o", "json"], words].concat())?;
    let diagnosis = serde_json::from_str(&out).with_context(|| format!("{out}{err}"))?;
    Ok(Diagnosis(diagnosis, status))
}

/// Asks as people do.
pub fn text(host: &Host, words: &[&str]) -> Result<String> {
    run(host, &[], words).map(|(out, ..)| out)
}

fn run(
    host: &Host,
    environment: &[(&str, String)],
    words: &[&str],
) -> Result<(String, String, i32)> {
    let program = programs::find("flanneld")?;
    let program = program.to_str().context("no text")?;
    let mut command = vec!["env".to_owned()];
    command.extend(
        environment
            .iter()
            .map(|(name, value)| format!("{name}={value}")),
    );
    let rest = [&[program, "doctor", "--cni-bin-dir", PROGRAMS], words].concat();
    command.extend(rest.into_iter().map(str::to_owned));
    let finished = host.attempt(command)?;
    let status = finished.status.code().context("a signal ended it")?;
    Ok((finished.stdout, finished.stderr, status))
}

/// Waits until the doctor names this check first.
pub fn wait_cause(host: &Host, check: &str) -> Result<Diagnosis> {
    eventually(
        &format!("the doctor on {} names {check}", host.name()),
        FOLLOW,
        || {
            let diagnosis = ask(host, &[])?;
            ensure!(
                diagnosis.cause() == Some(check),
                "it says {:#}",
                diagnosis.0
            );
            Ok(diagnosis)
        },
    )
}

/// Waits until the doctor finds nothing broken. A daemon that was stopped for the sake of the test is a warning.
pub fn wait_cured(host: &Host) -> Result<()> {
    eventually(
        &format!("the doctor on {} finds nothing broken", host.name()),
        FOLLOW,
        || {
            let diagnosis = ask(host, &[])?;
            let cause = diagnosis.cause();
            ensure!(
                cause.is_none() || cause == Some("daemon") && diagnosis.1 == 1,
                "it says {:#}",
                diagnosis.0
            );
            Ok(())
        },
    )
}
