//! Which version this is.

pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The revision of the sources: what `build.rs` found, or whoever builds gives.
pub const REVISION: &str = match option_env!("LLM_PROBE_EXPORTER_REVISION") {
    Some(revision) if !revision.is_empty() => revision,
    _ => "unknown",
};

/// Both, as `--version` prints them.
pub fn described() -> String {
    format!("{VERSION} (revision {REVISION})")
}
