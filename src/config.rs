//! One TOML file to domain types: every mistake at once, each with file, line, column and key.
//!
//! Downstream code never asks whether a setting is there or sensible: what reaches a [`Config`] is.

pub mod accounts;
pub mod admin;
mod built_in;
pub mod environment;
pub mod errors;
mod limits;
pub mod metrics;
#[cfg(test)]
mod mistakes;
mod names;
pub mod plans;
pub mod prices;
pub mod quota;
mod reader;
pub mod route;
mod secrets;
pub mod server;
pub mod spoken;
mod startup;
pub mod store;
pub mod units;
pub mod upstream;
mod value;
pub mod watch;
pub mod webhooks;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use accounts::FileKey;
pub use admin::Admin;
pub use environment::{Environment, FixedEnvironment, ProcessEnvironment};
pub use errors::{ConfigError, ConfigErrors, Position};
pub use metrics::{AlsoNamed, Log, LogFormat, Metrics};
pub use plans::{Currency, ExchangeRate};
pub use prices::Unpriced;
pub use quota::{Quota, QuotaBackend, QuotaFailure, Redis, RedisTopology, ReservationMode};
pub use route::{Route, RouteTarget};
pub use server::{Server, Tls};
pub use startup::Startup;
pub use store::{Fsync, Store, StoreUrl};
pub use upstream::{BaseUrl, Scheme, ServiceTier, Timeouts, Upstream};
pub use webhooks::{Webhook, WebhookEvent};

use accounts::{Accounts, Known};
use names::Names;
use reader::{Document, Table};

use crate::plan::{Account, ModelPattern, Plan};
use crate::price::PriceTable;

/// Everything that an operator can set, checked and resolved.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data path's listener and its bounds.
    pub server: Server,
    /// The admin listener.
    pub admin: Admin,
    /// Where the ledger is kept.
    pub store: Store,
    /// Where quota counters are kept.
    pub quota: Quota,
    /// The APIs that requests are forwarded to.
    pub upstreams: Vec<Upstream>,
    /// Which models go where; the first match wins.
    pub routes: Vec<Route>,
    /// All price files together.
    pub prices: Arc<PriceTable>,
    /// What a model without a price gets.
    pub unpriced: Unpriced,
    /// The plans.
    pub plans: Vec<Plan>,
    /// The accounts of the file; others live in the store.
    pub accounts: Vec<Account>,
    /// The keys of the file's accounts; others live in the store.
    pub keys: Vec<FileKey>,
    /// What is exported beside Weir's own metric names.
    pub metrics: Metrics,
    /// How the gateway logs.
    pub log: Log,
    /// Who is told about warnings.
    pub webhooks: Vec<Webhook>,
    /// Exchange rates of the currencies that plans are priced in.
    pub currencies: Vec<Currency>,
    /// Every file that was read: the configuration itself, price tables, secrets, certificates. A change in one of them
    /// is a change of the configuration.
    pub files: Vec<PathBuf>,
}

/// Reads a configuration file, with what it names: price files, secrets, certificates.
///
/// Without a path it is [`DEFAULT_PATH`], and where that does not exist the built-in default.
///
/// # Errors
/// Every mistake in every file.
pub fn load(path: Option<&Path>) -> Result<Config, ConfigErrors> {
    let environment = &ProcessEnvironment;
    match path {
        Some(path) => read(path, environment),
        None if Path::new(DEFAULT_PATH).exists() => read(Path::new(DEFAULT_PATH), environment),
        None => {
            let text = built_in::text(environment);
            parse(text.as_bytes(), built_in::NAME, environment)
        }
    }
}

/// Where the configuration is looked for when no path is given, relative to the working directory.
pub const DEFAULT_PATH: &str = "config/weir.toml";

fn read(path: &Path, environment: &dyn Environment) -> Result<Config, ConfigErrors> {
    let name = path.to_string_lossy();
    let bytes = environment.read(path).map_err(|error| {
        ConfigErrors::of_file(
            &name,
            format!("cannot be read: {error}, expected a configuration file"),
        )
    })?;
    let mut config = parse(&bytes, &name, environment)?;
    config.files.insert(0, path.to_owned());
    Ok(config)
}

/// Reads a configuration from its bytes. `name` is the file's name in mistakes; what the file names is sought beside it.
///
/// Pure but for `environment`: with a [`FixedEnvironment`] it depends on nothing else.
///
/// # Errors
/// Every mistake, also those of the price files it names.
pub fn parse(
    bytes: &[u8],
    name: &str,
    environment: &dyn Environment,
) -> Result<Config, ConfigErrors> {
    let text = utf8(bytes, name)?;
    let (document, tree) = Document::parse(name, text, environment);
    let (config, price_files) = read_root(Table::root(&document, &tree));
    let own = document.finish();
    let prices = read_prices(price_files, environment);
    match (own, prices) {
        (Ok(files), Ok(prices)) => Ok(Config {
            prices: Arc::new(prices),
            files,
            ..config
        }),
        (Err(mut errors), Err(others)) => {
            errors.extend(others);
            Err(errors)
        }
        (Err(errors), _) | (_, Err(errors)) => Err(errors),
    }
}

/// Every section, and the price files that are named; `None` when it is the shipped table.
fn read_root(root: Table<'_>) -> (Config, Option<Vec<PriceFile>>) {
    let server = Server::read(&root.section("server"));
    let admin = Admin::read(&root.section("admin"), &server.listen);
    let mut currency_names = Names::of("currency", "[[currencies]]");
    let currencies = each(&root, "currencies", |table| {
        Currency::read(table, &mut currency_names)
    });
    let mut upstream_names = Names::of("upstream", "[[upstreams]]");
    let upstreams = each(&root, "upstreams", |table| {
        Upstream::read(table, &mut upstream_names)
    });
    let mut served: Vec<ModelPattern> = Vec::new();
    let routes = each(&root, "routes", |table| {
        Route::read(table, &upstream_names, &upstreams, &mut served)
    });
    let mut plan_names = Names::of("plan", "[[plans]]");
    let plans = each(&root, "plans", |table| {
        plans::plan(table, &mut plan_names, &currency_names, &served)
    });
    let known = Known {
        plans: &plan_names,
        currencies: &currency_names,
        served: &served,
    };
    let accounts = Accounts::read(&root.tables("accounts"), &known);
    let prices = root.section("prices");
    let price_files = prices.get("files").map(|value| prices::files(&value));
    let unpriced = prices.or("unpriced", Unpriced::Allow, |value| {
        value.word(&[("allow", Unpriced::Allow), ("reject", Unpriced::Reject)])
    });
    let config = Config {
        store: Store::read(&root.section("store")),
        quota: Quota::read(&root.section("quota")),
        metrics: Metrics::read(&root.section("metrics")),
        log: Log::read(&root.section("log")),
        webhooks: each(&root, "webhooks", Webhook::read),
        prices: Arc::default(),
        files: Vec::new(),
        server,
        admin,
        upstreams,
        routes,
        unpriced,
        plans,
        accounts: accounts.accounts,
        keys: accounts.keys,
        currencies,
    };
    (config, price_files)
}

/// The tables of an array, each as `read` understands it.
fn each<'d, T>(
    root: &Table<'d>,
    key: &'static str,
    mut read: impl FnMut(&Table<'d>) -> Option<T>,
) -> Vec<T> {
    root.tables(key).iter().filter_map(&mut read).collect()
}

fn read_prices(
    files: Option<Vec<PriceFile>>,
    environment: &dyn Environment,
) -> Result<PriceTable, ConfigErrors> {
    let Some(files) = files else {
        return prices::table(
            &[("config/prices.toml, as shipped", prices::SHIPPED)],
            environment,
        );
    };
    let texts = files
        .iter()
        .map(|(name, bytes)| Ok((name.as_str(), utf8(bytes, name)?)))
        .collect::<Result<Vec<_>, ConfigErrors>>()?;
    prices::table(&texts, environment)
}

fn utf8<'t>(bytes: &'t [u8], name: &str) -> Result<&'t str, ConfigErrors> {
    std::str::from_utf8(bytes).map_err(|error| {
        let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let last_line = good
            .rsplit(|byte| *byte == b'\n')
            .next()
            .unwrap_or_default();
        let mut errors =
            ConfigErrors::of_file(name, "is not UTF-8 here, expected UTF-8 text".to_owned());
        for error in &mut errors.errors {
            error.position = Some(Position {
                line: memchr::memchr_iter(b'\n', good).count() + 1,
                column: String::from_utf8_lossy(last_line).chars().count() + 1,
            });
        }
        errors
    })
}

/// A price file's name and contents.
type PriceFile = (String, Vec<u8>);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ModelName;
    use crate::money::Money;
    use crate::plan::{Action, Amount, Measure, OverageCharge, Window};
    use crate::secret::SecretSha256;
    use jiff::civil::date;
    use std::time::Duration;

    pub(super) fn environment() -> FixedEnvironment {
        let names = [
            "WEIR_ADMIN_TOKEN",
            "WEIR_OPERATOR_TOKEN",
            "WEIR_VIEWER_TOKEN",
            "WEIR_PEPPER",
            "WEIR_WEBHOOK_SECRET",
            "OPENAI_API_KEY",
            "ANTHROPIC_API_KEY",
            "AZURE_OPENAI_API_KEY",
            "ACME_KEY",
        ];
        let certificate = "-----BEGIN CERTIFICATE-----\n";
        names
            .iter()
            .fold(FixedEnvironment::default(), |environment, name| {
                environment.with_variable(name, &format!("value-of-{name}"))
            })
            .with_file("etc/prices.toml", prices::SHIPPED)
            .with_file("etc/tls/cert.pem", certificate)
            .with_file("etc/tls/private-ca.pem", certificate)
            .with_file("etc/tls/key.pem", "-----BEGIN PRIVATE KEY-----\n")
    }

    fn from(text: &str) -> Config {
        parse(text.as_bytes(), "etc/weir.toml", &environment()).unwrap()
    }

    #[test]
    fn the_example_of_the_users_page_loads() {
        let config = from(EXAMPLE);
        assert_eq!(config.server.listen, ["127.0.0.1:8080".parse().unwrap()]);
        assert_eq!(config.store.url, StoreUrl::Sqlite("weir.db".into()));
        assert_eq!(config.store.journal, PathBuf::from("weir.journal"));
        assert_eq!(config.quota.backend, QuotaBackend::Memory);
        let upstream = &config.upstreams[0];
        assert_eq!(upstream.base_url.scheme, Scheme::Https);
        assert_eq!(upstream.base_url.authority, "api.openai.com");
        assert_eq!(&*upstream.base_url.path, "/v1");
        assert_eq!(
            upstream.api_key.as_ref().unwrap().expose(),
            "value-of-OPENAI_API_KEY"
        );
        let plan = &config.plans[0];
        assert_eq!(plan.price, Money::from_usd(200));
        assert_eq!(plan.limits[0].on, Measure::Cost);
        assert_eq!(plan.limits[0].max, Amount::Money(Money::from_usd(150)));
        assert_eq!(plan.limits[0].per, Some(Window::Period));
        assert_eq!(plan.limits[0].then, Action::Block);
        assert_eq!(plan.limits[0].warn_at_ppm, [800_000, 950_000]);
        assert_eq!(config.accounts[0].since, date(2025, 3, 1));
        assert_eq!(
            config.keys[0].sha256,
            SecretSha256::of(b"value-of-ACME_KEY")
        );
        assert_eq!(config.files, [PathBuf::from("etc/prices.toml")]);
        assert!(config.prices.model("gpt-4o").is_some());
    }

    #[test]
    fn an_empty_file_is_a_working_configuration_with_the_shipped_prices() {
        let config = from("");
        assert_eq!(config.admin.listen, ["127.0.0.1:8081".parse().unwrap()]);
        assert_eq!(config.server.request_bytes_max, 32 * 1024 * 1024);
        assert_eq!(
            config.store.fsync,
            Fsync::Interval(Duration::from_millis(50))
        );
        assert!(config.prices.models().count() >= 200);
    }

    #[test]
    fn the_built_in_default_has_the_upstreams_whose_keys_are_set() {
        let without = built_in::text(&FixedEnvironment::default());
        assert!(from(&without).upstreams.is_empty());
        let with = from(&built_in::text(&environment()));
        let ids: Vec<&str> = with.upstreams.iter().map(|up| up.id.as_str()).collect();
        assert_eq!(ids, ["openai", "anthropic"]);
        assert_eq!(with.routes.len(), 2);
    }

    #[test]
    fn the_commented_file_loads_as_it_is_and_with_every_comment_taken_away() {
        let shipped = include_str!("../config/weir.toml");
        let bare = FixedEnvironment::default().with_file("config/prices.toml", prices::SHIPPED);
        parse(shipped.as_bytes(), "config/weir.toml", &bare).unwrap();

        let everything: String = shipped
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(setting) if !setting.starts_with(' ') => format!("{setting}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let config = from(&everything);
        assert_eq!(config.upstreams.len(), 4);
        assert_eq!(config.accounts[1].parent, Some("acme".into()));
        assert_eq!(
            config.server.request_bytes_max,
            from(shipped).server.request_bytes_max
        );
        let overage = config.plans[0].overage.unwrap();
        assert_eq!(overage.charge, OverageCharge::MarkupPpm(1_200_000));
        assert_eq!(config.plans[0].payment_fee.ppm, 29_000);
        let euro = &config.currencies[0];
        assert_eq!(
            euro.usd_on(date(2025, 6, 30)),
            Some(Money::parse("1.04").unwrap())
        );
        assert_eq!(
            euro.usd_on(date(2025, 7, 1)),
            Some(Money::parse("1.17").unwrap())
        );
    }

    #[test]
    fn upstreams_of_equal_priority_form_a_group_and_the_others_follow_in_order() {
        let config = from(
            r#"
            upstreams = [
                { id = "last", base_url = "http://a" },
                { id = "heavy", base_url = "http://b", priority = 1, weight = 3 },
                { id = "light", base_url = "http://c", priority = 1 },
                { id = "first", base_url = "http://d" },
            ]
            [[routes]]
            models = ["*"]
            upstreams = ["last", "heavy", "light", { id = "first", priority = 0, weight = 7 }]
            rename = { "gpt-4.5-preview" = "gpt-4.1" }
            endpoints = ["chat.completions"]
            "#,
        );
        let route = &config.routes[0];
        let groups: Vec<Vec<(&str, u32)>> = route
            .groups
            .iter()
            .map(|group| {
                group
                    .iter()
                    .map(|t| (t.upstream.as_str(), t.weight))
                    .collect()
            })
            .collect();
        assert_eq!(
            groups,
            [
                vec![("first", 7)],
                vec![("heavy", 3), ("light", 1)],
                vec![("last", 1)]
            ]
        );
        let renamed = route.rename.get("gpt-4.5-preview");
        assert_eq!(renamed, Some(&ModelName::new("gpt-4.1")));
        let endpoint = |path| crate::dialect::Endpoint::of_path(path).unwrap();
        assert!(route.matches("any", &endpoint("/v1/chat/completions")));
        assert!(!route.matches("any", &endpoint("/v1/embeddings")));
    }

    #[test]
    fn secrets_are_in_no_debug_output() {
        let config = from(
            r#"
            [store]
            url = "postgres://weir:hunter2@db/weir"
            [quota]
            urls = ["rediss://:hunter2@one", "rediss://:hunter2@two"]
            sentinel_master = "main"
            [[upstreams]]
            id = "a"
            base_url = "http://a/v1"
            headers = { x-key = "hunter2" }
            [[webhooks]]
            url = "https://hooks.example.com/hunter2"
            "#,
        );
        let shown = format!("{:?}", config);
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("Sentinel { master: \"main\" }"), "{shown}");
    }

    /// The example of the user's page, as it stands there.
    pub(super) const EXAMPLE: &str = r#"
[server]
listen = "127.0.0.1:8080"
[admin]
listen = "127.0.0.1:8081"
token = { env = "WEIR_ADMIN_TOKEN" }
[store]
url = "sqlite:weir.db"
[quota]
url = "memory:"
[[upstreams]]
id = "openai"
base_url = "https://api.openai.com/v1"
api_key = { env = "OPENAI_API_KEY" }
[[routes]]
models = ["gpt-*", "o1*", "o3*", "o4*", "text-embedding-*"]
upstreams = ["openai"]
[prices]
files = ["prices.toml"]
unpriced = "allow"
[[plans]]
id = "pro"
price = "200.00"
period = "month"
[[plans.limits]]
on = "cost"
max = "150.00"
per = "period"
models = ["*"]
then = "block"
warn_at = [0.8, 0.95]
[[accounts]]
id = "acme"
plan = "pro"
since = 2025-03-01
keys = [{ id = "acme-app", secret = { env = "ACME_KEY" } }]
"#;
}
