//! Each API frames its answers as the real server does.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    client::{CHAT, Response, Simulator, apis, quick},
    support::script::recorded,
};

/// A frame: the event's name, where it has one, and its data, where that is JSON.
type Frame = (Option<String>, Value);

fn frames(text: &str) -> Vec<Frame> {
    let unix = text.replace("\r\n", "\n");
    let frame = |block: &str| {
        let (mut name, mut data) = (None, Value::Null);
        for line in block.lines() {
            if let Some(value) = line.strip_prefix("event: ") {
                name = Some(value.to_owned());
            } else if let Some(value) = line.strip_prefix("data:") {
                data = serde_json::from_str(value).unwrap_or_else(|_| json!(value.trim()));
            }
        }
        (name, data)
    };
    unix.split("\n\n")
        .filter(|block| !block.is_empty())
        .map(frame)
        .collect()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

async fn ask(path: &str, tokens: u64) -> Response {
    let simulator = Simulator::start(quick()).await;
    let (_, body) = apis(tokens).into_iter().find(|api| api.0 == path).unwrap();
    let response = simulator.ask(path, &body).await;
    assert_eq!(response.status, 200, "{path}: {}", response.text());
    let record = simulator.last(1).await;
    assert_eq!(record.tokens_ns.len(), usize::try_from(tokens).unwrap(), "{path}");
    assert!(
        record.done_ns.is_some() && record.answer_ns == Some(record.tokens_ns[0]),
        "{path}"
    );
    response
}

/// The event names in order, each with how often it comes in a row.
fn names(frames: &[Frame]) -> Vec<(String, usize)> {
    let mut names: Vec<(String, usize)> = Vec::new();
    for (name, _) in frames {
        let name = name.clone().unwrap_or_default();
        match names.last_mut() {
            Some((last, count)) if *last == name => *count += 1,
            _ => names.push((name, 1)),
        }
    }
    names
}

/// All paths of keys in a value.
fn keys(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let path = format!("{path}/{key}");
                keys(value, &path, into);
                into.insert(path);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, path, into)),
        _ => {}
    }
}

/// The key paths of every kind of frame that a stream has; a frame's kind is its event's name.
fn shape(frames: &[Frame]) -> BTreeSet<String> {
    let mut shape = BTreeSet::new();
    for (name, data) in frames {
        keys(data, name.as_deref().unwrap_or("data"), &mut shape);
    }
    shape
}

#[tokio::test]
async fn what_is_said_was_also_said_by_the_real_server() {
    for (path, capture, more) in [
        (CHAT, "vllm/chat_stream_usage", &[][..]),
        ("/v1/completions", "vllm/completions_stream_usage", &[]),
        ("/completion", "llama-server/completion_native_stream", &[]),
        (
            // Anthropic itself says this, and llama.cpp does not.
            "/v1/messages",
            "llama-server/messages_stream",
            &[
                "message_start/message/usage/cache_creation_input_tokens",
                "ping/type",
            ],
        ),
    ] {
        let real = shape(&frames(&recorded(capture)));
        let ours = shape(&frames(&ask(path, 5).await.text()));
        let invented: Vec<_> = ours
            .difference(&real)
            .filter(|key| !more.contains(&key.as_str()))
            .collect();
        assert!(invented.is_empty(), "{path}: {invented:?} are not in {real:?}");
    }
}

#[tokio::test]
async fn named_events_come_in_the_order_of_the_real_server() {
    let real = names(&frames(&recorded("llama-server/responses_stream")));
    let ours = names(&frames(&ask("/v1/responses", 24).await.text()));
    let (real_end, ours_end) = (real.last().unwrap(), ours.last().unwrap());
    assert_eq!(ours[..ours.len() - 1], real[..real.len() - 1]);
    // OpenAI calls an answer that ended at its limit incomplete; llama.cpp does not.
    assert_eq!(
        (real_end.0.as_str(), ours_end.0.as_str()),
        ("response.completed", "response.incomplete")
    );

    let real = names(&frames(&recorded("llama-server/messages_stream")));
    let mut ours = names(&frames(&ask("/v1/messages", 11).await.text()));
    ours.retain(|(name, _)| name != "ping");
    assert_eq!(ours, real);
}

#[tokio::test]
async fn every_frame_is_a_write_of_its_own() {
    for (path, _) in apis(1) {
        let response = ask(path, 5).await;
        let (separator, media) = match path {
            "/api/chat" | "/api/generate" => ("\n", "application/x-ndjson"),
            path if path.contains("Gemini") || path.contains("v1beta") => ("\r\n\r\n", "text/event-stream"),
            _ => ("\n\n", "text/event-stream"),
        };
        assert!(
            response.head.contains(&format!("content-type: {media}")),
            "{path}"
        );
        for (frame, _) in &response.frames {
            assert_eq!(frame.matches(separator).count(), 1, "{path}: {frame:?}");
            assert!(frame.ends_with(separator), "{path}: {frame:?}");
        }
    }
}

#[tokio::test]
async fn responses_number_their_events() {
    let frames = frames(&ask("/v1/responses", 4).await.text());
    for (number, (name, data)) in (0..).zip(&frames) {
        assert_eq!(data["sequence_number"], number, "{data}");
        assert_eq!(data["type"], name.as_deref().unwrap());
    }
    let last = &frames.last().unwrap().1["response"];
    assert_eq!(last["incomplete_details"]["reason"], "max_output_tokens");
    assert_eq!(
        (&last["usage"]["input_tokens"], &last["usage"]["output_tokens"]),
        (&json!(10), &json!(4))
    );
}

#[tokio::test]
async fn each_api_ends_and_counts_in_its_own_way() {
    let last = |text: &str| frames(text).pop().unwrap().1;
    let text = ask("/v1/completions", 4).await.text();
    assert!(text.ends_with("data: [DONE]\n\n"));
    let all = frames(&text);
    assert_eq!(all[all.len() - 3].1["choices"][0]["finish_reason"], "length");
    assert_eq!(all[all.len() - 2].1["usage"]["completion_tokens"], 4);

    let all = frames(&ask("/v1/messages", 4).await.text());
    assert_eq!(all[all.len() - 2].1["usage"], json!({"output_tokens": 4}));
    assert_eq!(all[0].1["message"]["usage"]["input_tokens"], 10);

    let last_native = last(&ask("/completion", 4).await.text());
    assert_eq!(
        (&last_native["stop"], &last_native["stop_type"]),
        (&json!(true), &json!("limit"))
    );
    assert_eq!(last_native["timings"]["predicted_n"], 4);
    assert!(last_native["timings"]["prompt_ms"].as_f64().unwrap() >= 5.0);

    let text = ask("/generate_stream", 4).await.text();
    assert!(text.starts_with("data:{\"index\":1,"), "no space: {text}");
    let ended = last(&text);
    assert!(ended["generated_text"].as_str().unwrap().len() > 4);
    assert_eq!(ended["details"]["generated_tokens"], 4);
    assert!(
        frames(&text)[..3]
            .iter()
            .all(|frame| frame.1["generated_text"].is_null())
    );

    let text = ask("/v2/models/simulated/generate_stream", 4).await.text();
    assert_eq!(frames(&text).len(), 4, "nothing but tokens: {text}");

    let text = ask("/v1beta/models/simulated:streamGenerateContent?alt=sse", 4)
        .await
        .text();
    let all = frames(&text);
    assert_eq!(all[3].1["candidates"][0]["finishReason"], "MAX_TOKENS");
    assert_eq!(all[3].1["usageMetadata"]["candidatesTokenCount"], 4);
    assert!(
        all[..3]
            .iter()
            .all(|frame| frame.1["candidates"][0].get("finishReason").is_none())
    );
    assert_eq!(all[1].1["usageMetadata"]["candidatesTokenCount"], 2, "cumulative");

    let all = lines(&ask("/api/generate", 4).await.text());
    assert!(
        all[..4]
            .iter()
            .all(|line| line["response"] != "" && line["done"] == false)
    );
    assert_eq!(
        (&all[4]["done"], &all[4]["eval_count"]),
        (&json!(true), &json!(4))
    );
    assert!(all[4]["context"].is_array());
}

#[tokio::test]
async fn answers_that_are_not_streamed_are_one_json() {
    let simulator = Simulator::start(quick()).await;
    for (path, pointer) in [
        ("/v1/completions", "/choices/0/text"),
        ("/v1/responses", "/output/0/content/0/text"),
        ("/v1/messages", "/content/0/text"),
        ("/api/generate", "/response"),
        ("/completion", "/content"),
        ("/generate", "/generated_text"),
        ("/v2/models/simulated/generate", "/text_output"),
        (
            "/v1beta/models/simulated:generateContent",
            "/candidates/0/content/parts/0/text",
        ),
    ] {
        let streamed = path.replace("/generate", "/generate_stream");
        let streamed = streamed.replace(":generateContent", ":streamGenerateContent?alt=sse");
        let (_, mut body) = apis(3)
            .into_iter()
            .find(|api| api.0 == path || api.0 == streamed)
            .unwrap();
        body["stream"] = json!(false);
        let response = simulator.ask(path, &body).await;
        let json = response.json();
        assert!(
            json.pointer(pointer).unwrap().as_str().unwrap().len() > 3,
            "{path}: {json}"
        );
    }
}
