//! `resolv.conf(5)`, as far as the result of an ADD has words for it.

use std::fs;
use std::path::Path;

use crate::protocol::Error;
use crate::protocol::result::Dns;

/// Reads a file of the resolver.
///
/// # Errors
///
/// [`Error::ResolvConf`]
pub(super) fn read(path: &Path) -> Result<Dns, Error> {
    let text = fs::read(path).map_err(|source| Error::ResolvConf {
        path: path.to_owned(),
        source,
    })?;
    Ok(parse(&String::from_utf8_lossy(&text)))
}

/// Unknown lines mean nothing, of several domains the last one counts, and everything else adds up.
fn parse(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let keyword = words.next().unwrap_or_default();
        let Some(first) = words.next() else {
            continue;
        };
        let all = [first].into_iter().chain(words).map(str::to_owned);
        match keyword {
            "nameserver" => dns.nameservers.push(first.to_owned()),
            "domain" => dns.domain = Some(first.to_owned()),
            "search" => dns.search.extend(all),
            "options" => dns.options.extend(all),
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keywords_are_read() {
        let text = "# a comment\n; another\n\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 # first word only\n\
            domain example.net\ndomain example.com\nsearch a.example b.example\nsearch c.example\noptions ndots:5 rotate\n";
        let list =
            |words: &[&str]| -> Vec<String> { words.iter().map(|&word| word.into()).collect() };
        assert_eq!(
            parse(text),
            Dns {
                nameservers: list(&["192.0.2.1", "2001:db8::1"]),
                domain: Some("example.com".to_owned()),
                search: list(&["a.example", "b.example", "c.example"]),
                options: list(&["ndots:5", "rotate"]),
            }
        );
    }

    #[test]
    fn lines_that_say_nothing_are_passed_over() {
        for text in [
            "",
            "nameserver",
            "nameserver \n",
            "#nameserver 192.0.2.1",
            "sortlist 192.0.2.0",
        ] {
            assert_eq!(parse(text), Dns::default(), "{text:?}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = read(Path::new("/nonexistent/resolv.conf")).unwrap_err();
        assert_eq!(error.code(), 5);
        assert!(
            error.to_string().contains("/nonexistent/resolv.conf"),
            "{error}"
        );
    }
}
