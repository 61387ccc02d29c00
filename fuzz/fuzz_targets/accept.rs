#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| llm_probe_exporter_fuzz::headers::accept(bytes));
