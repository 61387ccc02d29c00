#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_probe_exporter::dialect::Dialect;

fuzz_target!(|bytes: &[u8]| llm_probe_exporter_fuzz::streams::meaning(Dialect::OpenaiCompletions, bytes));
