//! flannel's command line, word for word.

use super::*;

fn read(words: &[&str], variables: &[(&str, &str)]) -> Result<Invocation, clap::Error> {
    Invocation::read(
        words.iter().map(|w| (*w).to_owned()),
        variables
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned())),
    )
}

#[test]
fn defaults_are_flannels() {
    let args = read(&[], &[]).unwrap().args;
    assert_eq!(
        args.etcd_endpoints,
        ["http://127.0.0.1:4001", "http://127.0.0.1:2379"]
    );
    assert_eq!(args.etcd_prefix, "/coreos.com/network");
    assert_eq!(args.subnet_file, PathBuf::from("/run/flannel/subnet.env"));
    assert_eq!(args.public_ip, OptionalArg(None));
    assert!(!args.ip_masq && args.iptables_forward_rules && args.set_node_network_unavailable);
}

#[test]
fn the_line_of_flannels_own_unit_file_is_read() {
    let args = read(
        &[
            "-etcd-endpoints=https://a:2379,https://b:2379",
            "-etcd-prefix",
            "/x",
            "-ip-masq",
            "-iface=eth1",
            "--iface",
            "eth0",
        ],
        &[],
    )
    .unwrap()
    .args;
    assert_eq!(args.etcd_endpoints, ["https://a:2379", "https://b:2379"]);
    assert_eq!(args.etcd_prefix, "/x");
    assert_eq!(args.iface, ["eth1", "eth0"]);
    assert!(args.ip_masq);
}

#[test]
fn a_later_flag_wins_and_booleans_take_gos_words() {
    let args = read(
        &[
            "--etcd-prefix=/a",
            "--etcd-prefix=/b",
            "--ip-masq=T",
            "--ip-masq=0",
        ],
        &[],
    )
    .unwrap()
    .args;
    assert_eq!(args.etcd_prefix, "/b");
    assert!(!args.ip_masq);
}

#[test]
fn variables_stand_in_for_flags_that_are_absent() {
    let variables = [
        ("FLANNELD_ETCD_PREFIX", "/env"),
        ("FLANNELD_IFACE", "eth9"),
        ("FLANNELD_IP_MASQ", "true"),
        ("HOME", "/"),
    ];
    let args = read(&["--etcd-prefix=/line"], &variables).unwrap().args;
    assert_eq!(args.etcd_prefix, "/line");
    assert_eq!(args.iface, ["eth9"]);
    assert!(args.ip_masq);
}

#[test]
fn an_empty_variable_is_no_variable_and_a_bad_one_only_warns() {
    let got = read(
        &[],
        &[
            ("FLANNELD_PUBLIC_IP", ""),
            ("FLANNELD_HEALTHZ_PORT", "many"),
            ("FLANNELD_NONSENSE", "1"),
        ],
    )
    .unwrap();
    assert_eq!(got.args.public_ip, OptionalArg(None));
    assert_eq!(got.args.healthz_port, 0);
    assert_eq!(got.warnings.len(), 2);
    assert!(
        got.warnings[0].contains("FLANNELD_HEALTHZ_PORT"),
        "{:?}",
        got.warnings
    );
}

#[test]
fn an_unknown_flag_is_refused_by_name() {
    let error = read(&["-etcd-prefixx=/x"], &[]).unwrap_err().to_string();
    assert!(error.contains("--etcd-prefixx"), "{error}");
}

#[test]
fn an_unknown_command_is_refused_by_name() {
    let error = read(&["statsu"], &[]).unwrap_err().to_string();
    assert!(error.contains("statsu"), "{error}");
}

#[test]
fn a_bad_address_is_refused() {
    assert!(read(&["--public-ip=10.0.0"], &[]).is_err());
    assert_eq!(
        read(&["--public-ip=10.0.0.1"], &[])
            .unwrap()
            .args
            .public_ip
            .0,
        Some(Ipv4Addr::new(10, 0, 0, 1))
    );
}

/// Every flag of flannel: name, a value for it, and what it is without. A boolean is given as just its name, too.
const FLAGS: [(&str, &str, &str); 30] = [
    ("etcd-endpoints", "https://a:1", "http://127.0.0.1:4001"),
    ("etcd-prefix", "/x", "/coreos.com/network"),
    ("etcd-keyfile", "/k", ""),
    ("etcd-certfile", "/c", ""),
    ("etcd-cafile", "/a", ""),
    ("etcd-username", "u", ""),
    ("etcd-password", "p", ""),
    ("iface", "eth7", "[]"),
    ("iface-regex", "^eth", "[]"),
    ("iface-can-reach", "192.0.2.9", "None"),
    ("subnet-file", "/s", "/run/flannel/subnet.env"),
    ("public-ip", "192.0.2.1", "None"),
    ("public-ipv6", "2001:db8::1", "None"),
    ("subnet-lease-renew-margin", "90", "60"),
    ("ip-masq", "true", "false"),
    ("ip-masq-fully-random-disable", "true", "false"),
    ("kube-subnet-mgr", "true", "false"),
    ("kube-api-url", "https://k", ""),
    ("kubeconfig-file", "/kc", ""),
    ("kube-annotation-prefix", "a.b", "flannel.alpha.coreos.com"),
    ("healthz-ip", "127.0.0.1", "0.0.0.0"),
    ("healthz-port", "8081", "0"),
    ("iptables-resync", "9", "5"),
    ("iptables-forward-rules", "false", "true"),
    ("ip-blackhole-route", "true", "false"),
    ("net-config-path", "/n", "/etc/kube-flannel/net-conf.json"),
    ("set-node-network-unavailable", "false", "true"),
    ("v", "3", "0"),
    ("vmodule", "a=1", ""),
    ("log_backtrace_at", "a:1", ""),
];

/// The field of this flag, as text.
fn field(args: &Args, flag: &str) -> String {
    let name = match flag {
        "v" => "verbosity".to_owned(),
        _ => flag.replace('-', "_"),
    };
    let text = format!("{args:#?}");
    let start = text.find(&format!("\n    {name}: ")).expect(flag) + 7 + name.len();
    let rest = &text[start..];
    let end = rest
        .find("\n    }")
        .into_iter()
        .chain(rest.find(",\n    "))
        .min();
    rest[..end.unwrap_or(rest.len())].to_owned()
}

#[test]
fn every_flag_of_flannel_is_taken_in_every_form() {
    let plain = read(&[], &[]).unwrap().args;
    for (flag, value, default) in FLAGS {
        let without = field(&plain, flag);
        assert!(without.contains(default), "{flag} is {without} by default");
        let with = |words: &[&str]| field(&read(words, &[]).unwrap().args, flag);
        let given = with(&[&format!("--{flag}={value}")]);
        assert_ne!(given, without, "{flag}");
        assert!(given.contains(value), "{flag} is {given}");
        assert_eq!(with(&[&format!("-{flag}={value}")]), given, "{flag}");
        if matches!(value, "true" | "false") {
            assert!(with(&[&format!("-{flag}")]).contains("true"), "{flag}");
        } else {
            assert_eq!(with(&[&format!("-{flag}"), value]), given, "{flag}");
            assert_eq!(with(&[&format!("--{flag}"), value]), given, "{flag}");
        }
        let variable = format!("FLANNELD_{}", flag.to_uppercase().replace('-', "_"));
        let got = read(&[], &[(&variable, value)]).unwrap();
        assert_eq!(got.warnings, [""; 0], "{variable}");
        assert_eq!(field(&got.args, flag), given, "{variable}");
        let got = read(&[&format!("--{flag}={value}")], &[(&variable, "nonsense")]).unwrap();
        assert_eq!(field(&got.args, flag), given, "{variable} beside --{flag}");
    }
}

#[test]
fn only_the_repeatable_flags_add_up() {
    let twice = |flag: &str, one: &str, two: &str| {
        read(
            &[&format!("--{flag}={one}"), &format!("--{flag}={two}")],
            &[],
        )
        .unwrap()
        .args
    };
    assert_eq!(
        twice("etcd-endpoints", "http://a:1,http://b:1", "http://c:1").etcd_endpoints,
        ["http://c:1"]
    );
    assert_eq!(twice("iface", "a,b", "c").iface, ["a,b", "c"]);
    assert_eq!(twice("iface-regex", "a", "b").iface_regex.len(), 2);
    assert_eq!(twice("healthz-port", "1", "2").healthz_port, 2);
    // The whole variable is one entry.
    let args = read(&[], &[("FLANNELD_IFACE", "eth0,eth1")]).unwrap().args;
    assert_eq!(args.iface, ["eth0,eth1"]);
}

#[test]
fn values_out_of_range_are_refused_by_name() {
    for words in [
        ["--subnet-lease-renew-margin=0"],
        ["--subnet-lease-renew-margin=1440"],
        ["--healthz-port=65536"],
        ["--ip-masq=maybe"],
        ["--iface-regex=("],
        ["--public-ipv6=192.0.2.1"],
    ] {
        let error = read(&words, &[]).unwrap_err().to_string();
        let flag = words[0].split('=').next().unwrap();
        assert!(error.contains(flag), "{error}");
    }
}

#[test]
fn empty_values_mean_what_they_mean_to_flannel() {
    let args = read(
        &[
            "--healthz-ip=",
            "--public-ip=",
            "--iface-can-reach=",
            "--etcd-cafile=",
        ],
        &[],
    )
    .unwrap()
    .args;
    assert!(args.healthz_ip.is_unspecified());
    assert_eq!(args.public_ip, OptionalArg(None));
    assert_eq!(args.etcd_cafile, "");
}

#[test]
fn the_form_of_the_log_is_a_flag_and_a_variable() {
    let form = |words: &[&str], variables: &[(&str, &str)]| {
        read(words, variables).map(|invocation| invocation.args.log_format)
    };
    assert_eq!(form(&[], &[]).unwrap(), Format::Text);
    assert_eq!(form(&["-log-format=json"], &[]).unwrap(), Format::Json);
    let variable = [("FLANNELD_LOG_FORMAT", "json")];
    assert_eq!(form(&[], &variable).unwrap(), Format::Json);
    assert_eq!(
        form(&["--log-format", "text"], &variable).unwrap(),
        Format::Text
    );
    let refusal = form(&["--log-format=xml"], &[]).unwrap_err().to_string();
    assert!(
        refusal.contains("--log-format") && refusal.contains("json"),
        "{refusal}"
    );
}
