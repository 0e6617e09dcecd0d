use super::*;

fn findings(stage: Stage, linked: bool, namespace: Namespace, age: u64) -> Findings {
    Findings {
        stage,
        linked,
        namespace,
        age: Duration::from_secs(age),
    }
}

#[test]
fn what_is_being_made_is_left_alone() {
    for linked in [true, false] {
        for namespace in [Namespace::Same, Namespace::Gone, Namespace::Unseen] {
            assert_eq!(
                verdict(findings(Stage::Making, linked, namespace, 9999)),
                None
            );
        }
    }
}

#[test]
fn what_nobody_was_told_of_goes_at_once() {
    for linked in [true, false] {
        for namespace in [Namespace::Same, Namespace::Gone, Namespace::Unseen] {
            assert!(verdict(findings(Stage::Abandoned, linked, namespace, 0)).is_some());
        }
    }
}

#[test]
fn a_pod_with_a_link_stays_whatever_can_be_seen_of_it() {
    for namespace in [Namespace::Same, Namespace::Gone, Namespace::Unseen] {
        assert_eq!(
            verdict(findings(Stage::Complete, true, namespace, 9999)),
            None
        );
    }
}

#[test]
fn without_a_link_it_is_the_namespace_that_counts() {
    let without = |namespace, age| verdict(findings(Stage::Complete, false, namespace, age));
    assert!(without(Namespace::Gone, 0).is_some());
    assert_eq!(without(Namespace::Same, 9999), None);
    assert_eq!(without(Namespace::Unseen, 29), None);
    assert!(without(Namespace::Unseen, 30).is_some());
}

#[test]
fn a_namespace_is_known_by_more_than_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pod");
    fs::write(&path, "").unwrap();
    let found = fs::metadata(&path).unwrap();
    let recorded = |path: &Path, ino| Details {
        netns: Some(pool::NetnsIdentity {
            path: path.display().to_string(),
            dev: found.dev(),
            ino,
        }),
        ..Details::default()
    };
    assert_eq!(namespace(&recorded(&path, found.ino())), Namespace::Same);
    assert_eq!(
        namespace(&recorded(&path, found.ino() + 1)),
        Namespace::Gone
    );
    let none = directory.path().join("none");
    assert_eq!(namespace(&recorded(&none, 1)), Namespace::Gone);
    let unseen = directory.path().join("not-mounted/pod");
    assert_eq!(namespace(&recorded(&unseen, 1)), Namespace::Unseen);
    assert_eq!(namespace(&Details::default()), Namespace::Unseen);
}
