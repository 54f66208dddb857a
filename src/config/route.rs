//! `[[routes]]`: which models go to which upstreams.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::dialect::Endpoint;
use crate::ids::{ModelName, UpstreamId};
use crate::plan::ModelPattern;

/// One route; the first that matches serves a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Names or globs of models, at least one.
    pub models: Vec<ModelPattern>,
    /// Groups of upstreams in the order in which they are tried, none empty; a group is balanced by weight.
    ///
    /// Upstreams of equal `priority` form a group, lower priorities first; those without a priority follow one by one as
    /// listed.
    pub groups: Vec<Vec<RouteTarget>>,
    /// What a model is called upstream.
    pub rename: BTreeMap<ModelName, ModelName>,
    /// The only endpoints it serves, by the ledger's names; `None` is all.
    pub endpoints: Option<Vec<Arc<str>>>,
}

/// An upstream of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteTarget {
    /// The upstream; it exists.
    pub upstream: UpstreamId,
    /// Its share of the group, at least 1.
    pub weight: u32,
}

impl Route {
    /// Whether the route serves a model at an endpoint.
    pub fn matches(&self, model: &str, endpoint: &Endpoint) -> bool {
        let endpoint_fits = self
            .endpoints
            .as_ref()
            .is_none_or(|names| names.iter().any(|name| **name == *endpoint.as_str()));
        endpoint_fits && self.models.iter().any(|pattern| pattern.matches(model))
    }
}
