//! What a runtime writes to our stdin: one plugin object of a network list, with `name` and `cniVersion` filled in.

use super::args::{Verb, is_identifier};
use super::error::Error;
use super::json::{Json, Object, Section};
use super::result::AddResult;
use super::version::SpecVersion;

/// Configs beyond this size are refused: real ones have a few hundred bytes, a long `prevResult` some thousand.
pub const STDIN_MAX: usize = 4 << 20;

/// A network configuration, read as far as every verb needs it.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `cniVersion`
    pub version: SpecVersion,
    /// `name`, of legal form; safe as a file name.
    pub name: String,
    /// `type`; empty when absent.
    pub kind: String,
    /// Everything.
    pub object: Object,
}

impl Config {
    /// Reads the config for `verb`, checking in the reference skeleton's order: JSON, name, version, verb.
    pub fn parse(stdin: &[u8], verb: Verb) -> Result<Self, Error> {
        let object = decode(stdin)?;
        let root = Section::root(&object);

        let name = root.string("name")?.unwrap_or_default().to_owned();
        if !is_identifier(&name) {
            return Err(Error::NetworkName { name });
        }
        let kind = root.string("type")?.unwrap_or_default().to_owned();

        let version: SpecVersion = root
            .string("cniVersion")?
            .unwrap_or_default()
            .parse()
            .map_err(|unknown| Error::UnsupportedVersion { unknown })?;
        let since = SpecVersion::introducing(verb);
        // VERSION never comes here; ADD and DEL are as old as the specification.
        if version < since {
            return Err(Error::VerbTooNew {
                verb,
                version,
                since,
            });
        }
        Ok(Self {
            version,
            name,
            kind,
            object,
        })
    }

    /// The config as a section, for reading its members.
    pub fn root(&self) -> Section<'_> {
        Section::root(&self.object)
    }

    /// `prevResult`, if a plugin stands before us in the chain.
    pub fn previous_result(&self) -> Result<Option<AddResult>, Error> {
        self.root()
            .section("prevResult")?
            .map(|section| AddResult::parse(&section, self.version))
            .transpose()
    }

    /// The version to answer in when the config itself may be broken: its own if it can be told, else ours.
    pub fn answer_version(stdin: &[u8]) -> SpecVersion {
        let Ok(object) = decode(stdin) else {
            return SpecVersion::NEWEST;
        };
        match object.member("cniVersion") {
            Some(Json::String(text)) => text.parse().unwrap_or(SpecVersion::NEWEST),
            _ => SpecVersion::NEWEST,
        }
    }
}

fn decode(stdin: &[u8]) -> Result<Object, Error> {
    if stdin.len() > STDIN_MAX {
        return Err(Error::StdinTooLong);
    }
    if stdin.iter().all(u8::is_ascii_whitespace) {
        return Err(Error::StdinEmpty);
    }
    match Json::parse(stdin) {
        Ok(Json::Object(object)) => Ok(object),
        Ok(_) => Err(Error::Undecodable {
            reason: "it is not a JSON object".to_owned(),
        }),
        Err(reason) => Err(Error::Undecodable {
            reason: reason.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(text: &str) -> Error {
        Config::parse(text.as_bytes(), Verb::Add).expect_err("must be refused")
    }

    #[test]
    fn the_members_every_verb_needs_are_read() {
        let text = br#"{"CNIVersion":"1.0.0","NAME":"cbr0","Type":"flannel","capabilities":{"portMappings":true},"x":[1]}"#;
        let config = Config::parse(text, Verb::Add).unwrap();
        assert_eq!(config.version, SpecVersion::V1_0_0);
        assert_eq!(config.name, "cbr0");
        assert_eq!(config.kind, "flannel");
        assert_eq!(config.previous_result().unwrap(), None);
    }

    #[test]
    fn an_absent_version_is_the_first_one() {
        for version in ["", r#","cniVersion":"""#, r#","cniVersion":null"#] {
            let text = format!(r#"{{"name":"a"{version}}}"#);
            let config = Config::parse(text.as_bytes(), Verb::Add).unwrap();
            assert_eq!(config.version, SpecVersion::V0_1_0);
        }
    }

    #[test]
    fn broken_input_has_code_6() {
        for text in [
            "",
            " \n",
            "{",
            "[]",
            "\"name\"",
            "null",
            "{\"name\":\"a\"} x",
            "\0",
            "{name:1}",
        ] {
            assert_eq!(refusal(text).code(), 6, "{text:?}");
        }
        assert_eq!(refusal(r#"{"name":7}"#).code(), 6);
        assert_eq!(refusal(&" ".repeat(STDIN_MAX + 1)).code(), 6);
    }

    #[test]
    fn an_illegal_name_has_code_7() {
        for name in ["", "-x", "a/b", "..", "a b"] {
            let error = refusal(&format!(r#"{{"name":"{name}","cniVersion":"9.9.9"}}"#));
            assert_eq!(error.code(), 7, "{name}: name comes before version");
        }
        assert_eq!(refusal("{}").code(), 7);
    }

    #[test]
    fn an_unknown_version_has_code_1_and_lists_ours() {
        let error = refusal(r#"{"name":"a","cniVersion":"1.2.0"}"#);
        assert_eq!(error.code(), 1);
        assert!(
            error.details().contains("0.3.1, 0.4.0, 1.0.0, 1.1.0"),
            "{}",
            error.details()
        );
    }

    #[test]
    fn verbs_need_their_version() {
        for (verb, version, fits) in [
            (Verb::Check, "0.3.1", false),
            (Verb::Check, "0.4.0", true),
            (Verb::Gc, "1.0.0", false),
            (Verb::Gc, "1.1.0", true),
            (Verb::Status, "1.0.0", false),
            (Verb::Status, "1.1.0", true),
            (Verb::Del, "0.1.0", true),
        ] {
            let text = format!(r#"{{"name":"a","cniVersion":"{version}"}}"#);
            match Config::parse(text.as_bytes(), verb) {
                Ok(_) => assert!(fits, "{verb} {version}"),
                Err(error) => {
                    assert!(!fits, "{verb} {version}");
                    assert_eq!(error.code(), 1);
                }
            }
        }
    }

    #[test]
    fn errors_answer_in_the_version_of_the_config() {
        assert_eq!(
            Config::answer_version(br#"{"cniVersion":"0.3.1"}"#),
            SpecVersion::V0_3_1
        );
        for text in ["", "{}", r#"{"cniVersion":"7"}"#, r#"{"cniVersion":7}"#] {
            assert_eq!(Config::answer_version(text.as_bytes()), SpecVersion::NEWEST);
        }
    }

    proptest! {
        #[test]
        fn no_stdin_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Config::parse(&bytes, Verb::Add);
            let _ = Config::answer_version(&bytes);
        }

        #[test]
        fn no_member_panics(key in "(name|type|cniVersion|prevResult|ipam)", value in "(\\{\\}|\\[\\]|1|-1|\"x\"|null|true|1e300)") {
            let text = format!(r#"{{"name":"a","cniVersion":"1.0.0","{key}":{value}}}"#);
            if let Ok(config) = Config::parse(text.as_bytes(), Verb::Add) {
                let _ = config.previous_result();
            }
        }
    }
}
