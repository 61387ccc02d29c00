#![no_main]

use std::{env, fs, path::PathBuf, sync::LazyLock};

use libfuzzer_sys::fuzz_target;

/// For the file of prompts.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = env::temp_dir().join(format!("llm-probe-fuzz-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("temporary files are possible");
    folder
});

fuzz_target!(|bytes: &[u8]| llm_probe_exporter_fuzz::files::prompts(bytes, &FOLDER));
