//! VERSION: which versions of the specification this program speaks.

use crate::protocol::SpecVersion;
use crate::protocol::json::{Json, Object};

/// The version document.
///
/// Stdin is not read: runtimes leave it open, closed or empty. So the version told is ours, as with the reference
/// skeleton.
pub fn version() -> Object {
    let supported: Vec<Json> = SpecVersion::ALL
        .iter()
        .map(|version| version.as_str().into())
        .collect();
    let mut object = Object::default();
    object.set("cniVersion", SpecVersion::NEWEST.as_str());
    object.set("supportedVersions", supported);
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        assert_eq!(
            serde_json::to_string(&version()).unwrap(),
            r#"{"cniVersion":"1.1.0","supportedVersions":["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}"#
        );
    }
}
