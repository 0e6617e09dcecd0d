//! What every call has in common: the environment and standard input.
//!
//! A verb's check exists once for each verb, under the verb's name, since plugins may differ between them.

use serde_json::json;

use crate::conform::call::needed;
use crate::conform::catalogue::{Check, Verdict, inapplicable, require};
use crate::conform::scene::Scene;
use crate::conform::spec::{SpecVersion, Verb};
use crate::conform::subject::Kind;

const PARAMETERS: &str = "spec: parameters, error code 4";
const CODES: &str = "spec: error codes";
const SKELETON: &str = "reference skeleton";

pub(super) const CHECKS: &[Check] = &[
    Check::must(
        "protocol.add-missing-variable",
        Verb::Add,
        PARAMETERS,
        "ADD without CNI_CONTAINERID, CNI_NETNS or CNI_IFNAME is refused with code 4 and the name of the variable",
        missing_variable,
    ),
    Check::must(
        "protocol.del-missing-variable",
        Verb::Del,
        PARAMETERS,
        "DEL without CNI_CONTAINERID or CNI_IFNAME is refused with code 4 and the name of the variable",
        missing_variable,
    ),
    Check::must(
        "protocol.check-missing-variable",
        Verb::Check,
        PARAMETERS,
        "CHECK without CNI_CONTAINERID, CNI_NETNS or CNI_IFNAME is refused with code 4 and the name of the variable",
        missing_variable,
    ),
    Check::must(
        "protocol.empty-variable",
        Verb::Add,
        PARAMETERS,
        "an empty CNI_CONTAINERID, CNI_NETNS or CNI_IFNAME counts as missing",
        empty_variable,
    ),
    Check::must(
        "protocol.all-missing",
        Verb::Add,
        PARAMETERS,
        "all missing variables are named in one error",
        all_missing,
    ),
    Check::must(
        "protocol.illegal-container-id",
        Verb::Add,
        "spec: parameters",
        "a container ID that is not letters, digits, _ . - after a letter or digit is refused with code 4",
        illegal_container_id,
    ),
    Check::must(
        "protocol.legal-container-id",
        Verb::Add,
        "spec: parameters",
        "a container ID may contain _ . - and be long",
        legal_container_id,
    ),
    Check::must(
        "protocol.illegal-ifname",
        Verb::Add,
        PARAMETERS,
        "an interface name that Linux would not take is refused with code 4",
        illegal_ifname,
    )
    .only(&[Kind::Interface, Kind::Ipam]),
    Check::must(
        "protocol.unknown-verb",
        Verb::Add,
        "spec: error code 4",
        "an unknown CNI_COMMAND is refused with code 4",
        unknown_verb,
    ),
    Check::must(
        "protocol.empty-stdin",
        Verb::Add,
        CODES,
        "an empty standard input is refused with code 5, 6 or 7",
        empty_stdin,
    ),
    Check::must(
        "protocol.broken-json",
        Verb::Add,
        "spec: error code 6",
        "a config that is not JSON, or is cut off, is refused with code 6",
        broken_json,
    ),
    Check::must(
        "protocol.not-an-object",
        Verb::Add,
        CODES,
        "a config that is an array, a number or a string is refused with code 6 or 7",
        not_an_object,
    ),
    Check::must(
        "protocol.missing-name",
        Verb::Add,
        "spec: error code 7",
        "a config without a name is refused with code 7",
        missing_name,
    ),
    Check::must(
        "protocol.illegal-name",
        Verb::Add,
        "spec: network configuration",
        "an illegal network name is refused with code 7",
        illegal_name,
    ),
    Check::must(
        "protocol.unsupported-version",
        Verb::Add,
        "spec: error code 1",
        "a config of an unknown version is refused with code 1",
        unsupported_version,
    ),
    Check::expected(
        "protocol.unsupported-version-text",
        Verb::Add,
        SKELETON,
        "that error names the version asked for or those that are supported",
        unsupported_version_text,
    ),
    Check::expected(
        "protocol.absent-version",
        Verb::Add,
        SKELETON,
        "a config without cniVersion is taken for 0.1.0",
        absent_version,
    )
    .once(),
    Check::expected(
        "protocol.verb-too-new",
        Verb::Add,
        SKELETON,
        "CHECK, GC and STATUS are refused with code 1 (or 4) for a config older than the verb",
        verb_too_new,
    ),
];

fn required(verb: Verb) -> &'static [&'static str] {
    match verb {
        Verb::Add | Verb::Check => &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
        Verb::Del => &["CNI_CONTAINERID", "CNI_IFNAME"],
        Verb::Gc | Verb::Status | Verb::Version => &[],
    }
}

fn missing_variable(scene: &Scene<'_>) -> Verdict {
    let container = scene.container()?;
    for variable in required(scene.verb) {
        let answer = scene.own_call(&container).without(variable).run()?;
        answer.refused_with(&[4])?.names(&[variable])?;
    }
    Ok(())
}

fn empty_variable(scene: &Scene<'_>) -> Verdict {
    let container = scene.container()?;
    for variable in required(scene.verb) {
        let answer = scene.own_call(&container).with(variable, "").run()?;
        answer.refused_with(&[4])?.names(&[variable])?;
    }
    Ok(())
}

fn all_missing(scene: &Scene<'_>) -> Verdict {
    let container = scene.container()?;
    let variables = required(scene.verb);
    let bare = variables
        .iter()
        .fold(scene.own_call(&container), |call, name| call.without(name));
    bare.run()?.refused_with(&[4])?.names(variables)
}

fn illegal_container_id(scene: &Scene<'_>) -> Verdict {
    let container = scene.container()?;
    let before = scene.host.state()?;
    for id in ["-x", "_x", ".x", "a/b", "a b", "../../x", "a:b"] {
        let call = scene.own_call(&container).with("CNI_CONTAINERID", id);
        call.run()?.refused_with(&[4])?;
    }
    scene.host.state()?.same_as(&before)
}

fn legal_container_id(scene: &Scene<'_>) -> Verdict {
    let long = "0123456789abcdef".repeat(8);
    for id in ["a", "default-1b2f_3.x", long.as_str()] {
        let container = scene.container()?;
        let call = scene.own_call(&container).with("CNI_CONTAINERID", id);
        call.run()?.success()?;
    }
    Ok(())
}

fn illegal_ifname(scene: &Scene<'_>) -> Verdict {
    let container = scene.container()?;
    let before = scene.host.state()?;
    for name in ["sixteen-bytes-xx", ".", "..", "a/b", "a:b", "a b", "a\tb"] {
        let call = scene.own_call(&container).with("CNI_IFNAME", name);
        call.run()?.refused_with(&[4])?;
    }
    scene.host.state()?.same_as(&before)
}

fn unknown_verb(scene: &Scene<'_>) -> Verdict {
    let container = scene.container()?;
    for verb in ["INIT", "add", "ADD "] {
        let call = scene.own_call(&container).with("CNI_COMMAND", verb);
        call.run()?.refused_with(&[4])?;
    }
    Ok(())
}

fn refuses_text(scene: &Scene<'_>, texts: &[&str], codes: &[u64]) -> Verdict {
    let container = scene.container()?;
    for text in texts {
        let call = scene.own_call(&container).text(*text);
        call.run()?.refused_with(codes)?;
    }
    Ok(())
}

fn empty_stdin(scene: &Scene<'_>) -> Verdict {
    refuses_text(scene, &["", "\n"], &[5, 6, 7])
}

fn broken_json(scene: &Scene<'_>) -> Verdict {
    let container = scene.container()?;
    let config = scene.own_call(&container).config_text();
    let cut = &config[..config.len() - 1];
    refuses_text(scene, &["{", "nonsense", cut, "{\"name\":7}"], &[6])
}

fn not_an_object(scene: &Scene<'_>) -> Verdict {
    refuses_text(scene, &["[]", "7", "\"text\""], &[6, 7])
}

fn missing_name(scene: &Scene<'_>) -> Verdict {
    let container = scene.container()?;
    let call = scene.own_call(&container).without_key("name");
    call.run()?.refused_with(&[7])?;
    let call = scene.own_call(&container).key("name", json!(""));
    call.run()?.refused_with(&[7]).map(drop)
}

fn illegal_name(scene: &Scene<'_>) -> Verdict {
    let container = scene.container()?;
    let before = scene.host.state()?;
    for name in ["a/b", "-a", "a b", "../x", "a:b"] {
        let call = scene.own_call(&container).key("name", json!(name));
        call.run()?.refused_with(&[7])?;
    }
    scene.host.state()?.same_as(&before)
}

fn unsupported_version(scene: &Scene<'_>) -> Verdict {
    let container = scene.container()?;
    let call = scene
        .own_call(&container)
        .key("cniVersion", json!("99.0.0"));
    call.run()?.refused_with(&[1]).map(drop)
}

fn unsupported_version_text(scene: &Scene<'_>) -> Verdict {
    let container = scene.container()?;
    let call = scene
        .own_call(&container)
        .key("cniVersion", json!("99.0.0"));
    let refusal = needed("the refusal", call.run()?.refusal())?;
    let text = refusal.text();
    require(text.contains("99.0.0") || text.contains("0.3.1"), || {
        format!("the error names no version: {text:?}")
    })
}

fn absent_version(scene: &Scene<'_>) -> Verdict {
    if !scene.subject.supported.contains(&SpecVersion::V010) {
        return inapplicable("the plugin does not support 0.1.0");
    }
    let container = scene.container()?;
    let call = scene.own_call(&container).without_key("cniVersion");
    let result = call.run()?.document()?;
    let old = result["ips"].is_null() && result["interfaces"].is_null();
    require(old, || format!("a result of another version: {result}"))
}

fn verb_too_new(scene: &Scene<'_>) -> Verdict {
    let container = scene.container()?;
    let newer = [Verb::Check, Verb::Gc, Verb::Status]
        .into_iter()
        .filter(|verb| verb.since() > scene.version);
    let mut tried = 0;
    for verb in newer {
        tried += 1;
        scene.call(verb, &container).run()?.refused_with(&[1, 4])?;
    }
    match tried {
        0 => inapplicable("every verb exists in this version"),
        _ => Ok(()),
    }
}
