use std::collections::HashMap;
use std::os::unix::ffi::OsStringExt;

use proptest::prelude::*;

use super::*;

const COMPLETE: [(&str, &str); 6] = [
    ("CNI_COMMAND", "ADD"),
    ("CNI_CONTAINERID", "c1"),
    ("CNI_NETNS", "/run/netns/a"),
    ("CNI_IFNAME", "eth0"),
    ("CNI_PATH", "/opt/cni/bin:/usr/lib/cni"),
    ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=web-0"),
];

fn invocation(changes: &[(&str, &str)]) -> Result<Option<Invocation>, Error> {
    let mut variables: HashMap<_, _> = COMPLETE.into_iter().collect();
    variables.extend(changes.iter().copied());
    Invocation::from_environment(|name| variables.get(name).map(OsString::from))
}

fn refusal(changes: &[(&str, &str)]) -> Error {
    invocation(changes).expect_err("must be refused")
}

#[test]
fn a_complete_environment_is_understood() {
    let call = invocation(&[]).unwrap().unwrap();
    assert_eq!(
        call.request,
        Request::Add(Target {
            container_id: "c1".to_owned(),
            ifname: "eth0".to_owned(),
            netns: Some("/run/netns/a".into()),
        })
    );
    assert_eq!(call.request.verb(), Verb::Add);
    assert_eq!(call.path.len(), 2);
    assert_eq!(call.args.value("K8S_POD_NAME"), Some("web-0"));
    assert!(!call.netns_override);
}

#[test]
fn no_command_is_a_question_who_we_are() {
    assert_eq!(invocation(&[("CNI_COMMAND", "")]).unwrap(), None);
    assert_eq!(Invocation::from_environment(|_| None).unwrap(), None);
}

#[test]
fn an_unknown_command_is_named() {
    for command in ["add", "INIT", "ADD "] {
        let error = refusal(&[("CNI_COMMAND", command)]);
        assert_eq!(error.code(), 4);
        assert!(error.to_string().contains("unknown CNI_COMMAND"), "{error}");
        assert!(error.to_string().contains(command), "{error}");
    }
}

#[test]
fn every_missing_variable_is_named_in_one_message() {
    for (verb, wanted, unwanted) in [
        (
            "ADD",
            &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"][..],
            &[][..],
        ),
        (
            "CHECK",
            &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"],
            &[],
        ),
        (
            "DEL",
            &["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"],
            &["CNI_NETNS"],
        ),
        (
            "GC",
            &["CNI_PATH"],
            &["CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS"],
        ),
        (
            "STATUS",
            &["CNI_PATH"],
            &["CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS"],
        ),
    ] {
        let error =
            Invocation::from_environment(|name| (name == "CNI_COMMAND").then(|| verb.into()))
                .expect_err("must be refused");
        assert_eq!(error.code(), 4);
        let text = error.to_string();
        assert!(wanted.iter().all(|name| text.contains(name)), "{text}");
        assert!(!unwanted.iter().any(|name| text.contains(name)), "{text}");
    }
    assert!(invocation(&[("CNI_COMMAND", "VERSION"), ("CNI_PATH", "")]).is_ok());
}

#[test]
fn a_missing_variable_comes_before_an_illegal_one() {
    let error = refusal(&[("CNI_CONTAINERID", "/"), ("CNI_IFNAME", "")]);
    assert!(matches!(error, Error::MissingVariables { .. }), "{error}");
}

#[test]
fn del_needs_no_netns() {
    let call = invocation(&[("CNI_COMMAND", "DEL"), ("CNI_NETNS", "")]);
    assert!(matches!(
        call.unwrap().unwrap().request,
        Request::Del(Target { netns: None, .. })
    ));
}

#[test]
fn container_ids_follow_the_specification() {
    for id in [
        "a",
        "0",
        "cnitool-77383ca0a0715733ca6f",
        "k8s.io-1_2",
        "A..",
        &"f".repeat(300),
    ] {
        assert!(invocation(&[("CNI_CONTAINERID", id)]).is_ok(), "{id}");
    }
    for id in ["-a", ".a", "_a", "a/b", "a b", "ä", "a\n", "../x"] {
        assert_eq!(refusal(&[("CNI_CONTAINERID", id)]).code(), 4, "{id}");
    }
}

#[test]
fn interface_names_follow_the_kernel() {
    for name in ["a", "eth0", "123456789012345", "net-1.2", "..."] {
        assert!(invocation(&[("CNI_IFNAME", name)]).is_ok(), "{name}");
    }
    for name in [
        "1234567890123456",
        ".",
        "..",
        "a/b",
        "a:b",
        "a b",
        "a\tb",
        "ääääääää",
    ] {
        assert_eq!(refusal(&[("CNI_IFNAME", name)]).code(), 4, "{name}");
    }
}

#[test]
fn verbs_without_container_ignore_its_variables() {
    let call = invocation(&[("CNI_COMMAND", "STATUS"), ("CNI_CONTAINERID", "/")]);
    assert_eq!(call.unwrap().unwrap().request, Request::Status);
}

#[test]
fn the_override_is_understood_in_any_case() {
    for (text, expected) in [
        ("1", true),
        ("true", true),
        ("TRUE", true),
        ("0", false),
        ("", false),
    ] {
        let call = invocation(&[("CNI_NETNS_OVERRIDE", text)])
            .unwrap()
            .unwrap();
        assert_eq!(call.netns_override, expected, "{text}");
    }
}

#[test]
fn arguments_split_at_the_first_equal_sign() {
    let args = CniArgs::parse("A=1;B={\"x\"=2};broken;C=;A=3;;=9");
    assert_eq!(args.value("A"), Some("3"));
    assert_eq!(args.value("B"), Some("{\"x\"=2}"));
    assert_eq!(args.value("C"), None);
    assert_eq!(args.value("broken"), None);
}

proptest! {
    #[test]
    fn no_environment_panics(
        values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 6),
        verb in 0_usize..7,
    ) {
        let _ = Invocation::from_environment(|name| {
            let index = COMPLETE.iter().position(|(known, _)| *known == name)?;
            match Verb::ALL.get(verb) {
                Some(verb) if name == "CNI_COMMAND" => Some(verb.as_str().into()),
                _ => Some(OsString::from_vec(values[index].clone())),
            }
        });
    }

    #[test]
    fn accepted_names_are_safe_as_file_names(text in any::<String>()) {
        if is_identifier(&text) {
            prop_assert!(!text.contains('/') && text != "." && text != ".." && !text.contains('\0'));
        }
    }
}
