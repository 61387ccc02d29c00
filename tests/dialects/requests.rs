//! What is asked, and where.

use llm_probe_exporter::{
    config::{
        plan::{Authorization, Connection, Generation, HttpVersion, Reach, Target, TextMode},
        secret::Secret,
    },
    dialect::Dialect,
    prompt::{Cache, Question},
    units::{Name, Tokens},
};
use serde_json::{Value, json};

fn target(api: Dialect, url: &str) -> Target {
    Target {
        name: Name::new("t").unwrap(),
        url: url.parse().unwrap(),
        api,
        model: "org/m:7b".into(),
        authorization: None,
        headers: Vec::new(),
        connection: Connection::New,
        http: HttpVersion::Http1,
        reach: Reach::default(),
        max_tokens_field: "max_tokens",
        reasoning: None,
        body: serde_json::Map::new(),
        text_mode: TextMode::Auto,
        replica_header: None,
        tokenizer: None,
        price: None,
        budget: None,
        busy: None,
        labels: std::collections::BTreeMap::new(),
        share: false,
    }
}

fn body(api: Dialect, system: Option<&str>, cache: Cache) -> Value {
    let question = Question {
        system: system.map(str::to_owned),
        user: "Why?".into(),
        cache,
    };
    serde_json::from_slice(&api.body(
        &target(api, "http://h"),
        &question,
        Tokens(64),
        &Generation::default(),
    ))
    .unwrap()
}

#[test]
fn addresses() {
    for (api, base, address) in [
        (Dialect::OpenaiChat, "http://h/v1", "http://h/v1/chat/completions"),
        (Dialect::OpenaiChat, "http://h", "http://h/chat/completions"),
        (
            Dialect::OpenaiCompletions,
            "http://h/v1/",
            "http://h/v1/completions",
        ),
        (Dialect::OpenaiResponses, "http://h/v1", "http://h/v1/responses"),
        (Dialect::AnthropicMessages, "http://h/v1", "http://h/v1/messages"),
        (Dialect::OllamaChat, "http://h", "http://h/api/chat"),
        (Dialect::OllamaGenerate, "http://h", "http://h/api/generate"),
        (
            Dialect::LlamacppCompletion,
            "http://h/slow",
            "http://h/slow/completion",
        ),
        (Dialect::TgiGenerate, "http://h", "http://h/generate_stream"),
        (
            Dialect::TritonGenerate,
            "http://h/v2",
            "http://h/v2/models/org%2Fm:7b/generate_stream",
        ),
        (
            Dialect::Gemini,
            "http://h/v1beta",
            "http://h/v1beta/models/org%2Fm:7b:streamGenerateContent?alt=sse",
        ),
    ] {
        assert_eq!(api.address(&target(api, base)).unwrap().as_str(), address);
    }
}

#[test]
fn bodies() {
    let messages =
        json!([{ "role": "system", "content": "Be brief." }, { "role": "user", "content": "Why?" }]);
    let (user, joined) = (
        json!([{ "role": "user", "content": "Why?" }]),
        "Be brief.\n\nWhy?",
    );
    let usage = json!({ "include_usage": true });
    for (api, expected) in [
        (
            Dialect::OpenaiChat,
            json!({ "model": "org/m:7b", "messages": messages, "stream": true, "stream_options": usage, "max_tokens": 64 }),
        ),
        (
            Dialect::OpenaiCompletions,
            json!({ "model": "org/m:7b", "prompt": joined, "stream": true, "stream_options": usage, "max_tokens": 64 }),
        ),
        (
            Dialect::OpenaiResponses,
            json!({ "model": "org/m:7b", "input": "Why?", "instructions": "Be brief.", "stream": true, "max_output_tokens": 64, "store": false }),
        ),
        (
            Dialect::AnthropicMessages,
            json!({ "model": "org/m:7b", "messages": user, "system": "Be brief.", "stream": true, "max_tokens": 64 }),
        ),
        (
            Dialect::OllamaChat,
            json!({ "model": "org/m:7b", "messages": messages, "stream": true, "options": { "num_predict": 64 } }),
        ),
        (
            Dialect::OllamaGenerate,
            json!({ "model": "org/m:7b", "prompt": "Why?", "system": "Be brief.", "stream": true, "options": { "num_predict": 64 } }),
        ),
        (
            Dialect::LlamacppCompletion,
            json!({ "prompt": joined, "stream": true, "n_predict": 64, "cache_prompt": false }),
        ),
        (
            Dialect::TgiGenerate,
            json!({ "inputs": joined, "parameters": { "max_new_tokens": 64, "details": true, "decoder_input_details": false } }),
        ),
        (
            Dialect::TritonGenerate,
            json!({ "text_input": joined, "parameters": { "stream": true, "max_tokens": 64 } }),
        ),
        (
            Dialect::Gemini,
            json!({
                "contents": [{ "role": "user", "parts": [{ "text": "Why?" }] }],
                "systemInstruction": { "parts": [{ "text": "Be brief." }] },
                "generationConfig": { "maxOutputTokens": 64 },
            }),
        ),
    ] {
        assert_eq!(
            body(api, Some("Be brief."), Cache::Bust),
            expected,
            "{}",
            api.as_str()
        );
        let text = body(api, None, Cache::Bust).to_string();
        assert!(
            text.contains("Why?") && !text.contains("ystem") && !text.contains("instructions"),
            "{text}"
        );
    }
    assert_eq!(
        body(Dialect::LlamacppCompletion, None, Cache::Share)["cache_prompt"],
        true
    );
}

#[test]
fn credentials_go_where_the_api_wants_them() {
    let authorization = |scheme: Option<&str>| Authorization {
        scheme: scheme.map(str::to_owned),
        credentials: Secret::Inline("key".into()),
    };
    for (api, scheme, header) in [
        (Dialect::OpenaiChat, None, ("authorization", "Bearer key")),
        (
            Dialect::TgiGenerate,
            Some("Basic"),
            ("authorization", "Basic key"),
        ),
        (Dialect::AnthropicMessages, None, ("x-api-key", "key")),
        (
            Dialect::AnthropicMessages,
            Some("Bearer"),
            ("authorization", "Bearer key"),
        ),
        (Dialect::Gemini, None, ("x-goog-api-key", "key")),
        (Dialect::Gemini, Some("Bearer"), ("authorization", "Bearer key")),
    ] {
        let (name, value) = api.credentials(&authorization(scheme));
        assert_eq!((name, value.as_str()), header);
    }
    for api in Dialect::ALL {
        let needs = !api.headers().is_empty();
        assert_eq!(needs, *api == Dialect::AnthropicMessages);
    }
}
