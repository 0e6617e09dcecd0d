//! The service account's token. The kubelet puts another one in its file long before it ends, but a host that slept or was cut off may have to
//! wait for it; so the file is read for each request. There are few: a watch takes minutes, and is all there is in a cluster at rest.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use hyper::Request;
use hyper::header::{AUTHORIZATION, HeaderValue};
use kube::Config;

/// The file that holds it.
#[derive(Clone, Debug)]
pub(super) struct TokenFile {
    path: PathBuf,
    /// What was in it when it could last be read.
    last: Arc<Mutex<HeaderValue>>,
}

impl TokenFile {
    /// Takes it out of the settings of the client, which would read it once a minute.
    ///
    /// # Errors
    /// With a sentence, if there is a file but no token in it.
    pub(super) fn take_over(config: &mut Config) -> Result<Option<Self>, String> {
        let user = &mut config.auth_info;
        // A token that is given itself goes before one in a file.
        let Some(path) = user.token_file.take_if(|_| user.token.is_none()) else {
            return Ok(None);
        };
        let path = PathBuf::from(path);
        let last = Arc::new(Mutex::new(header(&path)?));
        Ok(Some(Self { path, last }))
    }

    /// The request with the token that is in the file now.
    pub(super) fn authorize<B>(&self, mut request: Request<B>) -> Request<B> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(now) = header(&self.path) {
            *last = now;
        }
        request.headers_mut().insert(AUTHORIZATION, last.clone());
        request
    }
}

fn header(path: &Path) -> Result<HeaderValue, String> {
    let shown = path.display();
    let token = fs::read_to_string(path)
        .map_err(|error| format!("the token in {shown} cannot be read: {error}"))?;
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim()))
        .map_err(|_| format!("what is in {shown} is no token"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(token: &TokenFile) -> String {
        let request = token.authorize(Request::new(()));
        let value = &request.headers()[AUTHORIZATION];
        assert!(value.is_sensitive());
        value.to_str().unwrap().to_owned()
    }

    #[test]
    fn each_request_has_the_token_that_is_in_the_file_then() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let mut config = Config::new("http://127.0.0.1:1".parse().unwrap());
        assert!(TokenFile::take_over(&mut config).unwrap().is_none());
        config.auth_info.token_file = Some(path.display().to_string());
        let reason = TokenFile::take_over(&mut config.clone()).unwrap_err();
        assert!(reason.contains("token in"), "{reason}");
        fs::write(&path, "one\n").unwrap();
        let token = TokenFile::take_over(&mut config).unwrap().unwrap();
        assert_eq!(config.auth_info.token_file, None);
        assert_eq!(sent(&token), "Bearer one");
        fs::write(&path, "two").unwrap();
        assert_eq!(sent(&token), "Bearer two");
        fs::remove_file(&path).unwrap();
        assert_eq!(sent(&token), "Bearer two");
    }
}
