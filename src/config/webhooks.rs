//! `[[webhooks]]`: who is told about warnings.

use std::fmt;

use http::Uri;

use super::reader::Table;
use super::value::Value;
use crate::secret::Secret;

/// Where events are posted.
#[derive(Clone, PartialEq)]
pub struct Webhook {
    /// An absolute `http` or `https` URL without user information.
    pub url: Uri,
    /// What events are signed with (HMAC-SHA-256); unsigned without.
    pub secret: Option<Secret>,
    /// The events it wants, none twice, at least one. All.
    pub events: Vec<WebhookEvent>,
}

/// Without path and query: chat services put their secret there.
impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("host", &self.url.host())
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}

/// What a webhook can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WebhookEvent {
    /// A limit passed one of its `warn_at` shares.
    LimitWarning,
    /// A request was refused for a limit, the first time in its window.
    LimitReached,
    /// A changed configuration was refused.
    ConfigRefused,
}

impl WebhookEvent {
    /// Every event.
    pub const ALL: [WebhookEvent; 3] = [
        WebhookEvent::LimitWarning,
        WebhookEvent::LimitReached,
        WebhookEvent::ConfigRefused,
    ];

    /// The name in configuration and in what is posted.
    pub fn as_str(self) -> &'static str {
        match self {
            WebhookEvent::LimitWarning => "limit_warning",
            WebhookEvent::LimitReached => "limit_reached",
            WebhookEvent::ConfigRefused => "config_refused",
        }
    }
}

impl Webhook {
    pub(super) fn read(table: &Table<'_>) -> Option<Webhook> {
        let url = table.need("url", EXPECTED).and_then(|value| url(&value));
        let secret = table.optional("secret", |value| value.secret());
        let words = WebhookEvent::ALL.map(|event| (event.as_str(), event));
        let events = match table.get("events") {
            None => WebhookEvent::ALL.to_vec(),
            Some(value) => {
                let items = value.items("an array of event names")?;
                if items.is_empty() {
                    value.refuse("is empty, expected at least one event");
                }
                let mut events = Vec::new();
                for event in items.iter().filter_map(|item| item.word(&words)) {
                    if !events.contains(&event) {
                        events.push(event);
                    }
                }
                events
            }
        };
        Some(Webhook {
            url: url?,
            secret,
            events,
        })
    }
}

/// The URL is not shown in mistakes: chat services put their secret in it.
fn url(value: &Value<'_>) -> Option<Uri> {
    let url = value.secret()?;
    let parsed = url.expose().parse::<Uri>().ok().filter(|uri| {
        let http = matches!(uri.scheme_str(), Some("http" | "https"));
        let plain = uri
            .authority()
            .is_some_and(|authority| !authority.as_str().contains('@'));
        http && plain
    });
    if parsed.is_none() {
        value.refuse(format!(
            "is not a URL that can be posted to, expected {EXPECTED}"
        ));
    }
    parsed
}

const EXPECTED: &str = "a URL such as \"https://example.com/hook\", without user and password";
