//! OpenAI completions.

use llm_probe_exporter::dialect::{Dialect::OpenaiCompletions, Output};

use crate::{delta, hear, is_malformed, phases, recorded, stream, usage};

#[test]
fn recorded_streams_mean_what_they_meant() {
    let llama = hear(
        OpenaiCompletions,
        &recorded("llama-server/completions_stream_usage"),
    );
    llama.assert_answers(
        24,
        ", the city of New Haven was a thriving metropolis, with towering skyscrapers and bustling streets. But as the years went by",
    );
    assert_eq!(llama.usage(), usage([Some(4), Some(0), Some(24), None]));
    assert_eq!(llama.phases(), phases([None, Some(46.461), Some(465.489)]));
    let vllm = hear(OpenaiCompletions, &recorded("vllm/completions_stream_usage"));
    let text = vllm.text.visible.clone();
    vllm.assert_answers(24, &text);
    assert!(text.starts_with(" gives infrequently gives"), "{text}");
    assert_eq!(vllm.usage(), usage([Some(4), None, Some(24), None]));
}

#[test]
fn what_is_output() {
    use Output::{Reasoning, Visible};
    for (data, output, finished) in [
        (
            r#"{"choices":[{"index":0,"text":"Hi","logprobs":null,"finish_reason":null}],"usage":null}"#,
            Some(Visible),
            false,
        ),
        (
            r#"{"choices":[{"index":0,"text":"\n","finish_reason":null}]}"#,
            Some(Visible),
            false,
        ),
        // A special token.
        (
            r#"{"choices":[{"index":0,"text":"","finish_reason":null}]}"#,
            None,
            false,
        ),
        (
            r#"{"choices":[{"index":0,"text":"","finish_reason":"stop"}]}"#,
            None,
            true,
        ),
        (
            r#"{"choices":[{"index":0,"text":".","finish_reason":"length"}]}"#,
            Some(Visible),
            true,
        ),
        (
            r#"{"choices":[{"index":0,"text":"","reasoning":"Hm"}]}"#,
            Some(Reasoning),
            false,
        ),
        (r#"{"choices":[]}"#, None, false),
        ("{}", None, false),
        ("[DONE]", None, true),
    ] {
        let delta = delta(OpenaiCompletions, data);
        assert_eq!((delta.output, delta.finished), (output, finished), "{data}");
    }
}

#[test]
fn usage_and_errors_wherever_they_stand() {
    let token = r#"{"choices":[{"text":"a"}]}"#;
    for (frames, counts, error) in [
        (
            [
                token,
                r#"{"choices":[{"text":"b","finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2}}"#,
            ],
            [Some(9), None, Some(2), None],
            None,
        ),
        ([token, "[DONE]"], [None; 4], None),
        (
            [token, r#"{"error":{"message":"boom"}}"#],
            [None; 4],
            Some("boom"),
        ),
        ([r#"{"error":"boom"}"#, token], [None; 4], Some("boom")),
        (
            ["[DONE]", r#"{"object":"error","message":"boom"}"#],
            [None; 4],
            Some("boom"),
        ),
    ] {
        let heard = hear(OpenaiCompletions, &stream(OpenaiCompletions, &frames));
        assert_eq!(
            (heard.usage(), heard.error()),
            (usage(counts), error),
            "{frames:?}"
        );
    }
    for data in ["{", "[1]", r#"{"choices":{}}"#] {
        assert!(is_malformed(OpenaiCompletions, data), "{data}");
    }
}

#[test]
fn an_answer_that_the_server_gave_up_is_an_error() {
    for reason in ["error", "abort"] {
        let data = format!(r#"{{"choices":[{{"text":"","finish_reason":"{reason}"}}]}}"#);
        let delta = delta(OpenaiCompletions, &data);
        let message = delta.error.map(|error| error.message);
        assert_eq!(
            (message, delta.finished),
            (Some(format!("finish_reason {reason}")), false)
        );
    }
}
