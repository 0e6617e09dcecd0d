use super::*;

fn with_endpoints(endpoints: &str) -> EtcdConfig {
    EtcdConfig {
        endpoints: endpoint_list(endpoints),
        ..EtcdConfig::default()
    }
}

fn refusal<T>(result: Result<T, StoreError>) -> String {
    match result {
        Ok(_) => panic!("was accepted"),
        Err(error) => error.to_string(),
    }
}

fn file(content: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), content).expect("write");
    file
}

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n";

#[test]
fn the_defaults_are_those_of_flannel() {
    let config = EtcdConfig::default();
    assert_eq!(
        config.urls().expect("urls"),
        ["http://127.0.0.1:4001", "http://127.0.0.1:2379"]
    );
    assert_eq!(config.prefix, "/coreos.com/network");
    assert_eq!(config.renew_margin, Duration::from_secs(3600));
    assert_eq!(config.timing.lease, Duration::from_secs(86_400));
}

#[test]
fn endpoints_are_lists_with_or_without_scheme() {
    let config = with_endpoints(" https://a:2379/ ,, b:2379,http://[::1]:1");
    assert_eq!(
        config.urls().expect("urls"),
        ["https://a:2379", "http://b:2379", "http://[::1]:1"]
    );
    let config = EtcdConfig {
        ca_file: Some("/ca.pem".into()),
        ..with_endpoints("b:2379")
    };
    assert_eq!(config.urls().expect("urls"), ["https://b:2379"]);
}

#[test]
fn bad_endpoints_are_refused_with_the_remedy() {
    for (endpoints, text) in [
        ("", "at least one"),
        ("unix:///x", "use http:// or https://"),
        ("http://a:1/path", "http://host:port"),
        ("http://", "http://host:port"),
    ] {
        let refused = refusal(with_endpoints(endpoints).urls());
        assert!(refused.contains(text), "{endpoints}: {refused}");
        assert!(refused.starts_with("--etcd-endpoints"), "{refused}");
    }
}

#[test]
fn secrets_are_never_shown() {
    let refused = refusal(with_endpoints("http://root:hunter2@a:1").urls());
    assert!(!refused.contains("hunter2") && refused.contains("--etcd-username"));
    let config = EtcdConfig {
        username: Some("root".to_owned()),
        password: Some(Secret::new("hunter2")),
        ..EtcdConfig::default()
    };
    let shown = format!("{config:?}");
    assert!(
        !shown.contains("hunter2") && shown.contains("root"),
        "{shown}"
    );
}

#[test]
fn half_a_pair_is_refused() {
    type Change = fn(&mut EtcdConfig);
    let cases: [(Change, &str); 4] = [
        (
            |config| config.username = Some("u".to_owned()),
            "--etcd-password",
        ),
        (
            |config| config.password = Some(Secret::new("p")),
            "--etcd-username",
        ),
        (
            |config| config.cert_file = Some("/c".into()),
            "--etcd-keyfile",
        ),
        (
            |config| config.key_file = Some("/k".into()),
            "--etcd-certfile",
        ),
    ];
    let ca = file(CERTIFICATE);
    for (change, missing) in cases {
        let mut config = with_endpoints("https://a:1");
        config.ca_file = Some(ca.path().to_owned());
        change(&mut config);
        let refused = refusal(config.options("https://a:1"));
        assert!(refused.contains(missing), "{refused}");
    }
}

#[test]
fn a_ca_file_alone_is_enough_for_tls() {
    let ca = file(CERTIFICATE);
    let mut config = with_endpoints("https://a:1");
    config.ca_file = Some(ca.path().to_owned());
    assert!(config.options("https://a:1").is_ok());
    let (cert, key) = (file(CERTIFICATE), file(KEY));
    config.cert_file = Some(cert.path().to_owned());
    config.key_file = Some(key.path().to_owned());
    assert!(config.options("https://a:1").is_ok());
    assert!(!config.has_idle_tls_files(&["https://a:1".to_owned()]));
    assert!(config.has_idle_tls_files(&["http://a:1".to_owned()]));
}

#[test]
fn files_without_the_right_pem_block_are_refused_by_name() {
    let wrong = file(KEY);
    let mut config = with_endpoints("https://a:1");
    config.ca_file = Some(wrong.path().to_owned());
    let refused = refusal(config.options("https://a:1"));
    assert!(
        refused.contains(&wrong.path().display().to_string()),
        "{refused}"
    );
    config.ca_file = Some("/nowhere/ca.pem".into());
    let refused = refusal(config.options("https://a:1"));
    assert!(
        refused.contains("/nowhere/ca.pem") && refused.contains("--etcd-cafile"),
        "{refused}"
    );
}
