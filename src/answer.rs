//! What is done with the text of an answer once the request is over: its tokens are counted where the server did
//! not, and it is compared with what the probe expects. It takes time, so it is done where no time is measured.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::{
    config::plan::Series,
    expect::Expect,
    measure::Measurement,
    outcome::{Failure, Invalid, Outcome},
    record::{Record, presentable},
    tokenizer::Tokenizer,
    units::Tokens,
    usage::Transcript,
};

/// What a series wants to do with its answers.
#[derive(Clone, Debug)]
pub struct Examination {
    tokenizer: Option<Arc<Tokenizer>>,
    expect: Option<Expect>,
}

impl Examination {
    /// `None` where the text of answers is of no use.
    pub fn of(series: &Series) -> Option<Self> {
        let examination = Self {
            tokenizer: series.target.tokenizer.clone(),
            expect: series.probe.expect.clone(),
        };
        (examination.tokenizer.is_some() || examination.expect.is_some()).then_some(examination)
    }

    /// Only compares answers with what is expected.
    pub fn expecting(expect: Expect) -> Self {
        Self {
            tokenizer: None,
            expect: Some(expect),
        }
    }

    /// Examines the answer of a request on a thread of `blocking`. `redact` takes secrets out of what is shown.
    pub async fn on(
        self,
        blocking: &Handle,
        mut record: Record,
        redact: impl Fn(String) -> String + Send + 'static,
    ) -> Record {
        let Some(text) = record.text.take() else {
            return record;
        };
        // Should it panic, which is a defect of ours, there is still a record.
        let mut spoilt = record.clone();
        spoilt.outcome = Outcome::Invalid(Invalid::Internal);
        let examine = move || {
            self.examine(&mut record, &text, redact);
            record
        };
        blocking.spawn_blocking(examine).await.unwrap_or(spoilt)
    }

    /// Examines the text of a request's answer.
    pub fn examine(&self, record: &mut Record, text: &Transcript, redact: impl Fn(String) -> String) {
        if let Some(tokenizer) = &self.tokenizer
            && record.usage.output.is_none()
            && !text.cut
        {
            let count = |text: &str| tokenizer.count(text);
            record.counted = count(&text.visible)
                .zip(count(&text.reasoning))
                .map(|(visible, reasoning)| Tokens(visible.0 + reasoning.0));
        }
        if let (Some(expect), Outcome::Ok) = (&self.expect, record.outcome) {
            let output_tokens = Measurement::of(record).output_tokens;
            if let Some(wrong) = expect.unmet(&text.visible, output_tokens) {
                record.outcome = Outcome::Failed(Failure::UnexpectedOutput);
                let shown = redact(text.visible.clone());
                let detail = format!("the answer {wrong}; it begins {}", beginning(&shown));
                record.detail = Some(presentable(&detail));
            }
        }
    }
}

/// The first characters of an answer, quoted.
fn beginning(text: &str) -> String {
    let end = text.char_indices().nth(80).map_or(text.len(), |(at, _)| at);
    match text.get(..end).unwrap_or_default() {
        part if part.len() < text.len() => format!("{part:?}…"),
        part => format!("{part:?}"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::time::Instant;

    use super::*;
    use crate::measure::TokenSource;

    fn examined(examination: &Examination, visible: &str, reasoning: &str, usage: Option<u64>) -> Record {
        let mut record = Record::new(0, false, Instant::now());
        record.outcome = Outcome::Ok;
        record.usage.output = usage.map(Tokens);
        let text = Transcript {
            visible: visible.into(),
            reasoning: reasoning.into(),
            cut: false,
        };
        examination.examine(&mut record, &text, |text| text.replace("sesame", "<secret>"));
        record
    }

    #[test]
    fn tokens_are_counted_where_the_server_does_not() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/example-tokenizer.json");
        let counting = Examination {
            tokenizer: Some(Arc::new(Tokenizer::load(&path).unwrap())),
            expect: None,
        };
        let counted = |usage| {
            let measured = Measurement::of(&examined(&counting, "the light", "the", usage));
            (measured.output_tokens, measured.token_source)
        };
        assert_eq!(counted(None), (Tokens(3), TokenSource::Tokenizer));
        assert_eq!(counted(Some(5)), (Tokens(5), TokenSource::Usage));
    }

    #[test]
    fn what_is_not_expected_fails_and_says_so_without_secrets() {
        let expecting = Examination {
            tokenizer: None,
            expect: Some(Expect {
                contains: Some("Paris".into()),
                ..Expect::default()
            }),
        };
        assert_eq!(examined(&expecting, "Paris.", "", None).outcome, Outcome::Ok);
        let long = format!("{}sesame{}", "é".repeat(77), "e".repeat(9));
        let wrong = examined(&expecting, &long, "Paris", None);
        assert_eq!(wrong.outcome, Outcome::Failed(Failure::UnexpectedOutput));
        let detail = wrong.detail.unwrap();
        assert!(
            detail.starts_with("the answer does not contain \"Paris\"; it begins \"éé"),
            "{detail}"
        );
        assert!(detail.ends_with("é<se\"…"), "{detail}");
    }
}
