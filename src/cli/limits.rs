//! `weir limits`: what each limit has used, what is held, when it resets.
//!
//! What was used is read from the store, as a gateway reads it when it starts. What open requests hold only the running
//! gateway knows; it is asked through its admin API, and where it does not answer nothing is held.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use comfy_table::{CellAlignment, Table, presets};
use http::Request;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::account::Format;
use super::{Failure, store};
use crate::config::Config;
use crate::gateway::rebuild;
use crate::ids::AccountId;
use crate::ledger::store::Store;
use crate::limits::{self, LimitState};
use crate::quota::chain::Chains;
use crate::quota::{CounterId, CounterState};
use crate::snapshot;

/// Which limits, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct LimitsArgs {
    /// Only what requests of this account count against: its own limits and its ancestors'
    #[arg(long, value_name = "ID")]
    pub account: Option<String>,
    /// How the list is printed
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Runs the command; the text is what goes to standard output.
///
/// # Errors
/// What to tell the user.
pub fn run(
    args: &LimitsArgs,
    config: &Config,
    store: &dyn Store,
    now: Timestamp,
) -> Result<String, Failure> {
    let pepper = store::pepper(config, store)?;
    let directory = snapshot::directory(config, &store.stored()?, &pepper);
    let account = args.account.as_deref().map(AccountId::from);
    if let Some(account) = &account
        && directory.member(account).is_none()
    {
        return Err(Failure(format!("there is no account {account}")));
    }
    let chains = Chains::compile(&directory);
    let rules = limits::named(&chains, account.as_ref());

    let summed: Vec<_> = rules
        .iter()
        .filter(|(_, rule)| rule.counter.per().is_some())
        .map(|(_, rule)| Arc::clone(rule))
        .collect();
    let mut used: HashMap<Arc<CounterId>, i128> = HashMap::new();
    for past in rebuild::sum(store, &chains, &summed, &rebuild::Apart::default(), now)? {
        *used.entry(Arc::clone(&past.rule.counter)).or_default() += past.units;
    }
    let mut states: Vec<LimitState> = rules
        .iter()
        .map(|(_, rule)| {
            let state = CounterState {
                used: used.get(&rule.counter).copied().unwrap_or(0),
                reserved: 0,
            };
            LimitState::new(&directory, rule, &state, now)
        })
        .collect();
    match ask_held(config, account.as_ref()) {
        Ok(held) => fill_in(&mut states, held),
        Err(reason) => eprintln!("what open requests hold is not shown: {reason}"),
    }
    Ok(match args.format {
        Format::Table => table(&states),
        Format::Json => serde_json::to_string_pretty(&states)? + "\n",
    })
}

/// One limit as the running gateway shows it: what tells it from others, and what is held.
#[derive(Debug, Deserialize)]
struct Held {
    account: Option<AccountId>,
    key: Option<String>,
    on: String,
    per: Option<String>,
    models: Vec<String>,
    reserved: Value,
}

#[derive(Debug, Deserialize)]
struct Page {
    items: Vec<Held>,
    next: Option<String>,
}

fn fill_in(states: &mut [LimitState], held: Vec<Held>) {
    let held: HashMap<_, _> = held
        .into_iter()
        .map(|held| {
            let name = (held.account, held.key, held.on, held.per, held.models);
            (name, held.reserved)
        })
        .collect();
    for state in states {
        let name = (
            state.account.clone(),
            state.key.as_ref().map(|key| key.as_str().to_owned()),
            state.on.to_owned(),
            state.per.clone(),
            state.models.clone(),
        );
        if let Some(reserved) = held.get(&name) {
            state.reserved = reserved.clone();
        }
    }
}

/// The whole conversation with the running gateway.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
const PAGE_BYTES_MAX: usize = 4 << 20;
/// A gateway with more limits than this is not asked further.
const PAGES_MAX: usize = 200;

fn ask_held(config: &Config, account: Option<&AccountId>) -> Result<Vec<Held>, String> {
    let admin = &config.admin;
    let address = admin.listen.iter().find(|address| address.port() != 0);
    let address = address.ok_or("the admin listener has no fixed port")?;
    if admin.tls.is_some() {
        return Err("the admin API is asked without TLS only".to_owned());
    }
    let tokens = [&admin.viewer_token, &admin.operator_token, &admin.token];
    let token = tokens.into_iter().flatten().next();
    let token = token.ok_or("the admin API has no token")?.expose();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let asked = async { tokio::time::timeout(ASK_TIMEOUT, pages(*address, token, account)).await };
    let answer = runtime.block_on(asked);
    answer
        .unwrap_or_else(|_| Err("no answer in time".to_owned()))
        .map_err(|reason| format!("the gateway on {address}: {reason}"))
}

async fn pages(
    address: SocketAddr,
    token: &str,
    account: Option<&AccountId>,
) -> Result<Vec<Held>, String> {
    let client: Client<HttpConnector, Empty<Bytes>> =
        Client::builder(TokioExecutor::new()).build_http();
    let mut held = Vec::new();
    let mut next: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let mut uri = format!("http://{}/api/v1/limits?limit=1000", reachable(address));
        if let Some(account) = account {
            uri += &format!("&account={account}");
        }
        if let Some(cursor) = &next {
            uri += &format!("&cursor={cursor}");
        }
        let request = Request::get(uri)
            .header("authorization", format!("Bearer {token}"))
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        let answer = client.request(request).await;
        let answer = answer.map_err(|_| "it does not run, or cannot be reached".to_owned())?;
        if !answer.status().is_success() {
            return Err(format!("status {}", answer.status()));
        }
        let body = Limited::new(answer.into_body(), PAGE_BYTES_MAX).collect();
        let body = body.await.map_err(|error| error.to_string())?.to_bytes();
        let page: Page = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        held.extend(page.items);
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    Ok(held)
}

/// An address that is listened on as one that can be connected to.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => IpAddr::from([127, 0, 0, 1]),
            IpAddr::V6(_) => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        });
    }
    address
}

fn table(states: &[LimitState]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "account", "key", "on", "per", "models", "max", "used", "reserved", "resets",
    ]);
    for column in [5, 6, 7] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for state in states {
        let name = |name: Option<&str>| name.unwrap_or_default().to_owned();
        table.add_row([
            name(state.account.as_ref().map(AccountId::as_str)),
            name(state.key.as_ref().map(|key| key.as_str())),
            state.on.to_owned(),
            name(state.per.as_deref()),
            state.models.join(","),
            amount(&state.max),
            amount(&state.used),
            amount(&state.reserved),
            state.resets_at.map_or(String::new(), |at| at.to_string()),
        ]);
    }
    format!("{table}\n")
}

fn amount(value: &Value) -> String {
    match value {
        Value::String(money) => money.clone(),
        other => other.to_string(),
    }
}
