//! The demo's `weir.toml`: an ordinary configuration, so that every other command works on the demo with `-c`.

use std::net::SocketAddr;
use std::path::Path;

use crate::secret::Secret;

/// The demo's own plans.
pub(super) const OWN_PLANS: &str = r#"# What customers pay.

[[plans]]
id = "free"
price = "0"
[[plans.limits]]
on = "requests"
max = 8
per = "day"

[[plans]]
id = "plus"
price = "20.00"
payment_fee = "2.9% + 0.30"
[[plans.limits]]
on = "requests"
max = 80
per = "3h"
then = { downgrade = "gpt-4o-mini" }

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
max = 300
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
"#;

/// Where everything is.
pub(super) struct Places<'a> {
    pub(super) directory: &'a Path,
    pub(super) listen: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) token: &'a Secret,
    /// The simulated provider.
    pub(super) upstream: SocketAddr,
}

/// The configuration's text with these plans. Accounts and keys are not in it: they live in the store, as a shop's own would.
pub(super) fn text(places: &Places<'_>, plans: &str) -> String {
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

{plans}"#
    )
}

/// The plans of another configuration file, as text.
///
/// # Errors
/// What is wrong with the file.
pub(super) fn plans_of(text: &str) -> Result<String, String> {
    let mut file: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| error.to_string())?;
    let mut kept = toml::Table::new();
    for key in ["currencies", "plans"] {
        if let Some(value) = file.remove(key) {
            kept.insert(key.to_owned(), value);
        }
    }
    toml::to_string(&kept).map_err(|error| error.to_string())
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// The demo's configuration with these plans, for tests.
#[cfg(test)]
pub(super) fn of_plans(plans: &str) -> crate::config::Config {
    let places = Places {
        directory: Path::new("/tmp/demo"),
        listen: "127.0.0.1:8080".parse().unwrap(),
        admin: "127.0.0.1:8081".parse().unwrap(),
        token: &Secret::new("token".into()),
        upstream: "127.0.0.1:9".parse().unwrap(),
    };
    let environment = crate::config::FixedEnvironment::default();
    crate::config::parse(text(&places, plans).as_bytes(), "demo", &environment)
        .unwrap_or_else(|errors| panic!("{errors}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, FixedEnvironment};

    #[test]
    fn the_plans_of_another_file_are_taken_and_nothing_else_of_it() {
        let text = format!("[admin]\ntoken = \"secret\"\n{OWN_PLANS}").replace("200.00", "345.00");
        let plans = plans_of(&text).unwrap();
        assert!(!plans.contains("secret"), "{plans}");
        let (taken, own) = (of_plans(&plans).plans, of_plans(OWN_PLANS).plans);
        assert_eq!(taken.len(), own.len());
        for (taken, own) in taken.iter().zip(&own) {
            assert_eq!(taken.limits, own.limits);
            let is_pro = own.id.as_str() == "pro";
            assert_eq!(taken.price == own.price, !is_pro, "{}", own.id);
        }
        assert!(plans_of("[[plans").is_err());
    }

    #[test]
    fn the_text_is_a_configuration_without_mistakes_wherever_it_lies() {
        let token = Secret::new("t\"oken".into());
        for directory in ["/tmp/demo", "/tmp/a \"quoted\" place\\with all sorts"] {
            let places = Places {
                directory: Path::new(directory),
                listen: "127.0.0.1:8080".parse().unwrap(),
                admin: "127.0.0.1:8081".parse().unwrap(),
                token: &token,
                upstream: "127.0.0.1:9".parse().unwrap(),
            };
            let text = text(&places, OWN_PLANS);
            let config = config::parse(text.as_bytes(), "demo", &FixedEnvironment::default())
                .unwrap_or_else(|errors| panic!("{errors}"));
            assert_eq!(config.plans.len(), 7);
        }
    }
}
