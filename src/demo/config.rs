//! The demo's `weir.toml`: an ordinary configuration, so that every other command works on the demo with `-c`.

use std::net::SocketAddr;
use std::path::Path;

use crate::secret::Secret;

/// The limits on requests a day that the history keeps too.
pub(super) const FREE_REQUESTS_A_DAY: u32 = 8;
pub(super) const COPILOT_REQUESTS_A_DAY: u32 = 300;

/// Where everything is.
pub(super) struct Places<'a> {
    pub(super) directory: &'a Path,
    pub(super) listen: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) token: &'a Secret,
    /// The simulated provider.
    pub(super) upstream: SocketAddr,
}

/// The configuration's text. Accounts and keys are not in it: they live in the store, as a shop's own would.
pub(super) fn text(places: &Places<'_>) -> String {
    let store = quoted(&format!(
        "sqlite:{}",
        places.directory.join("weir.db").display()
    ));
    let Places {
        listen,
        admin,
        upstream,
        ..
    } = places;
    let token = quoted(places.token.expose());
    format!(
        r#"# Written by `weir demo`. Accounts and keys are in the store beside it. Change a plan here while the demo runs: the
# gateway takes it up by itself.

[server]
listen = "{listen}"
shutdown_grace = "3s"

[admin]
listen = "{admin}"
token = {token}

[store]
url = {store}

[log]
level = "error"

# Both providers are simulated: nothing leaves this machine.
[[upstreams]]
id = "openai"
base_url = "http://{upstream}/v1"
api_key = "simulated"

[[upstreams]]
id = "anthropic"
dialect = "anthropic"
base_url = "http://{upstream}/v1"
api_key = "simulated"
retries = 1

[[routes]]
models = ["claude-*"]
upstreams = ["anthropic"]

# "house-llama" has no price: it is served, and shown as unpriced wherever costs are shown.
[[routes]]
models = ["gpt-*", "o1*", "o3*", "o4*", "text-embedding-*", "house-llama"]
upstreams = ["openai"]

# What customers pay.

[[plans]]
id = "free"
price = "0"
[[plans.limits]]
on = "requests"
max = {FREE_REQUESTS_A_DAY}
per = "day"

[[plans]]
id = "plus"
price = "20.00"
payment_fee = "2.9% + 0.30"
[[plans.limits]]
on = "requests"
max = 80
per = "3h"
then = {{ downgrade = "gpt-4o-mini" }}

# No limit on what it may cost: that is what loses money. `weir advise` names one.
[[plans]]
id = "pro"
price = "200.00"
payment_fee = "2.9% + 0.30"
fixed_cost = "1.50"
[[plans.limits]]
on = "concurrent"
max = 16

[[plans]]
id = "copilot"
price = "10.00"
payment_fee = "2.9% + 0.30"
[[plans.limits]]
on = "requests"
max = {COPILOT_REQUESTS_A_DAY}
per = "day"

# What the company's own teams may spend in a quarter.

[[plans]]
id = "internal"
price = "0"

[[plans]]
id = "team-large"
price = "0"
[[plans.limits]]
on = "cost"
max = "6000.00"
per = "90d"
warn_at = [0.8, 0.95]

[[plans]]
id = "team-small"
price = "0"
[[plans.limits]]
on = "cost"
max = "1500.00"
per = "90d"
warn_at = [0.8, 0.95]
"#
    )
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, FixedEnvironment};

    #[test]
    fn the_text_is_a_configuration_without_mistakes_wherever_it_lies() {
        let token = Secret::new("t\"oken".into());
        for directory in ["/tmp/demo", "/tmp/a \"quoted\" place\\with all sorts"] {
            let text = text(&Places {
                directory: Path::new(directory),
                listen: "127.0.0.1:8080".parse().unwrap(),
                admin: "127.0.0.1:8081".parse().unwrap(),
                token: &token,
                upstream: "127.0.0.1:9".parse().unwrap(),
            });
            let config = config::parse(text.as_bytes(), "demo", &FixedEnvironment::default())
                .unwrap_or_else(|errors| panic!("{errors}"));
            assert_eq!(config.plans.len(), 7);
        }
    }
}
