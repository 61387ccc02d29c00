#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_probe_exporter::framing::Framing;

fuzz_target!(|bytes: &[u8]| llm_probe_exporter_fuzz::streams::frames(Framing::Sse, bytes));
