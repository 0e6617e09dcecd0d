use proptest::prelude::*;

use super::*;

fn rule(text: &str) -> Rule {
    text.parse().expect("a rule")
}

#[test]
fn the_order_of_matches_and_the_spelling_of_networks_do_not_matter() {
    for (one, other) in [
        (
            "-p udp -m udp --dport 8472 -m addrtype --dst-type LOCAL -j CT --notrack",
            "-m addrtype --dst-type LOCAL -p udp -m udp --dport 8472 -j CT --notrack",
        ),
        ("-s 10.0.0.0/8 -j ACCEPT", "-s 10.0.0.0/255.0.0.0 -j ACCEPT"),
        ("-d 10.1.2.3 -j ACCEPT", "-d 10.1.2.3/32 -j ACCEPT"),
        ("-d fd00:0:0::/48 -j ACCEPT", "-d fd00::/48 -j ACCEPT"),
        (
            "-s 0.0.0.0/0 -d 10.0.0.0/8 -j ACCEPT",
            "-d 10.0.0.0/8 -j ACCEPT",
        ),
        (
            "-m comment --comment flanneld -j ACCEPT",
            "-m comment  --comment \"flanneld\"\t-j ACCEPT",
        ),
    ] {
        assert_eq!(rule(one), rule(other));
    }
}

#[test]
fn what_a_packet_would_notice_does_matter() {
    let rules = [
        "-s 10.0.0.0/8 -j ACCEPT",
        "! -s 10.0.0.0/8 -j ACCEPT",
        "-d 10.0.0.0/8 -j ACCEPT",
        "-s 10.0.0.0/9 -j ACCEPT",
        "-s 10.0.0.0/8 -j RETURN",
        "-s 10.0.0.0/8 -g ACCEPT",
        "-s 10.0.0.0/8 -i eth0 -j ACCEPT",
        "-s 10.0.0.0/8 ! -i eth0 -j ACCEPT",
        "-s 10.0.0.0/8 -p udp -m udp --dport 1 -j ACCEPT",
        "-s 10.0.0.0/8 -p udp -m udp ! --dport 1 -j ACCEPT",
        "-s 10.0.0.0/8 -p udp -m udp --sport 1 -j ACCEPT",
        "-s 10.0.0.0/8 -m comment --comment \"-j RETURN\" -j ACCEPT",
        "-s 10.0.0.0/8 -m comment --comment -j -j ACCEPT",
        "-s 10.0.0.0/8 -j MASQUERADE",
        "-s 10.0.0.0/8 -j MASQUERADE --random-fully",
        "",
    ];
    for (place, one) in rules.iter().enumerate() {
        for other in &rules[place + 1..] {
            assert_ne!(rule(one), rule(other), "{one} and {other}");
        }
    }
}

#[test]
fn a_rule_is_printed_as_it_was_read() {
    let text = r#"-s 10.0.0.0/8 -m comment --comment "it's \"ours\"" -j ACCEPT"#;
    assert_eq!(rule(text).to_string(), text);
    let shape = rule(text).shape().expect("it has the form of flannel's");
    assert_eq!(shape.comment.as_deref(), Some("it's \"ours\""));
    assert_eq!(rule(text).target(), Some("ACCEPT"));
}

#[test]
fn an_open_quotation_is_an_error() {
    let text = "-m comment --comment \"flanneld masq -j ACCEPT";
    let error = text.parse::<Rule>().expect_err("it is open");
    assert_eq!(error.text, text);
}

proptest! {
    #[test]
    fn any_text_is_a_rule_or_an_error(text in "[-a-z!\"\\\\ 0-9./]{0,60}") {
        if let Ok(rule) = text.parse::<Rule>() {
            prop_assert_eq!(rule.to_string(), text.clone());
            prop_assert_eq!(text.parse::<Rule>().expect("the same again"), rule);
        }
    }

    #[test]
    fn words_in_quotation_marks_stay_whole(words in proptest::collection::vec("[a-z \"\\\\]{0,8}", 0..6)) {
        let quoted: Vec<String> = words
            .iter()
            .map(|word| format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\"")))
            .collect();
        prop_assert_eq!(super::words(&quoted.join(" ")), Some(words));
    }
}
