//! `http`: responses that say something went wrong.
//!
//! The status is written over as the response passes by, on its way out of a server that is a target or on its way in to such a
//! client. Filters are the target's view, as those of packets are; `path` is what the request asked for.

use super::call::Glob;
use super::model::Op;
use super::registry::{Family, FaultKind, Property};

/// The row.
pub(super) const KIND: FaultKind = FaultKind {
    stem: "http",
    family: Some(Family::Net),
    ops: &[Op::Http],
    has: &[
        Property::Response,
        Property::Url,
        Property::RemoteEnd,
        Property::LocalPort,
        Property::LocalAddress,
        Property::Interface,
    ],
    filters: &[],
    summary: "responses by HTTP/1 in clear, to the target or from it, get another status",
    metric: "HTTP responses",
    examples: &[
        "http:status=503:path=/api/*:p=20%",
        "http:status=429:port=8080:over=10/s",
        "http:status=500:sport=80:dst=10.0.0.0/8",
    ],
};

/// What the key of every path begins with that a pattern accepts, see [`chaos_common::url`].
///
/// # Errors
///
/// What is allowed.
pub(crate) fn path_key(glob: &Glob) -> Result<Vec<u8>, &'static str> {
    let text = glob.as_str();
    let (begins, rest) = match text.strip_suffix('*') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if rest.contains(['*', '?', '[']) {
        return Err(
            "a request's path is `/health`, or a beginning: one `*`, at the end; `/api/*` is everything below, and what follows a `?` is not looked at",
        );
    }
    if !rest.starts_with('/') && !rest.is_empty() {
        return Err("a request's path begins with `/`");
    }
    if !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a request's path is given as it is on the wire: `%20` in place of a space");
    }
    let mut key = rest.as_bytes().to_vec();
    if !begins {
        key.push(0);
    }
    match key.len() > chaos_common::url::COMPARED {
        true => Err("128 bytes of a request's path are compared, its end among them"),
        false => Ok(key),
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::Fault;
    use super::*;

    fn key(text: &str) -> Result<Vec<u8>, &'static str> {
        path_key(&Glob::new(text).unwrap())
    }

    #[test]
    fn a_path_or_what_it_begins_with() {
        assert_eq!(key("/health"), Ok(b"/health\0".to_vec()));
        assert_eq!(key("/api/*"), Ok(b"/api/".to_vec()));
        assert_eq!(key("/api*"), Ok(b"/api".to_vec()));
        assert_eq!(key("*"), Ok(Vec::new()));
        let long = |length: usize| format!("/{}", "x".repeat(length - 1));
        assert_eq!(key(&long(127)).map(|key| key.len()), Ok(128));
        assert_eq!(key(&(long(128) + "*")).map(|key| key.len()), Ok(128));
        assert!(key(&long(128)).is_err());
    }

    #[test]
    fn other_patterns_are_refused() {
        for text in ["/a/*/b", "/a/**", "/a?", "/[ab]", "*.png", "/a b", "/ä"] {
            assert!(key(text).is_err(), "{text}");
            let fault = format!("http:status=500:path={text}").replace('[', "\\[");
            assert!(fault.parse::<Fault>().is_err(), "{fault}");
        }
    }
}
