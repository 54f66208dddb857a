//! Which headers pass through a proxy, and which end here.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Headers that concern one connection only (RFC 9110, 7.6.1), whether or not `Connection` names them.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Headers that carry a client's key. They are never forwarded.
pub const CREDENTIALS: [HeaderName; 3] = [
    header::AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
];

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

/// Removes what concerns one connection only: the well-known names and all that `Connection` names.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
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
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Turns a client's request headers into those for the upstream: without hop-by-hop headers, credentials,
/// `Expect` (answered here), framing (set by the new connection) and Weir's own headers.
pub fn for_upstream(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    for name in CREDENTIALS.iter().chain(&[
        header::HOST,
        header::CONTENT_LENGTH,
        header::EXPECT,
        header::TRAILER,
        TAGS,
    ]) {
        headers.remove(name);
    }
}

/// Turns an upstream's response headers into those for the client. The length is kept: bodies pass unchanged
/// unless the caller says otherwise. A length beside a transfer coding is not the body's (RFC 9112, 6.3).
pub fn for_client(headers: &mut HeaderMap) {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    remove_hop_by_hop(headers);
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
        remove_hop_by_hop(&mut map);
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
