//! What is served where.
//!
//! - `POST /v1/chat/completions`, `/v1/completions`, `/v1/responses` OpenAI's APIs
//! - `POST /v1/messages` Anthropic's
//! - `POST /api/chat`, `/api/generate` Ollama's
//! - `POST /completion` llama.cpp's own
//! - `POST /generate_stream`, `/generate` Text Generation Inference's
//! - `POST /v2/models/MODEL[/versions/VERSION]/generate_stream`, `…/generate` Triton's
//! - `POST /v1beta/models/MODEL:streamGenerateContent`, `…:generateContent` Gemini's
//! - `GET /v1/models`, `GET /api/tags` the one model there is
//! - `POST /tokenize` vLLM's, where the machine runs vLLM
//! - `GET /health` always 200, whatever the queue: that is the point
//! - `GET /metrics` under vLLM's names
//! - `GET /sim/requests?since=SEQ&limit=N` the truth, a [`Page`](super::journal::Page); `DELETE` forgets it
//! - `GET /sim/faults` the faults in force; `PUT` and `POST` replace them, `DELETE` ends them

use std::io;

use super::{
    api::{Api, Prompt, Route, models, tags, tokenize},
    connection::Request,
    exposition,
    http1::Method,
    outlet::{Outlet, ResponseHead},
    pace::monotonic,
    server::{JSON, Service},
};

impl Service {
    /// `Err` when the client is gone.
    pub(super) async fn answer(&self, outlet: &mut Outlet<'_>, request: Request) -> io::Result<()> {
        let head = &request.head;
        let route = Route::at(&head.path);
        if let Some(route) = &route
            && head.method == Method::Post
        {
            return self.generate(outlet, request, route).await;
        }
        let error = |error: &str| serde_json::json!({ "error": error }).to_string().into_bytes();
        let (status, content_type, body) = match (head.method, head.path.as_str()) {
            (Method::Get, "/v1/models") => {
                (200, JSON, models(&self.model, self.started, self.context).into())
            }
            (Method::Get, "/api/tags") => (200, JSON, tags(&self.model, self.started).into()),
            (Method::Post, "/tokenize") if self.tokenizes => self.tokenized(&request.body),
            (Method::Get, "/health") => (200, JSON, Vec::new()),
            (Method::Get, "/metrics") => (
                200,
                "text/plain; version=0.0.4; charset=utf-8",
                exposition::render(&self.machines.main().snapshot(), &self.model).into(),
            ),
            (Method::Get, "/sim/requests") => match self.truth(&head.query).await {
                Some(page) => (200, JSON, page),
                None => (400, JSON, error("since and limit are whole numbers")),
            },
            (Method::Delete, "/sim/requests") => {
                self.journal.clear();
                (200, JSON, b"{}".to_vec())
            }
            (Method::Get, "/sim/faults") => (200, JSON, self.faults.listing().into()),
            (Method::Put | Method::Post | Method::Delete, "/sim/faults") => {
                let replaced = if head.method == Method::Delete {
                    self.faults.replace(Vec::new(), monotonic());
                    Ok(())
                } else {
                    self.faults.replace_by(&request.body, monotonic())
                };
                self.machines.set_drift(self.faults.drift());
                match replaced {
                    Ok(()) => (200, JSON, self.faults.listing().into()),
                    Err(problem) => (400, JSON, error(&problem)),
                }
            }
            (_, "/v1/models" | "/api/tags" | "/health" | "/metrics" | "/sim/requests" | "/sim/faults") => {
                (405, JSON, br#"{"detail":"Method Not Allowed"}"#.to_vec())
            }
            _ if route.is_some() => (405, JSON, br#"{"detail":"Method Not Allowed"}"#.to_vec()),
            _ => (404, JSON, br#"{"detail":"Not Found"}"#.to_vec()),
        };
        let head = ResponseHead {
            status,
            content_type,
            headers: &[],
        };
        outlet.whole(head, &body).await.map(drop)
    }

    fn tokenized(&self, body: &[u8]) -> (u16, &'static str, Vec<u8>) {
        let api = Api::OpenaiChat;
        match tokenize(body, &self.model, Prompt::new(self.counting, false), self.context) {
            Ok(answer) => (200, JSON, answer.into()),
            Err(refused) => (api.status(&refused), JSON, api.wire().error(&refused).into()),
        }
    }

    /// `None` when the query is not understood.
    async fn truth(&self, query: &str) -> Option<Vec<u8>> {
        let (mut since, mut limit) = (0, usize::MAX);
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match key.as_ref() {
                "since" => since = value.parse().ok()?,
                "limit" => limit = value.parse().ok()?,
                _ => return None,
            }
        }
        let page = self.journal.page(since, limit);
        // Tens of megabytes of digits must not delay tokens on this worker.
        let body = tokio::task::spawn_blocking(move || serde_json::to_vec(&page)).await;
        body.ok()?.ok()
    }
}
