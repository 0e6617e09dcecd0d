use super::*;

#[test]
fn a_missing_path_is_told_from_a_file_that_is_no_namespace() {
    let missing = Netns::open("/proc/self/ns/no-such-thing").unwrap_err();
    assert!(matches!(missing, NetnsError::Missing { .. }), "{missing}");
    assert!(missing.is_gone());

    for path in ["/proc/self/exe", "/", "/proc/self/ns/mnt", "/dev/null"] {
        let error = Netns::open(path).unwrap_err();
        assert!(matches!(error, NetnsError::NotANetns { .. }), "{error}");
        assert!(error.to_string().contains(path), "{error}");
    }
    let file_as_directory = Netns::open("/proc/self/exe/net").unwrap_err();
    assert!(file_as_directory.is_gone(), "{file_as_directory}");
}

#[test]
fn a_namespace_is_known_again() {
    let [one, other] =
        ["/proc/self/ns/net", "/proc/thread-self/ns/net"].map(|path| Netns::open(path).unwrap());
    assert_eq!(one.identity().unwrap(), other.identity().unwrap());
    assert_eq!(
        Netns::current().unwrap().identity().unwrap(),
        one.identity().unwrap()
    );
    assert!(one.identity().unwrap().to_string().starts_with("net:["));
}
