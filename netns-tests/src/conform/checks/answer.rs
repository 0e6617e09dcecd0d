//! What a plugin prints: one document, with errors in the specification's form, and otherwise nothing.

use serde_json::json;

use crate::conform::call::{Answer, needed};
use crate::conform::catalogue::{Check, Verdict, require};
use crate::conform::scene::Scene;
use crate::conform::spec::Verb;

pub(super) const CHECKS: &[Check] = &[
    Check::expected(
        "answer.one-document",
        Verb::Add,
        "libcni",
        "a successful ADD prints exactly one JSON document",
        one_document,
    ),
    Check::expected(
        "answer.error-document",
        Verb::Add,
        "spec: error",
        "a refusal is one JSON document on standard output with a code and a message",
        error_document,
    ),
    Check::quality(
        "answer.error-version",
        Verb::Add,
        "spec: error",
        "an error document has a cniVersion",
        error_version,
    ),
    Check::expected(
        "answer.error-code-range",
        Verb::Add,
        "spec: error codes",
        "the code of an error is one of the specification's or at least 100",
        error_code_range,
    ),
    Check::quality(
        "answer.quiet",
        Verb::Add,
        "runtimes log it",
        "a successful ADD and DEL print nothing to standard error",
        quiet,
    ),
];

fn one_document(scene: &Scene<'_>) -> Verdict {
    let container = scene.container()?;
    let answer = scene.own_call(&container).run()?;
    needed("ADD", answer.success())?;
    answer.one_document().map(drop)
}

fn refusals(scene: &Scene<'_>) -> Verdict<Vec<Answer>> {
    let container = scene.container()?;
    let call = || scene.own_call(&container);
    let calls = [
        call().without("CNI_CONTAINERID"),
        call().text("{"),
        call().key("cniVersion", json!("99.0.0")),
        call().with("CNI_NETNS", "/run/netns/there-is-none"),
    ];
    let mut answers = Vec::new();
    for call in calls {
        let answer = call.run()?;
        if !answer.succeeded() {
            answers.push(answer);
        }
    }
    Ok(answers)
}

fn error_document(scene: &Scene<'_>) -> Verdict {
    for answer in refusals(scene)? {
        let document = answer.one_document()?;
        let code = document["code"].as_u64().is_some_and(|code| code > 0);
        let message = document["msg"]
            .as_str()
            .is_some_and(|text| !text.is_empty());
        require(code && message, || {
            format!("no code above 0 or no msg: {}", answer.shown())
        })?;
    }
    Ok(())
}

fn error_version(scene: &Scene<'_>) -> Verdict {
    for answer in refusals(scene)? {
        let document = needed("the error document", answer.one_document())?;
        require(document["cniVersion"].is_string(), || {
            format!("no cniVersion: {document}")
        })?;
    }
    Ok(())
}

fn error_code_range(scene: &Scene<'_>) -> Verdict {
    for answer in refusals(scene)? {
        let document = needed("the error document", answer.one_document())?;
        let code = document["code"].as_u64().unwrap_or_default();
        // 8 is the reference library's for a bad network namespace.
        let known = matches!(code, 1..=8 | 11 | 50 | 51 | 100..);
        require(known, || format!("code {code} is nobody's: {document}"))?;
    }
    Ok(())
}

fn quiet(scene: &Scene<'_>) -> Verdict {
    let container = scene.container()?;
    let add = scene.call(Verb::Add, &container).run()?;
    let result = needed("ADD", add.document())?;
    let del = scene.call(Verb::Del, &container).previous(&result).run()?;
    for answer in [add, del] {
        require(answer.stderr.trim().is_empty(), || answer.shown())?;
    }
    Ok(())
}
