//! Where a request goes: the first route that matches, and its upstreams in the order in which they are tried.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::config;
use crate::dialect::error_body::Code;
use crate::dialect::{Dialect, Endpoint};
use crate::ids::{ModelName, UpstreamId};
use crate::price::PriceTable;
use crate::refuse::Refusal;
use crate::upstream::Upstream;

/// All routes, with the upstreams that they lead to.
#[derive(Debug, Default)]
pub struct Router {
    routes: Vec<config::Route>,
    upstreams: HashMap<UpstreamId, Arc<Upstream>>,
}

/// Where one request goes.
#[derive(Clone, Debug)]
pub struct Route {
    /// The upstreams that speak the request's dialect, in the order in which they are tried; never empty.
    pub upstreams: Vec<Arc<Upstream>>,
    /// What the model is called there, where that differs.
    pub rename: Option<ModelName>,
}

impl Router {
    /// Routes over upstreams; the configuration has checked that every name exists.
    pub fn new(
        routes: Vec<config::Route>,
        upstreams: HashMap<UpstreamId, Arc<Upstream>>,
    ) -> Router {
        Router { routes, upstreams }
    }

    /// The upstreams by name.
    pub fn upstreams(&self) -> &HashMap<UpstreamId, Arc<Upstream>> {
        &self.upstreams
    }

    /// Where a request for a model at an endpoint goes. A request without a model (a path that Weir only passes through)
    /// goes to the first route that is open to its endpoint.
    ///
    /// # Errors
    /// `model_not_found` when no route leads there, or none to an upstream of the dialect.
    pub fn route(
        &self,
        endpoint: &Endpoint,
        dialect: Dialect,
        model: Option<&ModelName>,
    ) -> Result<Route, Refusal> {
        let mut wrong_dialect = false;
        for route in &self.routes {
            let fits = match model {
                Some(model) => route.matches(model.as_str(), endpoint),
                None => route
                    .endpoints
                    .as_ref()
                    .is_none_or(|names| names.iter().any(|name| **name == *endpoint.as_str())),
            };
            if !fits {
                continue;
            }
            let upstreams = self.in_order(route, dialect);
            if upstreams.is_empty() {
                wrong_dialect = true;
                // A path without a model looks on for a route that speaks its dialect.
                if model.is_none() {
                    continue;
                }
                break;
            }
            let rename = model.and_then(|model| route.rename.get(model).cloned());
            return Ok(Route { upstreams, rename });
        }
        let what = model.map_or_else(
            || format!("this path ({endpoint})"),
            |model| format!("the model `{model}`"),
        );
        let message = if wrong_dialect {
            let spoken = if dialect == Dialect::Anthropic {
                "Anthropic's"
            } else {
                "OpenAI's"
            };
            format!("No upstream for {what} speaks {spoken} dialect, which {endpoint} needs.")
        } else {
            format!(
                "{} does not exist or you do not have access to it.",
                capitalised(&what)
            )
        };
        let refusal = Refusal::new(Code::ModelNotFound, message);
        Err(if model.is_some() {
            refusal.param("model")
        } else {
            refusal
        })
    }

    /// Leads a request to the upstream that keeps what it is about: first among its route's, or alone, where the route was
    /// found without a model.
    pub fn lead_to(
        &self,
        keeper: &UpstreamId,
        route: &mut Route,
        dialect: Dialect,
        model: Option<&ModelName>,
    ) {
        let is_keeper = |upstream: &Arc<Upstream>| upstream.settings.id == *keeper;
        if let Some(place) = route.upstreams.iter().position(is_keeper) {
            let keeper = route.upstreams.remove(place);
            route.upstreams.insert(0, keeper);
        } else if model.is_none()
            && let Some(upstream) = self.upstreams.get(keeper)
            && speaks(upstream, dialect)
        {
            route.upstreams = vec![Arc::clone(upstream)];
        }
    }

    /// The route's upstreams that speak the dialect: groups in order, each in an order drawn by weight, failing ones last.
    fn in_order(&self, route: &config::Route, dialect: Dialect) -> Vec<Arc<Upstream>> {
        let mut order = Vec::with_capacity(1);
        for group in &route.groups {
            let mut group: Vec<(u32, &Arc<Upstream>)> = group
                .iter()
                .filter_map(|target| Some((target.weight, self.upstreams.get(&target.upstream)?)))
                .filter(|(_, upstream)| speaks(upstream, dialect))
                .collect();
            while !group.is_empty() {
                let chosen = draw(&group);
                order.push(Arc::clone(group.swap_remove(chosen).1));
            }
        }
        if order.len() > 1 {
            order.sort_by_key(|upstream| upstream.is_failing());
        }
        order
    }

    /// The models that clients can ask for: those that routes name, and for each glob those that the price table knows.
    pub fn models(&self, prices: &PriceTable) -> BTreeSet<String> {
        let mut models = BTreeSet::new();
        for pattern in self.routes.iter().flat_map(|route| &route.models) {
            let text = pattern.pattern();
            if text.contains(['*', '?']) {
                let known = prices.models().map(|priced| &*priced.model);
                models.extend(
                    known
                        .filter(|model| !model.contains(['*', '?']) && pattern.matches(model))
                        .map(str::to_owned),
                );
            } else {
                models.insert(text);
            }
        }
        models
    }

    /// Whether a route names the model itself, not by a glob.
    pub fn names(&self, model: &str) -> bool {
        self.routes.iter().any(|route| {
            route
                .models
                .iter()
                .any(|pattern| pattern.pattern() == model)
                || route
                    .rename
                    .values()
                    .any(|renamed| renamed.as_str() == model)
        })
    }
}

fn speaks(upstream: &Upstream, dialect: Dialect) -> bool {
    (upstream.settings.dialect == Dialect::Anthropic) == (dialect == Dialect::Anthropic)
}

/// Draws one of a group by weight; the group is not empty.
fn draw(group: &[(u32, &Arc<Upstream>)]) -> usize {
    if group.len() <= 1 {
        return 0;
    }
    let total: u64 = group.iter().map(|(weight, _)| u64::from(*weight)).sum();
    let mut left = fastrand::u64(0..total.max(1));
    for (index, (weight, _)) in group.iter().enumerate() {
        match left.checked_sub(u64::from(*weight)) {
            Some(rest) => left = rest,
            None => return index,
        }
    }
    0
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}
