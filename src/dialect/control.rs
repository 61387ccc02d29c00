//! The fields of a request that say how to generate, beside how much. Where an API has none, the configuration
//! lets nothing through that would need one.

use serde_json::{Map, Value, json};

use super::Dialect;
use crate::config::plan::{Generation, Reasoning, Thinking};

/// The fields for `generation`. A target that declares no `reasoning` is told nothing of thinking.
pub(super) fn fields(
    dialect: Dialect,
    reasoning: Option<Reasoning>,
    generation: &Generation,
) -> Map<String, Value> {
    let mut fields = Map::new();
    if let Some(tokens) = generation.min_tokens.filter(|_| dialect.has_min_tokens()) {
        fields.insert("min_tokens".to_owned(), json!(tokens.0));
    }
    if generation.ignore_eos && dialect.has_ignore_eos() {
        fields.insert("ignore_eos".to_owned(), json!(true));
    }
    fields.extend(reasoning.and_then(|reasoning| thinking(dialect, reasoning, generation.thinking)));
    fields
}

/// The field that turns thinking off, or on where on is more than the server's own habit.
fn thinking(dialect: Dialect, reasoning: Reasoning, thinking: Thinking) -> Option<(String, Value)> {
    let on = thinking == Thinking::On;
    let (name, value) = match (reasoning, dialect) {
        (Reasoning::ChatTemplate, _) => ("chat_template_kwargs", json!({ "enable_thinking": on })),
        (Reasoning::Think, _) => ("think", json!(on)),
        _ if on => return None,
        (Reasoning::Effort, Dialect::OpenaiResponses) => ("reasoning", json!({ "effort": "none" })),
        (Reasoning::Effort, _) => ("reasoning_effort", json!("none")),
        (Reasoning::Budget, _) => (
            "generationConfig",
            json!({ "thinkingConfig": { "thinkingBudget": 0 } }),
        ),
        (Reasoning::Disable, _) => ("thinking", json!({ "type": "disabled" })),
    };
    Some((name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Tokens;

    #[test]
    fn length_is_controlled_where_the_api_can() {
        let all = Generation {
            min_tokens: Some(Tokens(8)),
            ignore_eos: true,
            thinking: Thinking::Off,
        };
        for &api in Dialect::ALL {
            let expected = match api {
                Dialect::OpenaiChat | Dialect::OpenaiCompletions => {
                    json!({ "min_tokens": 8, "ignore_eos": true })
                }
                Dialect::LlamacppCompletion => json!({ "ignore_eos": true }),
                _ => json!({}),
            };
            assert_eq!(
                Value::Object(fields(api, None, &all)),
                expected,
                "{}",
                api.as_str()
            );
        }
    }

    #[test]
    fn thinking_is_off_where_a_target_declares_how() {
        for (api, reasoning, off, on) in [
            (
                Dialect::OpenaiChat,
                Reasoning::ChatTemplate,
                json!({ "chat_template_kwargs": { "enable_thinking": false } }),
                json!({ "chat_template_kwargs": { "enable_thinking": true } }),
            ),
            (
                Dialect::OpenaiChat,
                Reasoning::Effort,
                json!({ "reasoning_effort": "none" }),
                json!({}),
            ),
            (
                Dialect::OpenaiResponses,
                Reasoning::Effort,
                json!({ "reasoning": { "effort": "none" } }),
                json!({}),
            ),
            (
                Dialect::OllamaChat,
                Reasoning::Think,
                json!({ "think": false }),
                json!({ "think": true }),
            ),
            (
                Dialect::Gemini,
                Reasoning::Budget,
                json!({ "generationConfig": { "thinkingConfig": { "thinkingBudget": 0 } } }),
                json!({}),
            ),
            (
                Dialect::AnthropicMessages,
                Reasoning::Disable,
                json!({ "thinking": { "type": "disabled" } }),
                json!({}),
            ),
        ] {
            assert!(reasoning.fits(api));
            for (thinking, expected) in [(Thinking::Off, off), (Thinking::On, on)] {
                let generation = Generation {
                    thinking,
                    ..Generation::default()
                };
                let said = fields(api, Some(reasoning), &generation);
                assert_eq!(Value::Object(said), expected, "{reasoning:?} {thinking:?}");
                assert!(fields(api, None, &generation).is_empty());
            }
        }
    }
}
