//! `[[webhooks]]`: who is told about warnings.

use http::Uri;

use crate::secret::Secret;

/// Where events are posted.
#[derive(Clone, Debug, PartialEq)]
pub struct Webhook {
    /// An absolute `http` or `https` URL without user information.
    pub url: Uri,
    /// What events are signed with (HMAC-SHA-256); unsigned without.
    pub secret: Option<Secret>,
    /// The events it wants, none twice, at least one. All.
    pub events: Vec<WebhookEvent>,
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
