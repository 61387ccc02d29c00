//! The dashboards: what of them can be wrong without anybody seeing it. Whether they are easy to read, nobody but a
//! person can tell.
#![cfg(test)]

#[expect(dead_code, reason = "other test files use the rest")]
#[path = "../support/components.rs"]
mod components;
#[expect(dead_code, reason = "other test files use the rest")]
#[path = "../support/process.rs"]
mod process;
#[expect(dead_code, reason = "other test files use the rest")]
#[path = "../support/rules.rs"]
mod rules;

mod dashboard;
mod json;
mod live;
mod promql;
mod provisioning;
mod queries;
