//! llm-probe-exporter
pub mod clock;
pub mod config {
    pub mod plan;
    pub mod secret;
}
pub mod dialect;
pub mod framing;
pub mod load;
pub mod measure;
pub mod outcome;
pub mod prompt;
pub mod record;
pub mod slo;
pub mod summary;
pub mod timeline;
pub mod units;
pub mod usage;
