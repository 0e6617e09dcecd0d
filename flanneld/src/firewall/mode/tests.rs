use super::*;

fn abilities(nftables: bool, iptables: Option<Variant>) -> Abilities {
    Abilities {
        nftables: if nftables {
            Ok(())
        } else {
            Err("no such module".to_owned())
        },
        iptables,
    }
}

#[test]
fn what_is_asked_for_is_done_if_it_can_be_done() {
    for variant in [Variant::Legacy, Variant::Nft] {
        let able = abilities(true, Some(variant));
        assert_eq!(choose(None, &able), (Mode::Nftables, None));
        assert_eq!(choose(Some(true), &able), (Mode::Nftables, None));
        assert_eq!(choose(Some(false), &able), (Mode::Iptables(variant), None));
    }
}

#[test]
fn what_cannot_be_done_is_said_and_the_other_taken() {
    let old = abilities(false, Some(Variant::Legacy));
    for asked in [None, Some(true)] {
        let (mode, remark) = choose(asked, &old);
        assert_eq!(mode, Mode::Iptables(Variant::Legacy));
        assert!(remark.expect("a remark").contains("no such module"));
    }
    assert_eq!(choose(Some(false), &old).1, None);
    let bare = abilities(true, None);
    let (mode, remark) = choose(Some(false), &bare);
    assert_eq!(mode, Mode::Nftables);
    assert!(remark.expect("a remark").contains("no iptables programs"));
    for asked in [None, Some(true), Some(false)] {
        let (mode, remark) = choose(asked, &abilities(false, None));
        assert_eq!(mode, Mode::Nftables);
        assert!(remark.expect("a remark").starts_with("neither"));
    }
}
