//! The rules in force, and which of them a request meets.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fastrand::Rng;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::{
    Drift, Fault, Instead, Orders, Rule, RuleError,
    cold::Residency,
    grammar::Retry,
    limiter::{Limiter, Verdict, go_duration},
};

/// The rules in force. Instants are [`monotonic`](crate::sim::pace::monotonic).
#[derive(Debug)]
pub(in crate::sim) struct Faults {
    plan: Mutex<Plan>,
    seed: u64,
    /// Wakes the door when the rules have changed.
    pub changed: Notify,
}

#[derive(Debug, Default)]
struct Plan {
    since: Duration,
    live: Vec<Live>,
}

/// A rule with what it remembers.
#[derive(Debug)]
struct Live {
    rule: Rule,
    rng: Rng,
    seen: u64,
    applied: u64,
    limiter: Option<Limiter>,
    residency: Option<Residency>,
}

/// What becomes of those who want to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim) enum Doorway {
    Open,
    Refuse,
    Deaf,
}

/// The body of `GET /sim/faults`, and of what replaces them.
#[derive(Debug, Serialize, Deserialize)]
struct Listing {
    faults: Vec<Item>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Item {
    Text(String),
    Live {
        fault: String,
        #[serde(default)]
        applied: u64,
    },
}

impl Live {
    fn new(rule: Rule, seed: u64) -> Self {
        let limiter = match rule.fault {
            Fault::Limit { requests, per } => Some(Limiter::new(requests, per)),
            _ => None,
        };
        let residency = match rule.fault {
            Fault::Cold { load, idle } => Some(Residency::new(load, idle)),
            _ => None,
        };
        Self {
            rule,
            // Its own, so that one rule's draws do not depend on what other rules there are.
            rng: Rng::with_seed(seed),
            seen: 0,
            applied: 0,
            limiter,
            residency,
        }
    }

    /// Within its time, `age` after it came into force.
    fn is_in_time(&self, age: Duration) -> bool {
        let when = &self.rule.when;
        when.from.is_none_or(|from| age >= from) && when.to.is_none_or(|to| age < to)
    }

    /// Whether this request meets it.
    fn meets(&mut self, age: Duration) -> bool {
        if self.rule.fault.is_of_the_server() || !self.is_in_time(age) {
            return false;
        }
        self.seen += 1;
        let when = &self.rule.when;
        when.every.is_none_or(|every| self.seen.is_multiple_of(every))
            && when.times.is_none_or(|times| self.applied < times)
            && when.chance.is_none_or(|chance| self.rng.f64() < chance)
    }

    fn apply(&mut self, now: Duration, orders: &mut Orders) {
        let label = self.rule.label();
        let applies = if let Some(limiter) = &mut self.limiter {
            let verdict = limiter.ask(now);
            limit_headers(&verdict, &mut orders.headers);
            verdict.wait.is_some() && {
                let retry = Vec::new(); // the headers are there already
                let limited = Fault::Instead(Instead::Status { status: 429, retry });
                orders.take(&limited, label)
            }
        } else if let Some(residency) = &mut self.residency {
            let loaded = residency.ask(now);
            if loaded.is_some() {
                orders.loaded = orders.loaded.max(loaded);
                orders.applied.push(label.to_owned());
            }
            loaded.is_some()
        } else {
            orders.take(&self.rule.fault, label)
        };
        self.applied += u64::from(applies);
    }
}

impl Faults {
    pub(in crate::sim) fn new(rules: Vec<Rule>, seed: u64, now: Duration) -> Self {
        let faults = Self {
            plan: Mutex::default(),
            seed,
            changed: Notify::new(),
        };
        faults.replace(rules, now);
        faults
    }

    /// The rules of the plan give way to these, whose time runs from `now`.
    pub(in crate::sim) fn replace(&self, rules: Vec<Rule>, now: Duration) {
        let live = (0..)
            .zip(rules)
            .map(|(index, rule)| Live::new(rule, self.seed.wrapping_add(index)))
            .collect();
        *self.lock() = Plan { since: now, live };
        self.changed.notify_one();
    }

    /// Replaces them by what a JSON body says.
    pub(in crate::sim) fn replace_by(&self, body: &[u8], now: Duration) -> Result<(), String> {
        let listing: Listing = serde_json::from_slice(body)
            .map_err(|error| format!(r#"the body is not {{"faults": ["stall@5 every=3", …]}}: {error}"#))?;
        let rules = listing.faults.iter().map(|item| match item {
            Item::Text(text) | Item::Live { fault: text, .. } => text.parse(),
        });
        let rules = rules.collect::<Result<Vec<_>, RuleError>>();
        self.replace(rules.map_err(|error| error.to_string())?, now);
        Ok(())
    }

    /// The body of `GET /sim/faults`.
    pub(in crate::sim) fn listing(&self) -> String {
        let plan = self.lock();
        let faults = plan.live.iter().map(|live| Item::Live {
            fault: live.rule.text.clone(),
            applied: live.applied,
        });
        let faults = faults.collect();
        drop(plan);
        serde_json::to_string(&Listing { faults }).unwrap_or_default()
    }

    /// What a request that came at `now` with this `X-Sim-Fault` meets: first its own, then the plan's.
    pub(in crate::sim) fn orders(&self, header: Option<&str>, now: Duration) -> Result<Orders, RuleError> {
        let mut orders = Orders::default();
        if let Some(header) = header {
            for rule in Rule::of_header(header)? {
                Live::new(rule, self.seed).apply(now, &mut orders);
            }
        }
        let mut plan = self.lock();
        let age = now.saturating_sub(plan.since);
        for live in &mut plan.live {
            if live.meets(age) {
                live.apply(now, &mut orders);
            } else if matches!(live.rule.fault, Fault::Drift(_)) && live.is_in_time(age) {
                live.applied += 1;
                orders.applied.push(live.rule.label().to_owned());
            }
        }
        Ok(orders)
    }

    /// A request has ended.
    pub(in crate::sim) fn ended(&self, now: Duration) {
        for residency in self
            .lock()
            .live
            .iter_mut()
            .filter_map(|live| live.residency.as_mut())
        {
            residency.used(now);
        }
    }

    /// What becomes of those who connect at `now`, and when that may change by itself.
    pub(in crate::sim) fn door(&self, now: Duration) -> (Doorway, Option<Duration>) {
        let plan = self.lock();
        let age = now.saturating_sub(plan.since);
        let doors = plan.live.iter().filter_map(|live| match live.rule.fault {
            Fault::Refuse => Some((Doorway::Refuse, live)),
            Fault::Deaf => Some((Doorway::Deaf, live)),
            _ => None,
        });
        let (mut doorway, mut next) = (Doorway::Open, None::<Duration>);
        for (kind, live) in doors {
            if doorway == Doorway::Open && live.is_in_time(age) {
                doorway = kind;
            }
            for edge in [live.rule.when.from, live.rule.when.to].into_iter().flatten() {
                if edge > age {
                    next = Some(next.map_or(edge, |next| next.min(edge)));
                }
            }
        }
        (doorway, next.map(|age| plan.since + age))
    }

    /// How the machine gets slower.
    pub(in crate::sim) fn drift(&self) -> Option<Drift> {
        let plan = self.lock();
        plan.live.iter().find_map(|live| match live.rule.fault {
            Fault::Drift(per_second) => Some(Drift {
                per_second,
                from: plan.since + live.rule.when.from.unwrap_or_default(),
                to: live.rule.when.to.map(|to| plan.since + to),
            }),
            _ => None,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// OpenAI's names.
fn limit_headers(verdict: &Verdict, headers: &mut Vec<(&'static str, String)>) {
    headers.push(("x-ratelimit-limit-requests", verdict.limit.to_string()));
    headers.push(("x-ratelimit-remaining-requests", verdict.remaining.to_string()));
    headers.push(("x-ratelimit-reset-requests", go_duration(verdict.reset)));
    if let Some(wait) = verdict.wait {
        let millis = wait.as_millis().max(1);
        headers.push(("retry-after-ms", millis.to_string()));
        headers.push(("retry-after", millis.div_ceil(1000).to_string()));
    }
}

impl Retry {
    /// The header; `now` is wall time since the Unix epoch.
    pub(in crate::sim) fn header(&self, anthropic: bool, now: Duration) -> (&'static str, String) {
        match self {
            Self::After(text) => ("retry-after", text.clone()),
            Self::Millis(text) => ("retry-after-ms", text.clone()),
            Self::Date(after) => {
                let at = std::time::UNIX_EPOCH + now + *after;
                ("retry-after", httpdate::fmt_http_date(at))
            }
            Self::Reset(after) if anthropic => {
                let at = std::time::UNIX_EPOCH + now + *after;
                let at = humantime::format_rfc3339_seconds(at).to_string();
                ("anthropic-ratelimit-requests-reset", at)
            }
            Self::Reset(after) => ("x-ratelimit-reset-requests", go_duration(*after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::fault::{Act, Place};

    const START: Duration = Duration::from_secs(1000);

    fn faults(rules: &[&str]) -> Faults {
        let rules = rules.iter().map(|text| text.parse().unwrap()).collect();
        Faults::new(rules, 1, START)
    }

    /// The place of the event that each of `requests`, one a second, meets.
    fn events(faults: &Faults, requests: u64) -> Vec<u64> {
        let met = |second: &u64| {
            let orders = faults.orders(None, START + Duration::from_secs(*second)).unwrap();
            orders.event.is_some()
        };
        (0..requests).filter(met).collect()
    }

    #[test]
    fn conditions_say_which_requests_meet_a_rule() {
        for (rule, expected) in [
            ("stall", vec![0, 1, 2, 3, 4, 5, 6, 7]),
            ("stall every=3", vec![2, 5]),
            ("stall from=3s to=6s", vec![3, 4, 5]),
            ("stall from=3s every=2", vec![4, 6]),
            ("stall times=2", vec![0, 1]),
            ("stall every=2 times=2", vec![1, 3]),
            ("stall chance=0%", vec![]),
            ("stall chance=100%", vec![0, 1, 2, 3, 4, 5, 6, 7]),
        ] {
            assert_eq!(events(&faults(&[rule]), 8), expected, "{rule}");
        }
        let chosen = events(&faults(&["stall chance=25%"]), 1000);
        assert!((200..300).contains(&chosen.len()), "{}", chosen.len());
        assert_eq!(chosen, events(&faults(&["stall chance=25%"]), 1000), "seeded");
        assert_eq!(
            chosen,
            events(&faults(&["stall chance=25%", "drip=1s chance=50%"]), 1000)
        );
    }

    #[test]
    fn the_first_of_two_counts_and_a_header_comes_before_the_plan() {
        let faults = faults(&["stall@5", "reset@2", "split=3", "drip=1s"]);
        let orders = faults.orders(Some("close@7,split=1"), START).unwrap();
        let event = orders.event.unwrap();
        assert_eq!((event.place, event.act), (Place::Tokens(7), Act::Close));
        assert_eq!(orders.split, Some(1));
        assert_eq!(orders.applied, ["split=1", "drip=1s"]);
        let json: serde_json::Value = serde_json::from_str(&faults.listing()).unwrap();
        let applied: Vec<_> = json["faults"]
            .as_array()
            .unwrap()
            .iter()
            .map(|f| f["applied"].as_u64().unwrap())
            .collect();
        assert_eq!(applied, [0, 0, 0, 1]);
        assert!(faults.orders(Some("nonsense"), START).is_err());
    }

    #[test]
    fn a_listing_can_be_put_back() {
        let faults = faults(&["stall@5 every=3", "cache=1000"]);
        let before = faults.listing();
        faults.replace_by(br#"{"faults": ["html"]}"#, START).unwrap();
        assert!(faults.orders(None, START).unwrap().instead.is_some());
        faults.replace_by(before.as_bytes(), START).unwrap();
        assert_eq!(faults.listing(), before);
        for (body, said) in [
            ("{", "not {\"faults\""),
            (r#"{"faults": ["stal"]}"#, "did you mean `stall`"),
            (r#"{"faults": [5]}"#, "not {\"faults\""),
        ] {
            let problem = faults.replace_by(body.as_bytes(), START).unwrap_err();
            assert!(problem.contains(said), "{problem}");
        }
        assert_eq!(faults.listing(), before, "a mistake changes nothing");
    }

    #[test]
    fn the_door_opens_and_shuts_by_the_clock() {
        let secs = Duration::from_secs;
        let faults = faults(&["refuse from=10s to=20s", "deaf to=5s"]);
        for (age, doorway, next) in [
            (0, Doorway::Deaf, Some(5)),
            (5, Doorway::Open, Some(10)),
            (10, Doorway::Refuse, Some(20)),
            (20, Doorway::Open, None),
        ] {
            let next = next.map(|next| START + secs(next));
            assert_eq!(faults.door(START + secs(age)), (doorway, next), "{age}");
        }
    }

    #[test]
    fn limits_and_loading_are_told() {
        let faults = faults(&["limit=1/10s", "cold=5s idle=1m"]);
        let orders = faults.orders(None, START).unwrap();
        assert_eq!(orders.loaded, Some(START + Duration::from_secs(5)));
        assert_eq!(orders.applied, ["cold=5s"]);
        assert!(
            orders
                .headers
                .contains(&("x-ratelimit-remaining-requests", "0".into()))
        );
        let orders = faults.orders(None, START + Duration::from_millis(7500)).unwrap();
        assert_eq!(orders.applied, ["limit=1/10s"]);
        for header in [
            ("retry-after", "3"),
            ("retry-after-ms", "2500"),
            ("x-ratelimit-reset-requests", "2.5s"),
        ] {
            assert!(
                orders.headers.contains(&(header.0, header.1.into())),
                "{header:?}: {:?}",
                orders.headers
            );
        }
    }

    #[test]
    fn every_form_of_coming_again() {
        let now = Duration::from_secs(1_700_000_000);
        for (retry, anthropic, name, value) in [
            (Retry::After("2.5".into()), false, "retry-after", "2.5"),
            (Retry::Millis("1500".into()), false, "retry-after-ms", "1500"),
            (
                Retry::Date(Duration::from_secs(30)),
                false,
                "retry-after",
                "Tue, 14 Nov 2023 22:13:50 GMT",
            ),
            (
                Retry::Reset(Duration::from_mins(6)),
                false,
                "x-ratelimit-reset-requests",
                "6m0s",
            ),
            (
                Retry::Reset(Duration::from_mins(6)),
                true,
                "anthropic-ratelimit-requests-reset",
                "2023-11-14T22:19:20Z",
            ),
        ] {
            assert_eq!(retry.header(anthropic, now), (name, value.to_owned()));
        }
    }
}
