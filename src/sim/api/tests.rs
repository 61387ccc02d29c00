use super::*;

/// Every API with a path, a body that asks two words for seven tokens, and how many tokens that prompt has.
const APIS: [(&str, &str, u64); 10] = [
    (
        "/v1/chat/completions",
        r#"{"model":"m","messages":[{"role":"user","content":"a b"}],"max_tokens":7,"stream":true}"#,
        9,
    ),
    (
        "/v1/completions",
        r#"{"model":"m","prompt":"a b","max_tokens":7,"stream":true}"#,
        2,
    ),
    (
        "/v1/responses",
        r#"{"model":"m","input":"a b","max_output_tokens":7,"stream":true}"#,
        9,
    ),
    (
        "/v1/messages",
        r#"{"model":"m","messages":[{"role":"user","content":"a b"}],"max_tokens":7,"stream":true}"#,
        9,
    ),
    (
        "/api/chat",
        r#"{"model":"m","messages":[{"role":"user","content":"a b"}],"options":{"num_predict":7}}"#,
        9,
    ),
    (
        "/api/generate",
        r#"{"model":"m:latest","prompt":"a b","options":{"num_predict":7}}"#,
        9,
    ),
    (
        "/completion",
        r#"{"prompt":"a b","n_predict":7,"stream":true}"#,
        2,
    ),
    (
        "/generate_stream",
        r#"{"inputs":"a b","parameters":{"max_new_tokens":7}}"#,
        2,
    ),
    (
        "/v2/models/m/versions/3/generate_stream",
        r#"{"text_input":"a b","parameters":{"max_tokens":7}}"#,
        2,
    ),
    (
        "/v1beta/models/m:streamGenerateContent",
        r#"{"contents":[{"role":"user","parts":[{"text":"a b"}]}],"generationConfig":{"maxOutputTokens":7}}"#,
        9,
    ),
];

fn ask(path: &str, body: &str) -> Result<Ask, u16> {
    let route = Route::at(path).unwrap();
    let asked = route
        .api
        .wire()
        .ask(body.as_bytes(), &route, "m", Prompt::default());
    asked.map_err(|refused| route.api.status(&refused))
}

#[test]
fn every_api_reads_prompt_and_limit() {
    for (path, body, prompt) in APIS {
        let ask = ask(path, body).unwrap();
        assert_eq!((ask.prompt.tokens, ask.output_tokens), (prompt, 7), "{path}");
        assert!(ask.stream, "{path}");
    }
}

#[test]
fn paths_say_what_is_spoken() {
    for (path, api, model, stream) in [
        ("/generate", Api::TgiGenerate, None, Some(false)),
        (
            "/v2/models/m/generate",
            Api::TritonGenerate,
            Some("m"),
            Some(false),
        ),
        (
            "/v1beta/models/m:generateContent",
            Api::Gemini,
            Some("m"),
            Some(false),
        ),
        ("/v1/responses", Api::OpenaiResponses, None, None),
    ] {
        let expected = Route {
            api,
            model: model.map(str::to_owned),
            stream,
        };
        assert_eq!(Route::at(path), Some(expected), "{path}");
    }
    for path in [
        "/",
        "/v1/chat",
        "/v2/models/m/versions/1/2/generate",
        "/v2/models/a/b/generate",
        "/v1beta/models/m:countTokens",
        "/v1beta/models/m",
    ] {
        assert_eq!(Route::at(path), None, "{path}");
    }
}

#[test]
fn what_else_a_request_may_say() {
    let chat = r#""model":"m","messages":[{"role":"user","content":"a b"}]"#;
    for (rest, tokens, stream, usage) in [
        ("", 128, false, UsageIn::Nowhere),
        (
            r#","max_tokens":9,"max_completion_tokens":7"#,
            7,
            false,
            UsageIn::Nowhere,
        ),
        (
            r#","stream":true,"stream_options":{"include_usage":true},"temperature":0,"ignore_eos":true"#,
            128,
            true,
            UsageIn::Place,
        ),
        (
            r#","stream_options":{"include_usage":true,"continuous_usage_stats":true}"#,
            128,
            false,
            UsageIn::EveryFrame,
        ),
    ] {
        let ask = ask("/v1/chat/completions", &format!("{{{chat}{rest}}}")).unwrap();
        assert_eq!(
            (ask.output_tokens, ask.stream, ask.usage),
            (tokens, stream, usage),
            "{rest}"
        );
    }
    let ollama = r#"{"model":"m","messages":[{"content":"a b"}],"#;
    for (rest, tokens, stream) in [
        (r#""stream":false}"#, 128, false),
        (r#""options":{"num_predict":-1}}"#, 128, true),
    ] {
        let ask = ask("/api/chat", &format!("{ollama}{rest}")).unwrap();
        assert_eq!((ask.output_tokens, ask.stream), (tokens, stream), "{rest}");
    }
    for path in ["/api/chat", "/api/generate"] {
        assert_eq!(
            ask(path, r#"{"model":"m"}"#).unwrap().output_tokens,
            0,
            "only load"
        );
    }
    let parts = r#"{"model":"m","input":[{"role":"user","content":[{"type":"input_text","text":"a b"}]}],"instructions":"c"}"#;
    assert_eq!(
        ask("/v1/responses", parts).unwrap().prompt.tokens,
        2 + 1 + 2 * 4 + 3
    );
    assert_eq!(
        ask("/v1/completions", r#"{"model":"m","prompt":[5,6,7]}"#)
            .unwrap()
            .prompt
            .tokens,
        3
    );
}

#[test]
fn mistakes_have_the_status_of_the_real_server() {
    for (path, body, _) in APIS {
        for broken in ["", "{", "[]", r#""x""#] {
            assert_eq!(ask(path, broken).unwrap_err(), 400, "{path} {broken}");
        }
        if body.contains(r#":"m"#) {
            assert_eq!(
                ask(path, &body.replace(r#":"m"#, r#":"M"#)).unwrap_err(),
                404,
                "{path}"
            );
        }
        let other = path.replace("/m", "/M");
        if Route::at(&other).is_some_and(|route| route.model.is_some()) {
            assert_eq!(ask(&other, body).unwrap_err(), 404, "{path}");
        }
    }
    for (path, body) in [
        ("/v1/chat/completions", r#"{"model":"m","messages":[]}"#),
        (
            "/v1/chat/completions",
            r#"{"model":"m","messages":[{}],"max_tokens":0}"#,
        ),
        (
            "/v1/chat/completions",
            r#"{"model":"m","messages":[{}],"max_tokens":-1}"#,
        ),
        ("/v1/messages", r#"{"model":"m","messages":[{}]}"#),
        ("/v1/messages", r#"{"model":"m","messages":[],"max_tokens":1}"#),
        ("/v1beta/models/m:streamGenerateContent", r#"{"contents":[]}"#),
    ] {
        assert_eq!(ask(path, body).unwrap_err(), 400, "{body}");
    }
}

#[test]
fn errors_do_not_repeat_megabytes() {
    for (path, ..) in APIS {
        let route = Route::at(path).unwrap();
        let long = "é".repeat(1 << 20);
        let body = format!(
            r#"{{"model":"m","messages":"{long}","prompt":{{}},"input":[5],"inputs":5,"contents":"{long}","text_input":5}}"#
        );
        let wire = route.api.wire();
        let refused = wire.ask(body.as_bytes(), &route, "m", Prompt::default());
        if let Err(refused) = refused {
            assert!(wire.error(&refused).len() < 1000, "{path}");
        }
        let unknown = Refused::unknown_model(&long);
        assert!(wire.error(&unknown).len() < 1000, "{path}");
    }
}

#[test]
fn each_api_says_no_in_its_own_shape() {
    let at = |error: &str, pointer: &str| {
        let json: serde_json::Value = serde_json::from_str(error).unwrap();
        json.pointer(pointer).cloned().unwrap_or_default()
    };
    let limited = Refused::Status(429);
    for (path, pointer, expected) in [
        ("/v1/chat/completions", "/error/type", "RateLimitError"),
        ("/v1/completions", "/error/code", "429"),
        ("/v1/responses", "/error/type", "RateLimitError"),
        ("/v1/messages", "/error/type", "rate_limit_error"),
        ("/v1/messages", "/type", "error"),
        ("/completion", "/error/code", "429"),
        ("/generate", "/error_type", "generation"),
        (
            "/v1beta/models/m:generateContent",
            "/error/status",
            "RESOURCE_EXHAUSTED",
        ),
        (
            "/v1beta/models/m:generateContent",
            "/error/details/0/retryDelay",
            "17s",
        ),
    ] {
        let error = Route::at(path).unwrap().api.wire().error(&limited);
        let found = at(&error, pointer);
        let found = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
        assert_eq!(found, expected, "{path}: {error}");
    }
    for path in ["/api/chat", "/api/generate", "/v2/models/m/generate"] {
        let error = Route::at(path).unwrap().api.wire().error(&limited);
        assert!(at(&error, "/error").is_string(), "{error}");
    }
    for (path, _, _) in APIS {
        let api = Route::at(path).unwrap().api;
        let expected = match api {
            Api::AnthropicMessages => 529,
            Api::TgiGenerate => 429,
            _ => 503,
        };
        assert_eq!(api.status(&Refused::QueueFull), expected);
    }
}
