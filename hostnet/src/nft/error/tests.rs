use super::*;

fn refused(errno: i32, text: Option<&str>) -> String {
    let error = KernelError {
        errno,
        text: text.map(str::to_owned),
    };
    let what = "rule 2 of chain ip t c".to_owned();
    Error::Refused { what, error }.to_string()
}

#[test]
fn a_refusal_names_the_object_the_reason_and_what_to_do() {
    assert_eq!(
        refused(libc::EPERM, None),
        "nf_tables refused rule 2 of chain ip t c: Operation not permitted (errno 1); nothing was changed \
         (this needs the capability NET_ADMIN, and a table that no other process owns)"
    );
    assert_eq!(
        refused(libc::EMLINK, Some("chains in a circle")),
        "nf_tables refused rule 2 of chain ip t c: chains in a circle (Too many links, errno 31); nothing was changed"
    );
    let missing = refused(libc::ENOENT, None);
    assert!(missing.ends_with(
        "nothing was changed (the kernel may lack the nf_tables module for it, or not allow it in this place)"
    ));
}

#[test]
fn a_question_without_an_answer_says_what_was_asked() {
    let error = Error::Query {
        what: "the rules of table ip t".to_owned(),
        error: KernelError::new(libc::EPERM),
    };
    let text = error.to_string();
    assert!(
        text.starts_with(
            "nf_tables does not give the rules of table ip t: Operation not permitted"
        )
    );
    assert!(text.contains("NET_ADMIN"), "{text}");
}
