//! Triton's generate extension.

use llm_probe_exporter::{
    config::plan::TextMode::{Auto, Cumulative, Delta},
    dialect::{Dialect::TritonGenerate, Output},
};

use crate::{hear, hear_in, is_malformed, usage};

fn body(texts: &[&str]) -> String {
    texts.iter().fold(String::new(), |body, text| {
        let data = serde_json::json!({ "model_name": "m", "model_version": "1", "text_output": text });
        body + &format!("data: {data}\n\n")
    })
}

#[test]
fn text_is_new_or_all_so_far() {
    let (new, all) = (body(&["Why", " not", "?"]), body(&["Why", "Why not", "Why not?"]));
    for (mode, body) in [(Auto, &new), (Auto, &all), (Delta, &new), (Cumulative, &all)] {
        hear_in(mode, TritonGenerate, body).assert_answers(3, "Why not?");
    }
    hear_in(Delta, TritonGenerate, &all).assert_answers(3, "WhyWhy notWhy not?");
    // A frame in which nothing is new is no output.
    let repeating = body(&["Why", "Why", "Why not", "Why not"]);
    hear_in(Cumulative, TritonGenerate, &repeating).assert_answers(2, "Why not");
    hear_in(Delta, TritonGenerate, &body(&["la", "la", ""])).assert_answers(2, "lala");
    hear(TritonGenerate, &body(&["la", "la", "da"])).assert_answers(3, "lalada");
    // Tokens that happen to begin like the one before, even twice.
    let alike = body(&["a", "and", "cat", "and", "and", "dog", "d", "d"]);
    hear(TritonGenerate, &alike).assert_answers(8, "aandcatandanddogdd");
    let alike_twice = body(&["a", "an", "and", "cat", "cat"]);
    hear(TritonGenerate, &alike_twice).assert_answers(5, "aanandcatcat");
}

#[test]
fn a_clean_end_of_the_body_is_the_end() {
    let answer = body(&["Hi"]);
    let heard = hear(TritonGenerate, &answer);
    let (last, before) = heard.deltas.split_last().unwrap();
    assert!(last.finished && last.last && before.iter().all(|delta| !delta.finished));
    assert_eq!(heard.usage(), usage([None; 4]));
    // Without the last blank line, too; but not within a frame.
    assert!(hear(TritonGenerate, answer.trim_end()).is_finished());
    assert!(!hear(TritonGenerate, answer.get(..answer.len() - 4).unwrap()).is_finished());
    // Nothing at all is an end without output.
    let nothing = hear(TritonGenerate, "");
    assert!(nothing.is_finished() && nothing.outputs().is_empty());
}

#[test]
fn frames() {
    for (data, output) in [
        (r#"{"model_name":"m","text_output":"Hi"}"#, vec![Output::Visible]),
        (
            r#"{"model_name":"m","text_output":["Hi"],"sequence_id":0}"#,
            vec![Output::Visible],
        ),
        (r#"{"model_name":"m","text_output":""}"#, vec![]),
        (
            r#"{"model_name":"m","text_output":null,"context_logits":0.0}"#,
            vec![],
        ),
        (r#"{"model_name":"m"}"#, vec![]),
    ] {
        assert_eq!(
            hear(TritonGenerate, &format!("data: {data}\n\n")).outputs(),
            output,
            "{data}"
        );
    }
    let failed = hear(
        TritonGenerate,
        &format!("{}data: {{\"error\":\"boom\"}}\n\n", body(&["Hi"])),
    );
    assert_eq!(failed.error(), Some("boom"));
    for data in ["{", "[]", "x", r#"{"text_output":[1"#] {
        assert!(is_malformed(TritonGenerate, data), "{data}");
    }
    let endless = format!(r#"{{"text_output":"{}"}}"#, "x".repeat(600 << 10));
    assert!(is_malformed(TritonGenerate, &endless));
}
