//! llm-probe-exporter
pub mod burst;
pub mod client;
pub mod clock;
pub mod config {
    pub mod plan;
    pub mod secret;
}
pub mod dialect;
pub mod framing;
pub mod gate;
pub mod lag;
pub mod load;
pub mod measure;
pub mod metrics;
pub mod outcome;
pub mod prompt;
pub mod record;
pub mod request;
pub mod schedule;
pub mod sim;
pub mod slo;
pub mod summary;
pub mod timeline;
pub mod units;
pub mod usage;
