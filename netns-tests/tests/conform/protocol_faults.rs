//! Faults in how a plugin reads its input and prints its answer; each with the checks that have to catch it.

use crate::faults::Fault;

pub(crate) const PROTOCOL: &[Fault] = &[
    (
        r#"[ -n "${CNI_CONTAINERID:-}" ] || export CNI_CONTAINERID=anything"#,
        &[
            "protocol.add-missing-variable",
            "protocol.del-missing-variable",
            "protocol.check-missing-variable",
            "protocol.empty-variable",
        ],
    ),
    (
        r#"[ -n "${CNI_CONTAINERID:-}" ] || [ -z "$verb$input" ] || [ "$verb" = VERSION ] || refuse 4 CNI_CONTAINERID"#,
        &["protocol.all-missing"],
    ),
    (
        r#"CNI_CONTAINERID=$(printf %s "${CNI_CONTAINERID:-}" | tr -c 'A-Za-z0-9' x)"#,
        &["protocol.illegal-container-id"],
    ),
    (
        r#"[ ${#CNI_CONTAINERID} -le 64 ] || refuse 4 "CNI_CONTAINERID is too long""#,
        &["protocol.legal-container-id"],
    ),
    (
        r#"case ${CNI_IFNAME:-} in sixteen*) CNI_IFNAME=sixteen ;; esac"#,
        &["protocol.illegal-ifname"],
    ),
    (
        r#"[ "$verb" != INIT ] || exit 0"#,
        &["protocol.unknown-verb"],
    ),
    (
        r#"[ -n "$input" ] || [ "$verb" != ADD ] || refuse 999 "no config""#,
        &["protocol.empty-stdin"],
    ),
    (
        r#"case $input in nonsense) refuse 7 "no JSON" ;; esac"#,
        &["protocol.broken-json"],
    ),
    (
        r#"[ "$input" != '[]' ] || refuse 999 "an array""#,
        &["protocol.not-an-object"],
    ),
    (
        r#"case $input in *'"name"'*) ;; *) exit 0 ;; esac"#,
        &["protocol.missing-name"],
    ),
    (
        r#"input=$(printf %s "$input" | sed 's|"a/b"|"ab"|')"#,
        &["protocol.illegal-name"],
    ),
    (
        r#"case $input in *99.0.0*) refuse 1 "no" ;; esac"#,
        &["protocol.unsupported-version-text"],
    ),
    (
        r#"input=$(printf %s "$input" | sed 's/99\.0\.0/1.0.0/')"#,
        &["protocol.unsupported-version"],
    ),
    ("gc() { :; }", &["protocol.verb-too-new"]),
    (
        r#"add() { output=$(real) || { echo "$output"; exit 1; }; echo "$output$output"; }"#,
        &["answer.one-document"],
    ),
    (r#"add() { echo ready; real; }"#, &["answer.one-document"]),
    (
        r#"add() { real >/dev/null || { echo refused >&2; exit 1; }; }"#,
        &["answer.error-document"],
    ),
    (
        r#"add() { output=$(real) || { printf '{"code":42,"msg":"no"}'; exit 1; }; echo "$output"; }"#,
        &["answer.error-code-range", "answer.error-version"],
    ),
    ("del() { echo done >&2; real; }", &["answer.quiet"]),
    (
        r#"version() { printf '{"cniVersion":"1.0.0"}'; }"#,
        &["version.answers"],
    ),
    (
        r#"version() { [ -n "${CNI_PATH:-}" ] || refuse 4 CNI_PATH; printf '{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}'; }"#,
        &["version.no-variables", "version.newest"],
    ),
    (
        r#"version() { cat >/dev/null 2>&1 || exit 1; printf '{"cniVersion":"1.0.0","supportedVersions":["1.0.0","7.0.0"]}'; }"#,
        &[
            "version.closed-stdin",
            "version.silent-stdin",
            "version.known-versions",
        ],
    ),
    (
        "banner() { exit 1; }",
        &["version.banner", "version.banner-version"],
    ),
    (
        r#"case $input in *'"Name"'*) refuse 7 "no name" ;; esac"#,
        &["config.key-case"],
    ),
    (
        r#"case $input in *unknown*) refuse 2 "unknown key" ;; esac"#,
        &["config.unknown-keys"],
    ),
    (
        r#"case $input in *null*) refuse 6 "null" ;; esac"#,
        &["config.null-values"],
    ),
    (
        r#"case $input in *labels*) refuse 2 "labels" ;; esac"#,
        &["config.unknown-args"],
    ),
    (
        r#"case $input in *cgroupPath*) refuse 2 "cgroupPath" ;; esac"#,
        &["config.capabilities"],
    ),
    (
        r#"case ${CNI_ARGS:-} in *K8S*) refuse 4 CNI_ARGS ;; esac"#,
        &["config.kubernetes-args", "config.args-order"],
    ),
    (
        r#"[ -n "${CNI_ARGS+x}" ] || [ "$verb" != ADD ] || refuse 4 CNI_ARGS"#,
        &["config.no-args"],
    ),
    (
        r#"case $verb-$input in ADD-*cniVersion*) ;; ADD-?*) refuse 1 "no version" ;; esac"#,
        &["protocol.absent-version"],
    ),
    (
        r#"case $input in *99.0.0*1.0.0*) refuse 6 "a key twice" ;; esac"#,
        &["config.duplicate-keys"],
    ),
    (
        r#"case $input in *'  '*) refuse 6 "white space" ;; esac"#,
        &["config.white-space"],
    ),
    (
        r#"case ${CNI_NETNS:-} in */host) refuse 8 "the own namespace" ;; esac"#,
        &["add.own-netns-override"],
    ),
];
