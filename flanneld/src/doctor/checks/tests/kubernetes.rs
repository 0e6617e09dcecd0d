//! What Kubernetes says of the Nodes.

use super::*;
use crate::status::report::Report;

/// A node whose daemon says this of its peer and of entries that are no leases.
fn told(peer: &str, unreadable: &str) -> (Check, Verdict, String) {
    finding_of(&node(peer, unreadable))
}

fn node(peer: &str, unreadable: &str) -> Facts {
    let report = format!(
        r#"{{"apiVersion":"loden.status/v1","at":"2026-11-21T12:00:00Z","daemon":{{"state":"running","ready":true}},
            "node":{{"subnets":["10.244.1.0/24"],"store":{{"kind":"kubernetes","endpoints":[],"healthy":true}},
                "lease":{{"origin":"the Node's podCIDR","since":"2026-11-21T12:00:00Z"}}}},
            "network":{{"networks":["10.244.0.0/16"],"backend":"vxlan"}},
            "peers":[{{"subnets":["10.244.2.0/24"],"public":["192.0.2.12"],"macs":["02:00:00:00:00:12"],"kernel":"right"{peer}}}],
            "unreadable":[{unreadable}],"pods":[],"addresses":[],"repairs":[],"contested":[],"problems":[],"unseen":[]}}"#
    );
    let report: Report = serde_json::from_str(&report).unwrap();
    let mut facts = well();
    facts.daemon = Ok(report);
    facts
}

fn finding_of(facts: &Facts) -> (Check, Verdict, String) {
    let findings = all(facts);
    let check = cause(&findings).map_or(Check::Kubernetes, |cause| cause.check);
    let finding = findings
        .iter()
        .find(|finding| finding.check == Check::Kubernetes);
    let finding = finding.unwrap_or_else(|| panic!("{findings:#?}"));
    (check, finding.verdict, finding.evidence[0].clone())
}

fn entry(used: &str) -> String {
    format!(r#"{{"entry":"Node x","subnets":["10.244.3.0/24"],"used":"{used}","reason":"no MAC"}}"#)
}

#[test]
fn nodes_that_are_as_they_should_be_are_well() {
    let (_, verdict, evidence) = told("", "");
    assert_eq!(verdict, Verdict::Ok, "{evidence}");
}

#[test]
fn what_cannot_be_used_of_a_node_is_told_by_how_much_it_is() {
    for (used, verdict, evidence) in [
        (
            "nothing",
            Verdict::Fail,
            "nothing is sent to Node x: no MAC",
        ),
        ("inPart", Verdict::Warn, "used in part: Node x: no MAC"),
        (
            "former",
            Verdict::Warn,
            "used in part: Node x: no MAC (what it said before is used)",
        ),
        (
            "notOurs",
            Verdict::Warn,
            "Node x has a podCIDR and is not in this network: no MAC",
        ),
    ] {
        let expected = (Check::Kubernetes, verdict, evidence.to_owned());
        assert_eq!(told("", &entry(used)), expected);
    }
    // The worst first.
    let both = format!("{},{}", entry("notOurs"), entry("nothing"));
    assert_eq!(told("", &both).1, Verdict::Fail);
}

#[test]
fn a_podcidr_outside_is_told_of_nodes_without_a_lease_too() {
    let entry = entry("nothing").replace("10.244.3.0", "198.18.3.0");
    let (_, verdict, evidence) = told("", &entry);
    assert_eq!(verdict, Verdict::Fail);
    assert_eq!(
        evidence,
        "podCIDR 198.18.3.0/24 lies outside Network 10.244.0.0/16"
    );
}

#[test]
fn annotations_are_compared_with_what_the_kernel_holds() {
    let mut facts = node("", "");
    facts.tunnels[0].fdb[0].destination = "192.0.2.99".parse().unwrap();
    let expected = "flannel.1 sends to 192.0.2.99 for 10.244.2.0, the annotations say 192.0.2.12";
    assert_eq!(
        finding_of(&facts),
        (Check::Kubernetes, Verdict::Fail, expected.to_owned())
    );
    let mut facts = node("", "");
    facts.tunnels[0].neighbours[0].mac = Some("02:00:00:00:00:99".parse().unwrap());
    let expected = "flannel.1 has the MAC 02:00:00:00:00:99 for 10.244.2.0, the annotations say 02:00:00:00:00:12";
    assert_eq!(
        finding_of(&facts),
        (Check::Kubernetes, Verdict::Fail, expected.to_owned())
    );
    // What is missing is for the next checks to say.
    let mut facts = node("", "");
    facts.tunnels[0].fdb.clear();
    assert_eq!(finding_of(&facts).1, Verdict::Ok);
}

#[test]
fn leases_in_each_others_way_are_left_to_their_check() {
    let clash = r#","leftOut":[{"subnet":"10.244.2.0/24","code":"claimsPeers"}]"#;
    let (.., evidence) = told(clash, "");
    assert!(evidence.starts_with("the podCIDRs"), "{evidence}");
}

#[test]
fn of_two_nodes_with_one_podcidr_the_later_is_to_go() {
    let entry = r#"{"entry":"Node x","subnets":["10.244.2.0/24"],"used":"duplicate","later":"Node y","reason":"it has 10.244.2.0/24, as has Node y"}"#;
    let findings = all(&node("", entry));
    let cause = cause(&findings).unwrap();
    assert_eq!(
        (cause.check, cause.verdict),
        (Check::Duplicates, Verdict::Fail)
    );
    assert_eq!(
        cause.evidence,
        ["Node x is left out: it has 10.244.2.0/24, as has Node y"]
    );
    let remedy = cause.remedy.as_ref().unwrap();
    assert_eq!(remedy.commands[0].run, "kubectl delete node y");
}
