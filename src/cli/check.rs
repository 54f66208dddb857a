//! `weir check`: validates configuration and prices.

use std::collections::HashSet;
use std::path::Path;

use crate::config::{self, Config, ConfigErrors};

/// Loads the configuration as `weir serve` would, and says what is in it.
///
/// # Errors
/// Every mistake.
pub fn run(path: Option<&Path>) -> Result<String, ConfigErrors> {
    config::load(path).map(|config| summary(&config))
}

/// What a good configuration holds, and a line for each thing that is probably not meant.
fn summary(config: &Config) -> String {
    let counts = [
        (config.upstreams.len(), "upstream"),
        (config.routes.len(), "route"),
        (config.prices.models().count(), "priced model"),
        (config.plans.len(), "plan"),
        (config.accounts.len(), "account"),
        (config.keys.len(), "key"),
    ];
    let counts = counts.map(|(count, noun)| counted(count, noun));
    let mut said = format!("the configuration is good: {}\n", counts.join(", "));
    for remark in remarks(config) {
        said += &format!("note: {remark}\n");
    }
    said
}

/// What is no mistake, and yet is probably not meant.
fn remarks(config: &Config) -> Vec<String> {
    let mut remarks = Vec::new();
    let routed: HashSet<&str> = config
        .routes
        .iter()
        .flat_map(|route| route.groups.iter().flatten())
        .map(|target| target.upstream.as_str())
        .collect();
    for upstream in &config.upstreams {
        if !routed.contains(upstream.id.as_str()) {
            remarks.push(format!("no route leads to upstream {}", upstream.id));
        }
    }
    for (index, route) in config.routes.iter().enumerate() {
        let earlier = config.routes.iter().take(index).enumerate();
        let hidden_by = earlier
            .filter(|(_, earlier)| {
                earlier.endpoints.is_none() || earlier.endpoints == route.endpoints
            })
            .find(|(_, earlier)| {
                route.models.iter().all(|wanted| {
                    // A pattern that matches another's text matches at least its plain names: enough for a remark.
                    let wanted = wanted.pattern();
                    earlier.models.iter().any(|taken| taken.matches(&wanted))
                })
            });
        if let Some((first, _)) = hidden_by {
            remarks.push(format!(
                "routes[{index}] is never reached: routes[{first}] takes all its models"
            ));
        }
    }
    remarks
}

fn counted(count: usize, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FixedEnvironment;

    fn config(text: &str) -> Config {
        config::parse(text.as_bytes(), "weir.toml", &FixedEnvironment::default()).unwrap()
    }

    #[test]
    fn a_good_configuration_is_counted() {
        let text = "[prices]\nfiles = []\n[[plans]]\nid = \"team\"\nprice = \"0\"\n";
        assert_eq!(
            summary(&config(text)),
            "the configuration is good: 0 upstreams, 0 routes, 0 priced models, 1 plan, 0 accounts, 0 keys\n"
        );
    }

    #[test]
    fn what_can_never_be_used_is_noted() {
        let text = r#"
            upstreams = [
                { id = "used", base_url = "http://a" },
                { id = "spare", base_url = "http://b" },
            ]
            routes = [
                { models = ["gpt-*"], upstreams = ["used"] },
                { models = ["gpt-4o", "gpt-5*"], upstreams = ["used"] },
            ]
            "#;
        let said = summary(&config(text));
        let notes: Vec<&str> = said.lines().skip(1).collect();
        assert_eq!(
            notes,
            [
                "note: no route leads to upstream spare",
                "note: routes[1] is never reached: routes[0] takes all its models",
            ]
        );
    }
}
