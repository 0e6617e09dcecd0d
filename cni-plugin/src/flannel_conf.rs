//! The config of a plugin of type `flannel`: from it and `subnet.env` the config of the plugin that does the work.
//!
//! That plugin's config is built key by key as flannel's own program builds it, so that whatever users put into
//! `delegate` and `ipam` keeps its meaning, and so that what we record can be read by flannel. `delegate.type`
//! chooses the attachment: `bridge` (the default, as with flannel) or `ptp`, which is our routed attachment.

use std::path::{Path, PathBuf};

use ipam::SubnetEnv;
use ipnetwork::IpNetwork;

use crate::protocol::json::{Json, Object, Section};
use crate::protocol::{Config, Error};

/// The members that only this type of plugin has.
#[derive(Clone, Debug, PartialEq)]
pub struct FlannelConf<'a> {
    /// `subnetFile`: where the daemon tells what this host has.
    pub subnet_file: PathBuf,
    delegate: Option<Section<'a>>,
    ipam: Option<Section<'a>>,
    config: &'a Config,
}

impl<'a> FlannelConf<'a> {
    /// Reads the members of `config`.
    ///
    /// # Errors
    ///
    /// [`Error::WrongType`], and [`Error::InvalidConfig`] for members of `delegate` that are ours to fill in.
    pub fn parse(config: &'a Config) -> Result<Self, Error> {
        let root = config.root();
        let subnet_file = root
            .string("subnetFile")?
            .filter(|path| !path.is_empty())
            .map_or_else(|| ipam::subnet_env::DEFAULT_PATH.into(), PathBuf::from);
        let delegate = root.section("delegate")?;
        if let Some(delegate) = &delegate {
            delegate.string("type")?;
            for (key, instead) in [
                ("name", "the network is named by the list"),
                ("ipam", "write it beside `delegate`, not inside"),
            ] {
                if delegate.has(key) {
                    return Err(Error::InvalidConfig {
                        key: delegate.path_of(key),
                        value: "(set)".to_owned(),
                        reason: format!("it must not be set: {instead}"),
                    });
                }
            }
        }
        Ok(Self {
            subnet_file,
            delegate,
            ipam: root.section("ipam")?,
            config,
        })
    }

    /// The config of the plugin that attaches the pod, on a host with these subnets.
    pub fn delegate(&self, env: &SubnetEnv) -> Object {
        let mut object = self
            .delegate
            .as_ref()
            .map(|section| section.object().clone())
            .unwrap_or_default();
        object.set_default("type", "bridge");
        object.set_default("ipMasq", !env.ip_masq);
        object.set_default("mtu", env.mtu);
        match object.member("type") {
            Some(Json::String(kind)) if kind == "bridge" => object.set_default("isGateway", true),
            // A pod on a link of its own has no other way out. The reference plugin passes the key over.
            Some(Json::String(kind)) if kind == "ptp" => {
                object.set_default("isDefaultGateway", true);
            }
            _ => {}
        }
        object.set("name", self.config.name.as_str());
        object.set("cniVersion", self.config.version.as_str());
        for key in ["runtimeConfig", "args"] {
            if let Some(value) = self.config.object.member(key) {
                object.set(key, value.clone());
            }
        }
        // A well-known member of every config (specification, section 1), which flannel's program forgets.
        if let Some(dns) = self.config.object.member("dns") {
            object.set_default("dns", dns.clone());
        }
        object.set("ipam", self.ipam_of(env));
        object
    }

    fn ipam_of(&self, env: &SubnetEnv) -> Object {
        let mut object = self
            .ipam
            .as_ref()
            .map(|section| section.object().clone())
            .unwrap_or_default();
        object.set_default("type", "host-local");

        let subnets = env.subnets();
        let ranges: Vec<Json> = subnets.each::<IpNetwork>().map(range_set).collect();
        object.set("ranges", ranges);

        let mut routes = match object.member("routes") {
            Some(Json::Array(given)) => given.clone(),
            _ => Vec::new(),
        };
        routes.extend(networks(env).map(|network| member("dst", network.to_string())));
        object.set("routes", routes);
        object
    }
}

/// One range set of one range.
fn range_set(subnet: IpNetwork) -> Json {
    vec![member("subnet", subnet.to_string())].into()
}

fn member(key: &str, value: String) -> Json {
    let mut object = Object::default();
    object.set(key, value);
    object.into()
}

/// All networks of pods, of every host.
pub fn networks(env: &SubnetEnv) -> impl Iterator<Item = IpNetwork> {
    let v4 = env.families.v4.iter().flat_map(|v4| &v4.networks);
    let v6 = env.families.v6.iter().flat_map(|v6| &v6.networks);
    v4.map(|network| (*network).into())
        .chain(v6.map(|network| (*network).into()))
}

/// Reads `subnet.env`.
///
/// # Errors
///
/// [`Error::SubnetFile`], whose code says "try again later": the daemon has not got a subnet yet.
pub fn read_subnet_file(path: &Path) -> Result<SubnetEnv, Error> {
    SubnetEnv::read(path).map_err(|source| Error::SubnetFile {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::Verb;

    const ENV: &str = "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.17.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n";

    fn config(text: &str) -> Config {
        Config::parse(text.as_bytes(), Verb::Add).unwrap()
    }

    fn delegate(conf: &str, env: &str) -> serde_json::Value {
        let config = config(conf);
        let object = FlannelConf::parse(&config)
            .unwrap()
            .delegate(&SubnetEnv::parse(env).unwrap());
        serde_json::to_value(object).unwrap()
    }

    #[test]
    fn the_smallest_config_delegates_as_flannel_does() {
        assert_eq!(
            delegate(
                r#"{"name":"cbr0","type":"flannel","cniVersion":"1.0.0"}"#,
                ENV
            ),
            serde_json::json!({
                "name": "cbr0", "cniVersion": "1.0.0", "type": "bridge",
                "ipMasq": false, "mtu": 1472, "isGateway": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": "10.1.17.0/24"}]],
                    "routes": [{"dst": "10.1.0.0/16"}],
                },
            })
        );
    }

    #[test]
    fn everything_given_is_kept_except_the_ranges() {
        let conf = r#"{"name":"cbr0","cniVersion":"0.3.1","type":"flannel",
            "runtimeConfig":{"mac":"0a:00:00:00:00:01"}, "dns":{"nameservers":["9.9.9.9"]},
            "ipam":{"type":"host-local","dataDir":"/x","subnet":"9.0.0.0/8","ranges":[],"routes":[{"dst":"0.0.0.0/0"}]},
            "delegate":{"MTU":1400,"ipMasq":true,"isGateway":false,"hairpinMode":true,"vlan":3}}"#;
        assert_eq!(
            delegate(conf, ENV),
            serde_json::json!({
                "name": "cbr0", "cniVersion": "0.3.1", "type": "bridge",
                "ipMasq": true, "MTU": 1400, "isGateway": false, "hairpinMode": true, "vlan": 3,
                "runtimeConfig": {"mac": "0a:00:00:00:00:01"}, "dns": {"nameservers": ["9.9.9.9"]},
                "ipam": {
                    "type": "host-local", "dataDir": "/x", "subnet": "9.0.0.0/8",
                    "ranges": [[{"subnet": "10.1.17.0/24"}]],
                    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.1.0.0/16"}],
                },
            })
        );
    }

    #[test]
    fn dual_stack_has_a_range_set_per_family() {
        let env = "FLANNEL_NETWORK=10.1.0.0/16,10.2.0.0/16\nFLANNEL_SUBNET=10.1.17.1/24\n\
            FLANNEL_IPV6_NETWORK=fd00::/48\nFLANNEL_IPV6_SUBNET=fd00:0:0:1::1/64\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n";
        let delegate = delegate(
            r#"{"name":"a","type":"flannel","delegate":{"type":"ptp"}}"#,
            env,
        );
        assert_eq!(delegate["ipMasq"], true);
        assert_eq!(delegate["isGateway"], serde_json::Value::Null);
        assert_eq!(delegate["isDefaultGateway"], true);
        assert_eq!(
            delegate["ipam"]["ranges"],
            serde_json::json!([[{"subnet": "10.1.17.0/24"}], [{"subnet": "fd00:0:0:1::/64"}]])
        );
        assert_eq!(
            delegate["ipam"]["routes"],
            serde_json::json!([{"dst": "10.1.0.0/16"}, {"dst": "10.2.0.0/16"}, {"dst": "fd00::/48"}])
        );
    }

    #[test]
    fn members_that_are_ours_are_refused_inside_the_delegate() {
        for (conf, code) in [
            (r#"{"name":"a","delegate":{"name":"b"}}"#, 7),
            (r#"{"name":"a","delegate":{"ipam":{}}}"#, 7),
            (r#"{"name":"a","delegate":{"type":7}}"#, 6),
            (r#"{"name":"a","delegate":[]}"#, 6),
            (r#"{"name":"a","ipam":"host-local"}"#, 6),
            (r#"{"name":"a","subnetFile":1}"#, 6),
        ] {
            let config = config(conf);
            let error = FlannelConf::parse(&config).unwrap_err();
            assert_eq!(error.code(), code, "{conf}: {error}");
        }
    }

    #[test]
    fn a_missing_subnet_file_means_try_again_later() {
        let error = read_subnet_file(Path::new("/nonexistent/subnet.env")).unwrap_err();
        assert_eq!(error.code(), 11);
        let text = error.to_string();
        assert!(text.contains("flanneld"), "{text}");
        assert!(text.contains("/nonexistent/subnet.env"), "{text}");
    }

    proptest! {
        #[test]
        fn no_subnet_file_panics(text in "(FLANNEL_(NETWORK|SUBNET|MTU|IPMASQ|IPV6_SUBNET)=?[0-9./,a-z:]{0,20}\n){0,6}") {
            let config = config(r#"{"name":"a"}"#);
            let conf = FlannelConf::parse(&config).unwrap();
            if let Ok(env) = SubnetEnv::parse(&text) {
                conf.delegate(&env);
            }
        }
    }
}
