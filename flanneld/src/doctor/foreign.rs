//! What other programs write, as far as the doctor reads it: text in, facts out.

use serde_json::Value;

/// The types of the plugins of a conflist, or the one of a configuration for a single plugin.
pub fn plugin_types(text: &[u8]) -> Option<Vec<String>> {
    let conflist: Value = serde_json::from_slice(text).ok()?;
    let kind = |plugin: &Value| Some(plugin.get("type")?.as_str()?.to_owned());
    match conflist.get("plugins").and_then(Value::as_array) {
        Some(plugins) => Some(plugins.iter().filter_map(kind).collect())
            .filter(|types: &Vec<_>| !types.is_empty()),
        None => kind(&conflist).map(|kind| vec![kind]),
    }
}

/// The version in what a program of ours says when it is started without a command.
pub fn version_in(banner: &str) -> Option<String> {
    let line = banner.lines().next()?.strip_suffix(" (Loden)")?;
    line.rsplit(" v").next().map(str::to_owned)
}

/// Whether systemd-networkd manages a link, by its file of it; `ADMIN_STATE` is what `networkctl` shows as SETUP.
pub fn networkd_manages(state: &str) -> bool {
    state.lines().any(|line| {
        line.strip_prefix("ADMIN_STATE=").is_some_and(|state| {
            matches!(
                state,
                "configured" | "configuring" | "pending" | "failed" | "degraded"
            )
        })
    })
}

/// Whether NetworkManager manages a link, by its file of it.
pub fn network_manager_manages(state: &str) -> bool {
    state
        .lines()
        .any(|line| matches!(line.trim(), "managed=1" | "managed=true"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_out_of_the_banner() {
        let banner = "CNI flannel plugin v0.1.0 (Loden)\nCNI protocol versions supported: 1.0.0\n";
        assert_eq!(version_in(banner).as_deref(), Some("0.1.0"));
        assert_eq!(version_in("CNI flannel plugin v1.6.0"), None);
        assert_eq!(version_in(""), None);
    }

    #[test]
    fn a_link_is_managed_as_its_program_says() {
        assert!(networkd_manages(
            "# This is private data.\nADMIN_STATE=configured\nOPER_STATE=routable\n"
        ));
        assert!(!networkd_manages(
            "ADMIN_STATE=unmanaged\nOPER_STATE=routable\n"
        ));
        assert!(!networkd_manages(""));
        assert!(network_manager_manages("[device]\nmanaged=true\n"));
        assert!(network_manager_manages("[device]\nmanaged=1\n"));
        assert!(!network_manager_manages("[device]\nmanaged=false\n"));
    }
}
