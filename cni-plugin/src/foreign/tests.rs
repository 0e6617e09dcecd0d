use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use tempfile::TempDir;

use super::*;

const LIMIT: Duration = Duration::from_secs(10);

fn directory_with(script: &str) -> (TempDir, Vec<PathBuf>) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("fake");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let search = vec![directory.path().to_owned()];
    (directory, search)
}

fn target() -> Target {
    Target {
        container_id: "c1".to_owned(),
        ifname: "eth0".to_owned(),
        netns: Some("/run/netns/a".into()),
    }
}

fn config() -> Object {
    let mut config = Object::default();
    config.set("cniVersion", "1.0.0");
    config.set("name", "net");
    config.set("type", "fake");
    config
}

fn add_within(script: &str, limit: Duration) -> Result<AddResult, Error> {
    let (_directory, search) = directory_with(script);
    let plugin = Plugin::find("fake", &search).unwrap();
    plugin.add(&target(), &config(), limit)
}

fn refusal(script: &str) -> Error {
    add_within(script, LIMIT).expect_err("must be refused")
}

#[test]
fn the_first_file_in_the_path_is_run() {
    let (_one, mut search) = directory_with("exit 0");
    let (_other, others) = directory_with("exit 1");
    let nothing = TempDir::new().unwrap();
    fs::create_dir(nothing.path().join("fake")).unwrap();
    let found = search[0].join("fake");
    search.insert(0, nothing.path().to_owned());
    search.extend(others);
    let plugin = Plugin::find("fake", &search).unwrap();
    assert_eq!((plugin.name(), plugin.path()), ("fake", found.as_path()));
}

#[test]
fn a_missing_plugin_is_named_with_the_places() {
    let search = ["/nonexistent/a".into(), "/nonexistent/b".into()];
    let error = Plugin::find("fake", &search).unwrap_err();
    assert_eq!(error.code(), 105);
    let text = error.to_string();
    for word in ["fake", "/nonexistent/a, /nonexistent/b", "CNI_PATH"] {
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn what_is_no_file_name_is_refused() {
    for name in ["", "/bin/sh", "../sh", "a/b", "a\0b"] {
        let error = Plugin::find(name, &["/bin".into()]).unwrap_err();
        assert_eq!(error.code(), 7, "{name:?}: {error}");
    }
    assert!(Plugin::find("..", &["/bin".into()]).is_err());
}

#[test]
fn it_gets_the_call_and_the_config() {
    // It answers with what it got, put where a result has room for it.
    let script = r#"config=$(cat | tr -d '"{}')
        printf '{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/24"}],"interfaces":[{"name":"%s","sandbox":"%s"}]}' \
            "$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $CNI_NETNS" "$config""#;
    let result = add_within(script, LIMIT).unwrap();
    let [interface] = &result.interfaces[..] else {
        panic!("{result:?}");
    };
    assert_eq!(interface.name, "ADD c1 eth0 /run/netns/a");
    let sandbox = interface.sandbox.as_deref();
    assert_eq!(sandbox, Some("cniVersion:1.0.0,name:net,type:fake"));
    assert_eq!(result.ips[0].address.to_string(), "10.0.0.2/24");
}

#[test]
fn a_del_without_netns_has_none() {
    let (_directory, search) =
        directory_with("test -z \"${CNI_NETNS+set}\" && test $CNI_COMMAND = DEL");
    let gone = Target {
        netns: None,
        ..target()
    };
    let order = Order {
        verb: Verb::Del,
        target: Some(&gone),
        config: &config(),
        limit: LIMIT,
    };
    Plugin::find("fake", &search).unwrap().call(&order).unwrap();
}

#[test]
fn a_result_without_version_has_that_of_the_config() {
    let result = add_within(r#"echo '{"ips":[{"address":"10.0.0.2/24"}]}'"#, LIMIT).unwrap();
    assert_eq!(result.ips.len(), 1);
}

#[test]
fn its_error_is_passed_on_with_its_code() {
    let error = refusal(r#"echo '{"code":103,"msg":"no","details":"because"}'; exit 1"#);
    assert_eq!(error.code(), 103);
    assert_eq!(error.details(), "because");
    let text = error.to_string();
    assert!(text.contains("fake") && text.ends_with(": no"), "{text}");
    // The library's number for "unknown" is none.
    assert_eq!(refusal(r#"echo '{"code":0}'; exit 1"#).code(), 999);
}

#[test]
fn what_is_no_answer_is_told_as_such() {
    for (script, word) in [
        ("true", "JSON"),
        ("echo hello", "JSON"),
        ("echo '[]'", "object"),
        (r#"echo '{"ips":[{"address":"here"}]}'"#, "address"),
        (r#"echo '{"cniVersion":"9.9"}'"#, "9.9"),
        ("exit 3", "exit status 3"),
        ("echo nonsense; exit 3", "exit status 3"),
        (r#"echo '{"msg":"no code"}'; exit 1"#, "exit status 1"),
        ("kill -9 $$", "signal 9"),
        ("yes", "4 MiB"),
    ] {
        let error = refusal(script);
        assert_eq!(error.code(), 105, "{script}: {error}");
        let text = error.to_string();
        assert!(text.contains(word) && text.len() < 500, "{script}: {text}");
    }
}

#[test]
fn a_long_refusal_is_cut() {
    let error = refusal(
        r#"printf '{"code":7,"msg":"'; head -c 100000 /dev/zero | tr '\0' x; printf '"}'; exit 1"#,
    );
    assert_eq!(error.code(), 7);
    assert!(error.to_string().len() < 3000);
}

#[test]
fn one_that_hangs_is_killed_with_all_it_started() {
    let place = TempDir::new().unwrap();
    let note = place.path().join("pid");
    let script = format!("sleep 1000 & echo $! >{}; wait", note.display());
    let begin = Instant::now();
    let error = add_within(&script, Duration::from_secs(1)).unwrap_err();
    assert!(begin.elapsed() < Duration::from_secs(8));
    assert_eq!(error.code(), 11);
    assert!(error.to_string().contains("killed"), "{error}");
    let process = format!("/proc/{}/stat", fs::read_to_string(&note).unwrap().trim());
    let end = Instant::now() + LIMIT;
    // Whoever adopts it may take a moment to bury it.
    let runs = || fs::read_to_string(&process).is_ok_and(|stat| !stat.contains(") Z"));
    while runs() {
        assert!(Instant::now() < end, "{process} is still there");
        std::thread::yield_now();
    }
}

#[test]
fn what_it_leaves_running_is_not_waited_for() {
    let begin = Instant::now();
    let script = r#"sleep 20 & echo '{"ips":[]}'"#;
    add_within(script, LIMIT).unwrap();
    assert!(begin.elapsed() < LIMIT);
}

#[test]
fn what_is_no_program_is_named() {
    let (directory, search) = directory_with("");
    fs::set_permissions(
        directory.path().join("fake"),
        fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    let plugin = Plugin::find("fake", &search).unwrap();
    let error = plugin.add(&target(), &config(), LIMIT).unwrap_err();
    assert_eq!(error.code(), 105);
    assert!(error.to_string().contains("/fake"), "{error}");
}
