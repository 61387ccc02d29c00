//! llama.cpp's own completion.

use llm_probe_exporter::dialect::{Dialect::LlamacppCompletion, Output};

use crate::{delta, hear, is_malformed, phases, recorded, stream, usage};

#[test]
fn a_recorded_stream_means_what_it_meant() {
    let heard = hear(
        LlamacppCompletion,
        &recorded("llama-server/completion_native_stream"),
    );
    heard.assert_answers(
        24,
        ", the city of New Haven was a thriving metropolis, with towering skyscrapers and bustling streets. But as the years went by",
    );
    assert!(heard.deltas.last().unwrap().last);
    assert_eq!(heard.usage(), usage([Some(4), Some(3), Some(24), None]));
    assert_eq!(heard.phases(), phases([None, Some(16.789), Some(595.979)]));
    // It counts with each token.
    assert_eq!(heard.deltas[0].usage, usage([Some(4), None, Some(1), None]));
}

#[test]
fn frames() {
    for (data, output, finished) in [
        (
            r#"{"index":0,"content":"Hi","tokens":[1],"stop":false,"id_slot":0,"tokens_predicted":1,"tokens_evaluated":4}"#,
            Some(Output::Visible),
            false,
        ),
        (r#"{"content":"","tokens":[],"stop":false}"#, None, false),
        (r#"{"content":"","stop":true,"stop_type":"eos"}"#, None, true),
        // Very old servers put the last token into the last frame.
        (
            r#"{"content":".","stop":true,"stopped_eos":true}"#,
            Some(Output::Visible),
            true,
        ),
        (
            r#"{"index":0,"content":"","stop":false,"tokens_predicted":0,"prompt_progress":{"total":512,"cache":0,"processed":256,"time_ms":90}}"#,
            None,
            false,
        ),
    ] {
        let delta = delta(LlamacppCompletion, data);
        assert_eq!(
            (delta.output, delta.finished, delta.error),
            (output, finished, None),
            "{data}"
        );
    }
    let progress = delta(
        LlamacppCompletion,
        r#"{"content":"","tokens_predicted":0,"prompt_progress":{"total":512}}"#,
    );
    assert_eq!(progress.usage, usage([None; 4]));
}

#[test]
fn errors() {
    let token = stream(LlamacppCompletion, &[r#"{"content":"a","stop":false}"#]);
    for (frame, message, overloaded) in [
        (
            "error: {\"code\":500,\"message\":\"boom\",\"type\":\"server_error\"}\n\n",
            "boom",
            false,
        ),
        (
            "data: {\"error\":{\"code\":500,\"message\":\"boom\"}}\n\n",
            "boom",
            false,
        ),
        (
            "data: {\"error\":{\"message\":\"Loading model\",\"type\":\"unavailable_error\",\"code\":503}}\n\n",
            "Loading model",
            true,
        ),
    ] {
        let heard = hear(LlamacppCompletion, &format!("{token}: ping\n\n{frame}"));
        let error = heard.deltas.last().unwrap().error.clone().unwrap();
        assert_eq!(
            (error.message.as_str(), error.overloaded),
            (message, overloaded),
            "{frame}"
        );
    }
    for data in ["{", "[]", "loading"] {
        assert!(is_malformed(LlamacppCompletion, data), "{data}");
    }
}
