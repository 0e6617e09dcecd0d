//! The time that a server says in its answers (RFC 9110, 6.6.1).

use std::time::SystemTime;

use jiff::fmt::rfc2822::DateTimeParser;

/// The time in the value of a field `Date`: the form of RFC 2822 with the zone GMT, in whole seconds.
pub fn parse(value: &str) -> Option<SystemTime> {
    let at = DateTimeParser::new().parse_timestamp(value.trim());
    at.ok().map(SystemTime::from)
}

/// The time in the head of an HTTP/1 answer.
pub fn of_head(head: &[u8]) -> Option<SystemTime> {
    let lines = head.split(|byte| *byte == b'\n');
    // An empty line ends the head.
    let lines = lines.take_while(|line| !line.trim_ascii().is_empty());
    lines
        .filter_map(|line| std::str::from_utf8(line).ok()?.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("date"))
        .and_then(|(_, value)| parse(value))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_date_is_found_in_the_head_alone() {
        // The example of RFC 9110.
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(parse(date), Some(at));
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\ndate:  {date}\r\n\r\n{{}}");
        assert_eq!(of_head(head.as_bytes()), Some(at));
        let body = format!("HTTP/1.1 200 OK\r\n\r\nDate: {date}\r\n");
        assert_eq!(of_head(body.as_bytes()), None);
        assert_eq!(of_head(b"HTTP/1.1 200 OK\r\nDate: soon\r\n\r\n"), None);
    }

    proptest! {
        #[test]
        fn whatever_a_server_says_is_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text: String) {
            let _ = of_head(&bytes);
            let _ = parse(&text);
            let _ = of_head(format!("HTTP/1.1 200\r\nDate: {text}\r\n\r\n").as_bytes());
        }
    }
}
