#![doc = include_str!("ARCHITECTURE.md")]

pub mod account;
pub mod cli;
pub mod config;
pub mod dialect;
pub mod ids;
pub mod ledger;
pub mod margin;
pub mod meter;
pub mod money;
pub mod period;
pub mod plan;
pub mod price;
pub mod quota;
pub mod secret;
pub mod tokens;
