//! What is asked, and where.

use llm_probe_exporter::{
    config::{
        plan::{Authorization, Connection, Generation, HttpVersion, Reach, Target, TextMode},
        secret::Secret,
    },
    dialect::Dialect,
    prompt::{Cache, Message, Question, Role},
    units::{Name, Tokens},
};
use serde_json::{Value, json};

fn target(api: Dialect, url: &str) -> Target {
    Target {
        oauth2: None,
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

fn asked(api: Dialect, question: &Question) -> Value {
    serde_json::from_slice(&api.body(
        &target(api, "http://h"),
        question,
        Tokens(64),
        &Generation::default(),
    ))
    .unwrap()
}

fn body(api: Dialect, system: Option<&str>, cache: Cache) -> Value {
    let question = Question {
        system: system.map(str::to_owned),
        messages: vec![Message::new(Role::User, "Why?")],
        is_dialogue: false,
        cache,
    };
    asked(api, &question)
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
    let items = json!([{ "type": "message", "role": "user", "content": "Why?" }]);
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
            json!({ "model": "org/m:7b", "input": items, "instructions": "Be brief.", "stream": true, "max_output_tokens": 64, "store": false }),
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

/// Where each API has what was said: after two turns and before the third.
#[test]
fn messages() {
    let question = Question {
        system: Some("Be brief.".into()),
        messages: vec![
            Message::new(Role::User, "Why?"),
            Message::new(Role::Assistant, " Because \"it\" is.\n"),
            Message::new(Role::User, "Really?"),
        ],
        is_dialogue: true,
        cache: Cache::Share,
    };
    let answer = " Because \"it\" is.\n";
    let transcript = "User: Why?\n\nAssistant: Because \"it\" is.\n\nUser: Really?\n\nAssistant:";
    let text = json!(format!("Be brief.\n\n{transcript}"));
    let spoken = json!([
        { "role": "user", "content": "Why?" },
        { "role": "assistant", "content": answer },
        { "role": "user", "content": "Really?" },
    ]);
    let chat = json!([
        { "role": "system", "content": "Be brief." },
        { "role": "user", "content": "Why?" },
        { "role": "assistant", "content": answer },
        { "role": "user", "content": "Really?" },
    ]);
    let items = json!([
        { "type": "message", "role": "user", "content": "Why?" },
        {
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{ "type": "output_text", "text": answer, "annotations": [] }],
        },
        { "type": "message", "role": "user", "content": "Really?" },
    ]);
    let contents = json!([
        { "role": "user", "parts": [{ "text": "Why?" }] },
        { "role": "model", "parts": [{ "text": answer }] },
        { "role": "user", "parts": [{ "text": "Really?" }] },
    ]);
    let parts = json!({ "parts": [{ "text": "Be brief." }] });
    for (api, expected) in [
        (Dialect::OpenaiChat, vec![("messages", chat.clone())]),
        (Dialect::OpenaiCompletions, vec![("prompt", text.clone())]),
        (
            Dialect::OpenaiResponses,
            vec![("instructions", json!("Be brief.")), ("input", items)],
        ),
        (
            Dialect::AnthropicMessages,
            vec![("system", json!("Be brief.")), ("messages", spoken)],
        ),
        (Dialect::OllamaChat, vec![("messages", chat)]),
        (
            Dialect::OllamaGenerate,
            vec![("system", json!("Be brief.")), ("prompt", json!(transcript))],
        ),
        (
            Dialect::LlamacppCompletion,
            vec![("prompt", text.clone()), ("cache_prompt", json!(true))],
        ),
        (Dialect::TgiGenerate, vec![("inputs", text.clone())]),
        (Dialect::TritonGenerate, vec![("text_input", text)]),
        (
            Dialect::Gemini,
            vec![("systemInstruction", parts), ("contents", contents)],
        ),
    ] {
        let body = asked(api, &question);
        for (key, expected) in expected {
            assert_eq!(body[key], expected, "{} {key}", api.as_str());
        }
    }
}

/// What was asked first is the beginning of what is asked next, so that a server can go on from there.
#[test]
fn a_dialogue_begins_like_its_first_question() {
    let first = Question {
        system: None,
        messages: vec![Message::new(Role::User, "Why?")],
        is_dialogue: true,
        cache: Cache::Share,
    };
    let mut second = first.clone();
    second.messages.extend([
        Message::new(Role::Assistant, " So."),
        Message::new(Role::User, "Really?"),
    ]);
    for (api, key) in [
        (Dialect::OpenaiCompletions, "prompt"),
        (Dialect::OllamaGenerate, "prompt"),
        (Dialect::LlamacppCompletion, "prompt"),
        (Dialect::TgiGenerate, "inputs"),
        (Dialect::TritonGenerate, "text_input"),
    ] {
        let text = |question| asked(api, question)[key].as_str().unwrap().to_owned();
        let continued = format!("{} So.\n\nUser: Really?", text(&first));
        assert!(text(&second).starts_with(&continued), "{}", api.as_str());
    }
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
