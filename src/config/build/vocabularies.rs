//! Tokenizers of targets, each file read once.

use std::sync::Arc;

use super::{Context, require};
use crate::{
    config::{
        problem::shown,
        raw::{items, reading::Field},
    },
    tokenizer::Tokenizer,
};

/// `None` when there is none, or it cannot be loaded, which is then reported.
pub(super) fn tokenizer(raw: &Field<items::Tokenizer>, context: &Context<'_>) -> Option<Arc<Tokenizer>> {
    let given = raw.given()?;
    let mend = "write `file: …` with the path of the model's `tokenizer.json`";
    require(&given.value.file, given, "file", mend, context.report);
    let file = given.value.file.given()?;
    let path = context.base_dir.join(&file.value);
    let mut loaded = context.tokenizers.borrow_mut();
    if let Some(tokenizer) = loaded.get(&path) {
        return Some(Arc::clone(tokenizer));
    }
    match Tokenizer::load(&path) {
        Ok(tokenizer) => {
            let tokenizer = Arc::new(tokenizer);
            loaded.insert(path, Arc::clone(&tokenizer));
            Some(tokenizer)
        }
        Err(what) => {
            let what = format!("{}: {} {what}", file.thing, shown(&path.display().to_string()));
            let mend = "name the model's `tokenizer.json` (paths are relative to the configuration)";
            context.report.problem(file.id, what, mend);
            None
        }
    }
}
