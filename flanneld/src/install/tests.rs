use std::fs;
use std::path::Path;

use clap::Parser;
use serde_json::Value;

use super::*;

const OURS: &str = r#"{
  "name": "cbr0",
  "cniVersion": "1.0.0",
  "plugins": [{ "type": "flannel" }, { "type": "portmap" }]
}
"#;

/// A node with nothing on it, and an image.
struct Node(tempfile::TempDir);

impl Node {
    fn new() -> Self {
        let node = Self(tempfile::tempdir().unwrap());
        node.write("image/flannel", "program 1 (Loden)");
        node.write("image/cni-conf.json", OURS);
        node
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.0.path().join(relative)
    }

    fn write(&self, relative: &str, content: &str) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn read(&self, relative: &str) -> Option<String> {
        fs::read_to_string(self.path(relative)).ok()
    }

    fn arguments(&self) -> Vec<String> {
        let path = |relative| self.path(relative).display().to_string();
        vec![
            "flanneld".to_owned(),
            format!("--cni-bin-dir={}", path("bin")),
            format!("--cni-conf-dir={}", path("net.d")),
        ]
    }

    fn install_with(&self, more: &[&str]) -> (Result<(), InstallError>, Vec<String>) {
        let mut words = self.arguments();
        words.push(format!(
            "--program={}",
            self.path("image/flannel").display()
        ));
        words.push(format!(
            "--conflist={}",
            self.path("image/cni-conf.json").display()
        ));
        words.extend(more.iter().map(|word| (*word).to_owned()));
        let mut told = Vec::new();
        let done = Install::parse_from(words).run(&mut |sentence| told.push(sentence));
        (done, told)
    }

    fn install(&self) -> Vec<String> {
        let (done, told) = self.install_with(&[]);
        done.unwrap();
        told
    }

    fn uninstall(&self) -> Vec<String> {
        let mut told = Vec::new();
        Uninstall::parse_from(self.arguments())
            .run(&mut |sentence| told.push(sentence))
            .unwrap();
        told
    }

    fn files(&self, relative: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(relative)).into_iter().flatten();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

fn has(told: &[String], part: &str) -> bool {
    told.iter().any(|sentence| sentence.contains(part))
}

#[test]
fn an_empty_node_gets_all_that_is_needed() {
    let node = Node::new();
    let told = node.install();
    assert_eq!(node.files("bin"), ["flannel", "loopback", "portmap"]);
    assert_eq!(node.files("net.d"), ["10-flannel.conflist"]);
    assert_eq!(node.read("net.d/10-flannel.conflist").unwrap(), OURS);
    for name in ["loopback", "portmap"] {
        assert_eq!(
            node.read(&format!("bin/{name}")),
            node.read("image/flannel")
        );
    }
    assert!(
        has(&told, "bin/portmap is installed, the same program"),
        "{told:?}"
    );
    assert!(!has(&told, "warning"), "{told:?}");
    let again = node.install();
    assert!(
        has(&again, "flannel is up to date") && has(&again, "conflist is up to date"),
        "{again:?}"
    );
}

#[test]
fn plugins_of_others_stay_and_ours_are_brought_up_to_date() {
    let node = Node::new();
    node.write("bin/loopback", "somebody's loopback");
    node.write("bin/portmap", "somebody's portmap");
    node.write("bin/flannel", "flannel's own program");
    node.write("bin/bridge", "program 0 (Loden)");
    let told = node.install();
    assert!(!has(&told, "warning"), "{told:?}");
    assert_eq!(node.read("bin/loopback").unwrap(), "somebody's loopback");
    assert_eq!(node.read("bin/portmap").unwrap(), "somebody's portmap");
    assert_eq!(node.read("bin/flannel").unwrap(), "program 1 (Loden)");
    assert_eq!(node.read("bin/bridge").unwrap(), "program 1 (Loden)");
}

#[test]
fn a_program_that_runs_is_replaced() {
    let node = Node::new();
    fs::create_dir_all(node.path("bin")).unwrap();
    let target = node.path("bin/flannel");
    fs::copy("/bin/sleep", &target).unwrap();
    let mut running = std::process::Command::new(&target)
        .arg("60")
        .spawn()
        .unwrap();
    let (done, _) = node.install_with(&[]);
    let alive = running.try_wait().unwrap().is_none();
    running.kill().unwrap();
    running.wait().unwrap();
    done.unwrap();
    assert!(alive);
    assert_eq!(node.read("bin/flannel").unwrap(), "program 1 (Loden)");
}

#[test]
fn what_others_appended_to_the_conflist_stays() {
    let node = Node::new();
    node.write(
        "net.d/10-flannel.conflist",
        r#"{"name": "old", "plugins": [{"type": "flannel", "old": true}, {"type": "istio-cni", "log": 1}]}"#,
    );
    let told = node.install();
    assert!(has(&told, "istio-cni"), "{told:?}");
    let list: Value =
        serde_json::from_str(&node.read("net.d/10-flannel.conflist").unwrap()).unwrap();
    assert_eq!(list["name"], "cbr0");
    assert_eq!(
        list["plugins"],
        serde_json::json!([{"type": "flannel"}, {"type": "portmap"}, {"type": "istio-cni", "log": 1}])
    );
    let again = node.install();
    assert!(has(&again, "conflist is up to date"), "{again:?}");
}

#[test]
fn a_conflist_of_somebody_else_is_not_replaced_and_a_broken_one_is() {
    let node = Node::new();
    node.write(
        "net.d/10-flannel.conflist",
        r#"{"name": "calico", "plugins": [{"type": "calico"}]}"#,
    );
    let (done, _) = node.install_with(&[]);
    assert!(
        matches!(done, Err(InstallError::Occupied { .. })),
        "{done:?}"
    );
    node.write("net.d/10-flannel.conflist", "{\"name\":");
    let told = node.install();
    assert!(has(&told, "is no conflist and is replaced"), "{told:?}");
}

#[test]
fn files_that_runtimes_prefer_are_named() {
    let node = Node::new();
    node.write("net.d/05-cilium.conf", "{}");
    node.write("net.d/.hidden.conf", "{}");
    node.write("net.d/99-late.conf", "{}");
    node.write("net.d/00-notes.txt", "");
    let told = node.install();
    let warnings: Vec<_> = told.iter().filter(|told| told.contains("before")).collect();
    assert_eq!(warnings.len(), 1, "{told:?}");
    assert!(warnings[0].contains("05-cilium.conf"), "{told:?}");
}

#[test]
fn what_is_no_conflist_leaves_the_node_as_it_was() {
    for source in [
        "",
        "[]",
        "{}",
        r#"{"name": "cbr0"}"#,
        r#"{"name": "cbr0", "plugins": []}"#,
        r#"{"name": "cbr0", "plugins": [{"type": "bridge"}]}"#,
    ] {
        let node = Node::new();
        node.write("image/cni-conf.json", source);
        let (done, _) = node.install_with(&[]);
        assert!(
            matches!(done, Err(InstallError::Source { .. })),
            "{source}: {done:?}"
        );
        assert!(node.files("bin").is_empty(), "{source}");
    }
}

#[test]
fn only_names_that_runtimes_look_for_are_taken() {
    for name in ["", "x.conf", ".x.conflist", "a/b.conflist", "../x.conflist"] {
        let (done, _) = Node::new().install_with(&[&format!("--conflist-name={name}")]);
        assert!(
            matches!(done, Err(InstallError::Name { .. })),
            "{name}: {done:?}"
        );
    }
}

#[test]
fn the_conflist_can_be_left_to_others() {
    let node = Node::new();
    node.install_with(&["--skip-conflist"]).0.unwrap();
    assert_eq!(node.files("bin"), ["flannel", "loopback"]);
    assert!(node.files("net.d").is_empty());
}

#[test]
fn uninstalling_removes_what_is_ours_and_nothing_else() {
    let node = Node::new();
    node.write("bin/portmap", "somebody's portmap");
    node.write("bin/bridge", "somebody's bridge");
    node.write("net.d/99-late.conflist", "{}");
    node.install();
    let told = node.uninstall();
    assert_eq!(node.files("bin"), ["bridge", "portmap"]);
    assert_eq!(node.files("net.d"), ["99-late.conflist"]);
    assert!(has(&told, "bridge is not ours"), "{told:?}");
    assert!(!has(&node.uninstall(), "removed"));
}

#[test]
fn drafts_of_the_killed_are_removed() {
    let node = Node::new();
    // No process has this number: it is above the kernel's limit.
    node.write("bin/.flannel.4194305.new", "half a pro");
    node.write("net.d/.10-flannel.conflist.4194305.new", "{");
    node.write("bin/.flannel.keep.new", "not a draft");
    node.install();
    assert_eq!(
        node.files("bin"),
        [".flannel.keep.new", "flannel", "loopback", "portmap"]
    );
    assert_eq!(node.files("net.d"), ["10-flannel.conflist"]);
    assert!(Path::new(&node.path("bin/flannel")).exists());
}
