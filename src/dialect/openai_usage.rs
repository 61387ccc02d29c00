//! What OpenAI-like servers say of tokens and times, wherever they say it.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::{Count, server_time};
use crate::{
    units::{Seconds, Tokens},
    usage::{ServerPhases, Usage},
};

/// A chunk of chat and completions. Azure's first one has no choices, its filter results come in choices without a delta.
#[derive(Deserialize)]
pub(super) struct Chunk<'a> {
    #[serde(borrow, default)]
    pub(super) choices: Option<&'a RawValue>,
    #[serde(default)]
    usage: Option<ChunkUsage>,
    #[serde(default)]
    x_groq: Option<Groq>,
    #[serde(default)]
    timings: Option<Timings>,
    #[serde(default)]
    metrics: Option<Metrics>,
}

impl Chunk<'_> {
    pub(super) fn usage(&self) -> Usage {
        let groq = self.x_groq.as_ref().and_then(|groq| groq.usage.as_ref());
        // What is not in the usage may be in the times.
        let mut usage = self.timings.as_ref().map(Timings::usage).unwrap_or_default();
        for said in [groq, self.usage.as_ref()].into_iter().flatten() {
            usage.update(said.usage());
        }
        usage
    }

    pub(super) fn phases(&self) -> ServerPhases {
        let groq = self.x_groq.as_ref().and_then(|groq| groq.usage.as_ref());
        let mut phases = self.timings.as_ref().map(Timings::phases).unwrap_or_default();
        for said in [groq, self.usage.as_ref()].into_iter().flatten() {
            phases.update(said.phases());
        }
        if let Some(metrics) = &self.metrics {
            phases.update(metrics.phases());
        }
        phases
    }
}

#[derive(Deserialize)]
pub(super) struct ChunkUsage {
    #[serde(default)]
    prompt_tokens: Option<Count>,
    #[serde(default)]
    completion_tokens: Option<Count>,
    #[serde(default)]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(default)]
    completion_tokens_details: Option<CompletionDetails>,
    /// `DeepSeek`'s, beside the details.
    #[serde(default)]
    prompt_cache_hit_tokens: Option<Count>,
    /// Groq's times, in seconds.
    #[serde(default)]
    queue_time: Option<f64>,
    #[serde(default)]
    prompt_time: Option<f64>,
    #[serde(default)]
    completion_time: Option<f64>,
}

#[derive(Deserialize)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: Option<Count>,
}

#[derive(Deserialize)]
struct CompletionDetails {
    #[serde(default)]
    reasoning_tokens: Option<Count>,
}

/// Groq has its own place for usage in a stream.
#[derive(Deserialize)]
pub(super) struct Groq {
    #[serde(default)]
    usage: Option<ChunkUsage>,
}

/// llama.cpp's own counts and times, in milliseconds.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Timings {
    /// Tokens of the prompt that came from the cache, and those that did not.
    #[serde(default)]
    cache_n: Option<Count>,
    #[serde(default)]
    prompt_n: Option<Count>,
    #[serde(default)]
    predicted_n: Option<Count>,
    #[serde(default)]
    prompt_ms: Option<f64>,
    #[serde(default)]
    predicted_ms: Option<f64>,
}

/// vLLM's own times (`--enable-per-request-metrics`), in milliseconds.
#[derive(Deserialize)]
pub(super) struct Metrics {
    /// From the arrival of the request, waiting included.
    #[serde(rename = "time_to_first_token_ms", default)]
    ttft: Option<f64>,
    #[serde(rename = "queue_time_ms", default)]
    queue: Option<f64>,
    #[serde(rename = "generation_time_ms", default)]
    generation: Option<f64>,
}

pub(super) fn tokens(count: Option<Count>) -> Option<Tokens> {
    count.map(|Count(count)| Tokens(count))
}

impl ChunkUsage {
    fn usage(&self) -> Usage {
        let details = self.prompt_tokens_details.as_ref();
        let cached = details.and_then(|details| details.cached_tokens);
        let reasoning = self
            .completion_tokens_details
            .as_ref()
            .and_then(|details| details.reasoning_tokens);
        Usage {
            prompt: tokens(self.prompt_tokens),
            cached_prompt: tokens(cached.or(self.prompt_cache_hit_tokens)),
            output: tokens(self.completion_tokens),
            reasoning: tokens(reasoning),
        }
    }

    fn phases(&self) -> ServerPhases {
        ServerPhases {
            load: self.queue_time.and_then(server_time),
            prompt: self.prompt_time.and_then(server_time),
            decode: self.completion_time.and_then(server_time),
        }
    }
}

impl Timings {
    pub(super) fn usage(&self) -> Usage {
        let prompt = self.prompt_n.map(|Count(evaluated)| {
            let Count(cached) = self.cache_n.unwrap_or(Count(0));
            Tokens(evaluated.saturating_add(cached))
        });
        Usage {
            prompt,
            cached_prompt: tokens(self.cache_n),
            output: tokens(self.predicted_n),
            reasoning: None,
        }
    }

    pub(super) fn phases(&self) -> ServerPhases {
        ServerPhases {
            load: None,
            prompt: self.prompt_ms.and_then(milliseconds),
            decode: self.predicted_ms.and_then(milliseconds),
        }
    }
}

impl Metrics {
    fn phases(&self) -> ServerPhases {
        let load = self.queue.and_then(milliseconds);
        // Where the wait makes no sense, nor does what is left without it.
        let prompt = match (self.ttft, self.queue) {
            (Some(ttft), Some(queue)) => load.and_then(|_| milliseconds(ttft - queue)),
            (ttft, _) => ttft.and_then(milliseconds),
        };
        ServerPhases {
            load,
            prompt,
            decode: self.generation.and_then(milliseconds),
        }
    }
}

fn milliseconds(ms: f64) -> Option<Seconds> {
    server_time(ms / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_cannot_be_are_not_reported() {
        let metrics = |ttft, queue| {
            let phases = Metrics {
                ttft,
                queue,
                generation: Some(1e300),
            }
            .phases();
            (phases.load, phases.prompt, phases.decode)
        };
        let second = Some(Seconds::new(1.0));
        assert_eq!(metrics(Some(2000.0), Some(1000.0)), (second, second, None));
        assert_eq!(metrics(Some(1000.0), None), (None, second, None));
        assert_eq!(metrics(Some(500.0), Some(1000.0)), (second, None, None));
        assert_eq!(metrics(Some(1000.0), Some(-1.0)), (None, None, None));
        let timings: Timings = serde_json::from_str(r#"{"prompt_ms":-1.0,"predicted_ms":1e300}"#).unwrap();
        assert_eq!(timings.phases(), ServerPhases::default());
        let groq = r#"{"queue_time":-1,"prompt_time":86401,"completion_time":86400}"#;
        let phases = serde_json::from_str::<ChunkUsage>(groq).unwrap().phases();
        assert_eq!((phases.load, phases.prompt), (None, None));
        assert_eq!(phases.decode, Some(Seconds::new(86_400.0)));
    }
}
