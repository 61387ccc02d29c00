#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_probe_exporter::config::web::parse;

// No panic, and an error that says where. Texts that name files are left out: reading them is none of the text's.
fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes)
        && !text.contains("_file")
        && let Err(error) = parse(text, "web.yml", "/nowhere".as_ref())
    {
        assert!(error.to_string().starts_with("web.yml:"));
    }
});
