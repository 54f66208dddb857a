//! The built gateway over real sockets: a scripted upstream behind it, clients before it, its ledger and metrics read as
//! a user reads them. One module a rule.
#![expect(
    unreachable_pub,
    reason = "the support's words are for the modules beside it"
)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected should stop where it is"
)]

mod support;

mod background;
mod budgets;
mod cardinality;
mod cluster;
mod crash;
mod cut_streams;
mod demo;
mod disconnects;
mod faces;
mod faults;
mod floods;
mod outages;
mod passthrough;
mod power;
mod recordings;
mod redis_ways;
mod refusals;
mod reload;
mod secrets;
mod smuggling;
mod soak;
mod sums;
mod takeover;
mod tls_upstreams;
mod webhooks;
