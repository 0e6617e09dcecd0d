use super::*;

#[test]
fn a_list_that_did_not_fit_is_asked_for_again() {
    let mut netlink = Netlink::open().unwrap();
    netlink.socket.shrink_buffer(64);
    let links = netlink.links().unwrap();
    assert!(links.iter().any(|link| link.loopback), "{links:?}");
    // And nothing of the first attempt is left that the next request could take for its answer.
    assert_eq!(
        netlink.link_by_name("lo").unwrap(),
        links.into_iter().find(|link| link.loopback)
    );
}

#[test]
fn a_link_that_is_not_there_is_none_and_an_impossible_name_is_an_error() {
    let mut netlink = Netlink::open().unwrap();
    assert_eq!(netlink.link(LinkIndex(u32::MAX >> 1)).unwrap(), None);
    assert_eq!(netlink.link_by_name("no-such-link").unwrap(), None);
    let error = netlink
        .link_by_name("a-name-too-long-for-a-link")
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("cannot look at link a-name-too-long-for-a-link: "),
        "{error}"
    );
    assert!(!error.is_not_found());
}

#[test]
fn lists_about_links_that_are_not_there_are_empty() {
    let mut netlink = Netlink::open().unwrap();
    let nowhere = LinkIndex(u32::MAX >> 1);
    assert_eq!(netlink.addresses(Some(nowhere)).unwrap(), []);
    assert_eq!(netlink.neighbours(nowhere, None).unwrap(), []);
    assert_eq!(netlink.fdb(nowhere).unwrap(), []);
    let filter = RouteFilter {
        link: Some(nowhere),
        ..RouteFilter::default()
    };
    assert_eq!(netlink.routes(&filter).unwrap(), []);
}
