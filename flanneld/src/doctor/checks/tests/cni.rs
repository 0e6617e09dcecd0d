//! What new pods need.

use super::*;

#[test]
fn what_pods_need_is_checked_last_and_told_apart() {
    let (check, evidence, command) = cause_after(|facts| {
        let others = conflist("05-cilium.conflist", &["cilium-cni"]);
        facts.cni.conflists.as_mut().unwrap().insert(0, others);
    });
    assert_eq!(check, Check::Conflist);
    assert!(
        evidence.contains("05-cilium.conflist (cilium-cni) before 10-flannel.conflist"),
        "{evidence}"
    );
    assert_eq!(
        command,
        "mv /etc/cni/net.d/05-cilium.conflist /etc/cni/net.d/05-cilium.conflist.disabled"
    );
    let (check, _, command) = cause_after(|facts| {
        facts.cni.programs[0].state = ProgramState::Missing;
        facts.cni.programs_in = PathBuf::from("/usr/lib/cni");
    });
    assert_eq!(
        (check, command.as_str()),
        (
            Check::CniPrograms,
            "flanneld install-cni --cni-bin-dir=/usr/lib/cni"
        )
    );
}
