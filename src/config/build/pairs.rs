//! A probe that stands for two: one whose prompts are new to the server's prefix cache, and one whose prompts are in it.

use crate::{
    config::{
        plan::{Bounds, PAIR, Probe},
        positions::NodeId,
        problem::{list, shown},
        report::Report,
    },
    prompt::{Prompt, Source},
    units::Name,
};

/// Makes NAME-cold and NAME-warm of NAME, the cold one. `names` are those of all probes.
pub(super) fn pair(
    cold: Probe,
    prompt: Prompt,
    at: NodeId,
    names: &[Option<Name>],
    report: &Report<'_>,
) -> Vec<Probe> {
    let of = shown(cold.name.as_str());
    let shared: Vec<_> = cold.targets.iter().filter(|target| target.share).collect();
    if let Some(target) = shared.first() {
        let what = format!(
            "`cache` of probe {of} is `pair`, but bursts of several probes run at once at its target {}: the two would measure one another",
            shown(target.name.as_str())
        );
        report.problem(
            at,
            what,
            "let the target have `share: false`, or name other `targets`",
        );
    }
    let [cold_name, warm_name] = PAIR.map(|which| format!("{}-{which}", cold.name));
    let taken: Vec<_> = [cold_name.as_str(), warm_name.as_str()]
        .into_iter()
        .filter(|name| names.iter().flatten().any(|taken| taken.as_str() == *name))
        .collect();
    if !taken.is_empty() {
        let what = format!(
            "`cache` of probe {of} is `pair`, which makes two probes of it, but there is another probe {} already",
            list(&taken)
        );
        report.problem(at, what, "give one of them another name");
    }
    let (cold_name, warm_name) = match (Name::new(&cold_name), Name::new(&warm_name)) {
        (Ok(cold), Ok(warm)) => (cold, warm),
        (Err(what), _) | (_, Err(what)) => {
            let what = format!(
                "`cache` of probe {of} is `pair`, which makes {} of it: {what}",
                shown(&cold_name)
            );
            report.problem(at, what, "give the probe a shorter name");
            return Vec::new();
        }
    };
    if let Source::Written(scripts) = &cold.prompt.source
        && scripts.iter().count() > 1
    {
        let what = format!(
            "`cache` of probe {of} is `pair`, but one request warms one prompt, and there are several"
        );
        report.problem(
            at,
            what,
            "ask one prompt, or made-up ones with `tokens` and `prefix_tokens`",
        );
    }
    let capacity = cold.capacity.map(Bounds::warmed);
    let warm = Probe {
        name: warm_name,
        capacity,
        // What is shared has to be in the cache before it is measured.
        warmup: cold.warmup.max(1),
        prompt,
        ..cold.clone()
    };
    let cold = Probe {
        name: cold_name,
        ..cold
    };
    vec![cold, warm]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config;

    #[test]
    fn a_pair_is_named_by_what_was_written() {
        let text = "targets: [{ name: t, url: 'http://127.0.0.1:9', api: openai_chat, model: m }]\n\
            probes:\n  - { name: chat, every: 1m, prompt: { tokens: 1000, prefix_tokens: 900, cache: pair } }\n  \
            - { name: other, every: 1m }\n";
        let named = |names: &[&str]| {
            let plan = config::parse(text, "probes.yaml", Path::new(".")).unwrap();
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            let only = plan.only(&names)?;
            Ok(only
                .probes()
                .iter()
                .map(|probe| probe.name.to_string())
                .collect::<Vec<_>>())
        };
        assert_eq!(named(&["chat"]), Ok(vec!["chat-cold".into(), "chat-warm".into()]));
        assert_eq!(
            named(&["chat-warm", "other"]),
            Ok(vec!["chat-warm".into(), "other".into()])
        );
        assert_eq!(
            named(&["chat", "others"]),
            Err("no probe is named `others`; there are `chat-cold`, `chat-warm`, `other`".to_owned())
        );
    }
}
