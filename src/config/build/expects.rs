//! What a probe expects of answers.

use crate::{
    config::{
        raw::{items, reading::Field},
        report::Report,
    },
    expect::{Expect, Pattern},
    units::Tokens,
};

/// `None` when nothing is expected. `max_tokens` is the most that an answer may have.
pub(super) fn expect(raw: &Field<items::Expect>, max_tokens: Tokens, report: &Report<'_>) -> Option<Expect> {
    let item = &raw.given()?.value;
    for text in [&item.contains, &item.matches]
        .into_iter()
        .filter_map(Field::given)
    {
        if text.value.is_empty() {
            let what = format!("{} is empty", text.thing);
            report.problem(text.id, what, "write what is expected, or remove it");
        }
    }
    let matches = item
        .matches
        .given()
        .and_then(|given| match Pattern::new(&given.value) {
            Ok(pattern) => Some(pattern),
            Err(what) => {
                let mend = "write a regular expression, in single quotes so that `\\` stands for itself";
                report.problem(given.id, format!("{} {what}", given.thing), mend);
                None
            }
        });
    let min_output_tokens = item.min_output_tokens.given().map(|given| {
        let least = Tokens(given.value.get());
        if least > max_tokens {
            let what = format!(
                "{} is {least}, more than `max_tokens`, which is {max_tokens}",
                given.thing
            );
            report.problem(
                given.id,
                what,
                format!("write at most `{max_tokens}`, or raise `max_tokens`"),
            );
        }
        least
    });
    Some(Expect {
        contains: item.contains.value().cloned(),
        matches,
        min_output_tokens,
    })
    .filter(|expect| *expect != Expect::default())
}
