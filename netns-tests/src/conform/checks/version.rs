//! VERSION, and the start without a command by which other software recognises plugins.

use std::time::Duration;

use serde_json::{Value, json};

use crate::conform::catalogue::{Check, Verdict, fails, require};
use crate::conform::scene::Scene;
use crate::conform::spec::{SpecVersion, Verb};

/// How long a runtime would wait that only asks for versions.
const SOON: Duration = Duration::from_secs(10);

pub(super) const CHECKS: &[Check] = &[
    Check::must(
        "version.answers",
        Verb::Version,
        "spec: VERSION",
        "VERSION prints one document with cniVersion and a list of supported versions",
        answers,
    )
    .once(),
    Check::must(
        "version.no-variables",
        Verb::Version,
        "spec: VERSION",
        "VERSION needs no variable but CNI_COMMAND",
        no_variables,
    )
    .once(),
    Check::expected(
        "version.closed-stdin",
        Verb::Version,
        "libcni",
        "VERSION answers when standard input is closed",
        closed_stdin,
    )
    .once(),
    Check::expected(
        "version.silent-stdin",
        Verb::Version,
        "reference skeleton",
        "VERSION does not wait for standard input",
        silent_stdin,
    )
    .once(),
    Check::expected(
        "version.known-versions",
        Verb::Version,
        "spec: released versions",
        "each supported version is a released version of the specification",
        known_versions,
    )
    .once(),
    Check::quality(
        "version.newest",
        Verb::Version,
        "spec 1.1.0",
        "the newest version of the specification is supported",
        newest,
    )
    .once(),
    Check::expected(
        "version.banner",
        Verb::Version,
        "Nomad, nerdctl",
        "without CNI_COMMAND the plugin ends with status 0 and names itself on standard error",
        banner,
    )
    .once(),
    Check::quality(
        "version.banner-version",
        Verb::Version,
        "Nomad, nerdctl",
        "the name on standard error is followed by a version like 1.2.3",
        banner_version,
    )
    .once(),
];

fn answers(scene: &Scene<'_>) -> Verdict {
    supported(&scene.bare(Verb::Version).run()?.document()?).map(drop)
}

fn no_variables(scene: &Scene<'_>) -> Verdict {
    let answer = scene.bare(Verb::Version).without("CNI_PATH").run()?;
    supported(&answer.document()?).map(drop)
}

fn closed_stdin(scene: &Scene<'_>) -> Verdict {
    let call = scene.bare(Verb::Version).closed_input().within(SOON);
    supported(&call.run()?.document()?).map(drop)
}

fn silent_stdin(scene: &Scene<'_>) -> Verdict {
    let call = scene.bare(Verb::Version).silence().within(SOON);
    supported(&call.run()?.document()?).map(drop)
}

fn known_versions(scene: &Scene<'_>) -> Verdict {
    let versions = supported(&scene.bare(Verb::Version).run()?.document()?)?;
    let unknown: Vec<_> = versions
        .iter()
        .filter(|version| version.parse::<SpecVersion>().is_err())
        .collect();
    require(unknown.is_empty(), || {
        format!("never released: {unknown:?}")
    })
}

fn newest(scene: &Scene<'_>) -> Verdict {
    let versions = supported(&scene.bare(Verb::Version).run()?.document()?)?;
    require(versions.iter().any(|version| version == "1.1.0"), || {
        format!("1.1.0 is not among {versions:?}")
    })
}

/// The list of a VERSION document.
fn supported(document: &Value) -> Verdict<Vec<String>> {
    require(document["cniVersion"].is_string(), || {
        format!("no cniVersion: {document}")
    })?;
    let list: Option<Vec<String>> = document["supportedVersions"].as_array().and_then(|list| {
        list.iter()
            .map(|version| version.as_str().map(str::to_owned))
            .collect()
    });
    match list {
        Some(list) if !list.is_empty() => Ok(list),
        _ => fails(format!("no list of versions: {document}")),
    }
}

fn banner(scene: &Scene<'_>) -> Verdict {
    let call = scene.bare(Verb::Version).without("CNI_COMMAND");
    let answer = call.key("cniVersion", json!("1.0.0")).within(SOON).run()?;
    answer.success()?;
    require(!answer.stderr.trim().is_empty(), || {
        format!("nothing on standard error: {}", answer.shown())
    })
}

fn banner_version(scene: &Scene<'_>) -> Verdict {
    let call = scene.bare(Verb::Version).without("CNI_COMMAND");
    let answer = call.within(SOON).run()?;
    let first = answer.stderr.lines().next().unwrap_or_default();
    let has_version = first
        .split_whitespace()
        .any(|word| is_version(word.trim_start_matches('v')));
    require(has_version, || format!("no version in {first:?}"))
}

/// Begins like 1.2.3.
fn is_version(word: &str) -> bool {
    let mut parts = word.splitn(3, '.');
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    parts
        .by_ref()
        .take(2)
        .filter(|part| is_number(part))
        .count()
        == 2
        && parts
            .next()
            .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}
