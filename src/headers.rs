//! Which headers pass through a proxy, and which end here.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Headers that concern one connection only (RFC 9110, 7.6.1), whether or not `Connection` names them.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// What a client's request holds for the gateway alone: its key, which is never forwarded, `Expect` (answered here), framing
/// (set by the new connection) and Weir's own headers.
fn is_for_the_gateway(name: &str) -> bool {
    matches!(
        name,
        "authorization"
            | "x-api-key"
            | "api-key"
            | "host"
            | "content-length"
            | "expect"
            | "trailer"
            | "x-weir-tags"
    )
}

/// What a caller attributes a request to.
pub const TAGS: HeaderName = HeaderName::from_static("x-weir-tags");
/// The ledger's id of the request.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-weir-request-id");
/// The exact cost, where it is known before the head is sent.
pub const COST_USD: HeaderName = HeaderName::from_static("x-weir-cost-usd");
/// What is left of the tightest cost limit.
pub const BUDGET_REMAINING_USD: HeaderName = HeaderName::from_static("x-weir-budget-remaining-usd");
/// The cheaper model that a limit made the gateway use.
pub const DOWNGRADED_TO: HeaderName = HeaderName::from_static("x-weir-downgraded-to");
/// Whether the official SDKs should try again.
pub const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Turns a client's request headers into those for the upstream.
pub fn for_upstream(headers: &mut HeaderMap) {
    remove_what_connection_names(headers);
    remove_all(headers, |name| {
        is_hop_by_hop(name) || is_for_the_gateway(name)
    });
}

fn remove_what_connection_names(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
}

/// Removes every header whose name passes the test: one look at each that is there costs less than asking for each that
/// could be.
pub fn remove_all(headers: &mut HeaderMap, test: impl Fn(&str) -> bool) {
    let found: Vec<HeaderName> = headers
        .keys()
        .filter(|name| test(name.as_str()))
        .cloned()
        .collect();
    for name in found {
        headers.remove(name);
    }
}

/// Turns an upstream's response headers into those for the client. The length is kept: bodies pass unchanged
/// unless the caller says otherwise. A length beside a transfer coding is not the body's (RFC 9112, 6.3).
pub fn for_client(headers: &mut HeaderMap) {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    remove_what_connection_names(headers);
    remove_all(headers, is_hop_by_hop);
}

/// A header's value from a number: always valid.
pub fn number(value: impl Into<u64>) -> HeaderValue {
    HeaderValue::from(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn what_connection_names_ends_here() {
        let mut map = headers(&[
            ("connection", "close, X-Private"),
            ("x-private", "1"),
            ("x-public", "2"),
            ("te", "trailers"),
        ]);
        for_client(&mut map);
        assert_eq!(map.len(), 1);
        assert!(map.contains_key("x-public"));
    }

    #[test]
    fn a_clients_credentials_never_go_upstream() {
        let mut map = headers(&[
            ("authorization", "Bearer secret"),
            ("x-api-key", "secret"),
            ("api-key", "secret"),
            ("anthropic-version", "2023-06-01"),
            ("expect", "100-continue"),
        ]);
        for_upstream(&mut map);
        assert_eq!(
            map.keys().map(HeaderName::as_str).collect::<Vec<_>>(),
            ["anthropic-version"]
        );
    }
}
