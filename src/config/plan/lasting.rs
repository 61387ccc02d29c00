//! What a series is called over restarts.

use serde_json::json;

use super::{Generation, Series};
use crate::{
    load::{Arrival, Process},
    prompt::{Length, Prompt, Source},
    rhythm::fnv1a,
};

impl Series {
    /// What the series is called over restarts: what was learned of another model, of another question or by another
    /// way does not hold for this one.
    pub fn lasting_name(&self) -> String {
        // Unlike joined names these cannot be mistaken for one another.
        json!([
            self.probe.name,
            self.target.name,
            self.target.model,
            self.step.load.to_string(),
            format!("{:016x}", self.what_is_measured()),
        ])
        .to_string()
    }

    /// The same number in every version of this program, and another one for another request.
    fn what_is_measured(&self) -> u64 {
        let (probe, target) = (&self.probe, &self.target);
        let mut said = Vec::new();
        // Each with its length, so that texts cannot be mistaken for one another where they are joined.
        let mut add = |text: &str| {
            said.extend_from_slice(&(text.len() as u64).to_le_bytes());
            said.extend_from_slice(text.as_bytes());
        };
        add(target.url.as_str());
        add(target.api.as_str());
        add(target.connection.as_str());
        add(target.http.as_str());
        add(&json!(target.body).to_string());
        let Prompt {
            source,
            system,
            cache,
            prefix,
        } = &probe.prompt;
        if let Some(prefix) = prefix {
            add("prefix");
            add(&json!([prefix.tokens.0, prefix.seed]).to_string());
        }
        add(cache.expected());
        add(system.as_deref().unwrap_or_default());
        match source {
            Source::Written(scripts) => {
                add("written");
                add(&json!(scripts.shares()).to_string());
                for script in scripts.iter() {
                    add(script.system.as_deref().unwrap_or_default());
                    for message in &script.before {
                        add(message.role.as_str());
                        add(&message.content);
                    }
                    for turn in &script.turns {
                        add("turn");
                        add(turn);
                    }
                }
            }
            Source::Synthetic(length) => {
                add("tokens");
                add(&match length {
                    Length::Fixed(tokens) => json!([tokens.0]),
                    Length::Uniform(from, to) => json!([from.0, to.0]),
                    Length::Normal { mean, deviation } => {
                        json!({ "mean": mean.0, "deviation": deviation.0 })
                    }
                }
                .to_string());
            }
        }
        let Generation {
            min_tokens,
            ignore_eos,
            thinking,
        } = probe.generation;
        let min_tokens = min_tokens.map(|tokens| tokens.0);
        let generation = json!([probe.max_tokens.0, min_tokens, ignore_eos, thinking.as_str()]);
        add(&generation.to_string());
        // Only what is no default, so that names which were given before last.
        match self.step.arrival {
            Arrival::Together | Arrival::Rate(Process::Poisson) => {}
            Arrival::Ramp { over } => add(&json!({ "ramp": over.as_secs_f64() }).to_string()),
            Arrival::Rate(Process::Constant) => add("constant"),
            Arrival::Rate(Process::Gamma { burstiness }) => {
                add(&json!({ "gamma": burstiness }).to_string());
            }
        }
        if probe.warmup > 0 {
            add(&json!({ "warmup": probe.warmup }).to_string());
        }
        fnv1a(said.into_iter())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use crate::config;

    const BASE: &str = "\
targets: [{ name: granite, url: 'http://localhost:11434/v1', api: openai_chat, model: granite4 }]
probes: [{ name: one, prompt: { tokens: 128 }, max_tokens: 64 }]
";

    fn name(text: &str) -> String {
        let plan =
            config::parse(text, "probes.yaml", Path::new(".")).unwrap_or_else(|error| panic!("{error}"));
        plan.series().next().unwrap().lasting_name()
    }

    /// What is kept was learned by an earlier version.
    #[test]
    fn a_name_lasts() {
        assert_eq!(
            name(BASE),
            r#"["one","granite","granite4","1 user","917da881333153fc"]"#
        );
        let told_otherwise = BASE.replace("tokens: 128", "tokens: 128, cache: bust")
            + "defaults: { every: 7m, slo: { ttft: 1s } }\n";
        assert_eq!(name(&told_otherwise), name(BASE));
    }

    #[test]
    fn what_is_measured_has_a_name_of_its_own() {
        let all = [
            ("", ""),
            ("tokens: 128", "tokens: 129"),
            ("tokens: 128", "tokens: uniform 128..129"),
            ("tokens: 128", "text: '[128]'"),
            ("tokens: 128", "text: hello"),
            ("tokens: 128", "tokens: 128, system: hello"),
            ("tokens: 128", "tokens: 128, cache: share"),
            ("max_tokens: 64", "max_tokens: 65"),
            ("max_tokens: 64", "max_tokens: 64, ignore_eos: true"),
            ("11434", "11435"),
            ("openai_chat", "openai_responses"),
            ("model: granite4", "model: granite5"),
            ("model: granite4", "model: granite4, connection: reuse"),
            ("model: granite4", "model: granite4, http: '2'"),
            ("model: granite4", "model: granite4, body: { seed: 1 }"),
            ("max_tokens: 64", "max_tokens: 64, warmup: 1"),
            ("max_tokens: 64", "max_tokens: 64, warmup: 2"),
            ("max_tokens: 64", "max_tokens: 64, concurrency: 4"),
            (
                "max_tokens: 64",
                "max_tokens: 64, concurrency: 4, arrival: { kind: ramp, over: 1s }",
            ),
            (
                "max_tokens: 64",
                "max_tokens: 64, concurrency: 4, arrival: { kind: ramp, over: 2s }",
            ),
            (
                "max_tokens: 64",
                "max_tokens: 64, requests: 9, arrival: { kind: rate, per_second: 5 }",
            ),
            (
                "max_tokens: 64",
                "max_tokens: 64, requests: 9, arrival: { kind: rate, per_second: 5, process: constant }",
            ),
            (
                "max_tokens: 64",
                "max_tokens: 64, requests: 9, arrival: { kind: rate, per_second: 5, process: gamma, burstiness: 0.5 }",
            ),
            (
                "max_tokens: 64",
                "max_tokens: 64, requests: 9, arrival: { kind: rate, per_second: 5, process: gamma, burstiness: 2 }",
            ),
        ];
        let names: BTreeSet<_> = all
            .iter()
            .map(|(this, that)| name(&BASE.replacen(this, that, 1)))
            .collect();
        assert_eq!(names.len(), all.len(), "{names:#?}");
    }
}
