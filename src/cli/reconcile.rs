//! `weir reconcile`: the ledger against a provider's own bill.

use std::path::PathBuf;

use super::margin::{Format, json};
use super::progress::Reading;
use crate::config::Config;
use crate::ids::UpstreamId;
use crate::ledger::store::Store;
use crate::margin::reconcile::bill::{Bill, Kind};
use crate::margin::reconcile::reconcile;
use crate::margin::{self, MarginError};

/// Compares the ledger with a provider's own bill by day and model, and names the likely cause of each difference.
#[derive(Clone, Debug, clap::Args)]
pub struct ReconcileArgs {
    /// OpenAI's costs or usage as JSON, Anthropic's usage or cost report as JSON, or a CSV with a header (date, model,
    /// and cost or input_tokens and output_tokens)
    pub file: PathBuf,
    /// The upstreams that the bill is for [default: those at the provider that wrote it, else all]
    #[arg(long, value_name = "ID")]
    pub upstream: Vec<String>,
    /// How to print it
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
}

/// Runs the command; the text is what goes to standard output.
///
/// # Errors
/// See [`MarginError`].
pub fn run(
    args: &ReconcileArgs,
    config: &Config,
    store: &dyn Store,
) -> Result<String, MarginError> {
    let text = std::fs::read_to_string(&args.file).map_err(|error| MarginError::File {
        path: args.file.clone(),
        error,
    })?;
    let bill = Bill::read(&text).map_err(|error| MarginError::Bill {
        path: args.file.clone(),
        error,
    })?;
    let upstreams = upstreams(args, config, bill.kind)?;
    let bar = Reading::new();
    let show = |done, all| bar.show(done, all);
    let report = reconcile(store, &config.prices, &bill, &upstreams, &show)?;
    drop(bar);
    Ok(match args.format {
        Format::Table => margin::reconciliation_table(&report),
        Format::Json => json(&report)?,
        Format::Csv => margin::reconciliation_csv(&report),
    })
}

fn upstreams(
    args: &ReconcileArgs,
    config: &Config,
    kind: Kind,
) -> Result<Vec<UpstreamId>, MarginError> {
    if !args.upstream.is_empty() {
        let find = |name: &String| {
            config
                .upstreams
                .iter()
                .find(|upstream| upstream.id.as_str() == name)
                .map(|upstream| upstream.id.clone())
                .ok_or_else(|| MarginError::NoSuchUpstream(name.clone()))
        };
        return args.upstream.iter().map(find).collect();
    }
    let host = match kind {
        Kind::OpenaiCosts | Kind::OpenaiUsage => "openai.com",
        Kind::AnthropicCosts | Kind::AnthropicUsage => "anthropic.com",
        Kind::Csv => return Ok(Vec::new()),
    };
    let theirs = config
        .upstreams
        .iter()
        .filter(|upstream| upstream.base_url.authority.as_str().contains(host));
    Ok(theirs.map(|upstream| upstream.id.clone()).collect())
}
