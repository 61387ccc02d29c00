//! The mappings of the file and their keys. Adding a key to the configuration begins here.

use std::num::{NonZeroU32, NonZeroU64};

use super::{
    Entry, Node, Value,
    choices::{ArrivalKind, Caching, MaxTokensField, ProcessKind},
    leaves::{Amount, Body, HeaderOrNone, Hidden, Reference, Rest, Share, Wait},
    reading::{At, Field, Item, Named, Read, entries, field, item, wrong},
    template::Template,
};
use crate::{
    budget::Per,
    config::{
        plan::{
            Addresses, Alert, Connection, Dialect, HttpVersion, Realtime, Reasoning, TextMode, Thinking,
            TlsVersion, TtftFrom, Withheld,
        },
        report::Report,
    },
    outcome::Failure,
    prompt::Length,
};

/// What messages call the outermost mapping.
pub(in crate::config) const FILE: &str = "the configuration";

const SECRET: &str = "a secret is never written into the configuration: put it into an environment variable and write \
     `credentials_env: NAME`, or into a file and write `credentials_file: PATH`";
const API_KEY: &str = "write `authorization: { credentials_env: NAME }` with the name of an environment variable that \
     holds the key, or `authorization: { credentials_file: PATH }`";
const ONE_PROBE: &str = "`defaults` holds what several probes have in common; write this in the probe itself";

item! {
    /// The whole file.
    File {
        global: Global,
        metrics: Metrics,
        measure: Measure,
        targets: Vec<At<Target>>,
        /// Targets that are listed elsewhere.
        discover: Vec<At<Discovery>>,
        /// Where bursts may be asked for beside the targets.
        on_demand: Vec<At<OnDemand>>,
        /// Everything that a probe may have, except what identifies one.
        defaults: Defaults,
        probes: Vec<At<Probe>>,
    }
}

item! {
    Global {
        labels: Vec<At<String>>,
        max_in_flight: NonZeroU32,
        user_agent: String,
        identity: Identity,
    }
}

item! {
    Metrics {
        native_histograms: bool,
        disable: Vec<At<String>>,
        buckets: Named<Vec<At<Amount>>>,
    }
}

item! {
    Measure {
        realtime: Realtime,
    }
}

item! {
    Identity {
        probe_id: HeaderOrNone,
        request_id: HeaderOrNone,
        traceparent: bool,
    }
}

item! {
    Target "target" {
        name: String,
        url: String,
        api: Dialect,
        model: String,
        authorization: Authorization,
        oauth2: OAuth2,
        headers: Named<Header>,
        connection: Connection,
        http: HttpVersion,
        tls: Tls,
        proxy: Proxy,
        unix_socket: String,
        max_tokens_field: MaxTokensField,
        reasoning: Reasoning,
        body: Body,
        text_mode: TextMode,
        replica_header: String,
        tokenizer: Tokenizer,
        price: Price,
        budget: Budget,
        busy: Busy,
        labels: Named<String>,
        share: bool,
    }
    hints {
        "api_key" => API_KEY,
        "key" => API_KEY,
        "token" => API_KEY,
        "credentials" => API_KEY,
        "credentials_env" => "write `authorization: { credentials_env: … }`",
        "credentials_file" => "write `authorization: { credentials_file: … }`",
        "proxy_url" => "write `proxy: { url: … }`",
        "tls_config" => "write `tls: { … }`",
    }
}

item! {
    Discovery "list" {
        name: String,
        files: Vec<At<String>>,
        http: HttpList,
        target: Template,
    }
    hints {
        "file" => "write `files: [PATH]`",
        "url" => "write `http: { url: … }`, or for its targets `target: { url: … }`",
        "file_sd_configs" => "write `files: [PATH]`",
        "http_sd_configs" => "write `http: { url: … }`",
    }
}

item! {
    OnDemand "endpoint" {
        name: String,
        url: String,
        private: Addresses,
        probes: Vec<At<String>>,
        target: Target,
    }
    hints {
        "api" => "write it in `target: { … }`",
        "model" => "write it in `target: { … }`",
        "allow" => "write `url: https://*.example.org/v1`",
        "probe" => "write `probes: [NAME]`",
    }
}

item! {
    HttpList {
        url: String,
        every: Wait,
        timeout: Wait,
        authorization: Authorization,
    }
    hints {
        "refresh_interval" => "write `every: 1m`",
    }
}

item! {
    /// A group of a list, as Prometheus has it.
    Group {
        targets: Vec<At<String>>,
        labels: Named<String>,
    }
}

item! {
    Authorization {
        credentials_env: Reference,
        credentials_file: Reference,
        scheme: String,
    }
    hints {
        "credentials" => SECRET,
        "token" => SECRET,
        "key" => SECRET,
        "value" => SECRET,
        "password" => SECRET,
        "env" => "write `credentials_env: NAME`",
        "file" => "write `credentials_file: PATH`",
        "type" => "write `scheme: Bearer`",
    }
}

item! {
    OAuth2 {
        client_id: String,
        client_secret_env: Reference,
        client_secret_file: Reference,
        token_url: String,
        scopes: Vec<At<String>>,
        endpoint_params: Named<Hidden>,
    }
    hints {
        "client_secret" => "a secret is never written into the configuration: put it into an environment variable and write \
             `client_secret_env: NAME`, or into a file and write `client_secret_file: PATH`",
        "scope" => "write `scopes: [NAME]`",
        "audience" => "write `endpoint_params: { audience: … }`",
        "url" => "write `token_url: …`",
    }
}

item! {
    Header {
        value: Hidden,
        env: Reference,
        file: Reference,
    }
}

item! {
    Tokenizer {
        file: String,
    }
}

item! {
    Tls {
        ca_file: Reference,
        cert_file: Reference,
        key_file: Reference,
        server_name: String,
        insecure_skip_verify: bool,
        min_version: TlsVersion,
    }
    hints {
        "ca" => "write `ca_file: PATH`",
        "cert" => "write `cert_file: PATH`",
        "key" => "write `key_file: PATH`",
        "insecure" => "write `insecure_skip_verify: true`",
    }
}

item! {
    Proxy {
        url: String,
        username: String,
        password_env: Reference,
        password_file: Reference,
    }
    hints {
        "password" => "a secret is never written into the configuration: put it into an environment variable and write \
             `password_env: NAME`, or into a file and write `password_file: PATH`",
        "authorization" => "write `username: …` with `password_env: NAME` or `password_file: PATH`",
    }
}

item! {
    Price {
        input_per_million: Amount,
        output_per_million: Amount,
    }
}

item! {
    Budget {
        requests: NonZeroU64,
        input_tokens: NonZeroU64,
        output_tokens: NonZeroU64,
        dollars: Amount,
        per: Per,
    }
    hints {
        "tokens" => "write `input_tokens: …` or `output_tokens: …`",
    }
}

item! {
    Busy {
        url: String,
        skip_when: Vec<At<String>>,
        abort_when: Vec<At<String>>,
        timeout: Wait,
    }
}

item! {
    Limits {
        abort_over: Share,
        after: NonZeroU32,
    }
}

/// The limits of a burst, or `off`.
#[derive(Clone)]
pub(in crate::config) enum Protect {
    Off,
    Limits(Limits),
}

impl Read for Protect {
    fn read(node: &Node, thing: &str, report: &Report<'_>) -> Option<Self> {
        if let Value::Text(text) = &node.value
            && text == "off"
        {
            report.permit(node.id);
            return Some(Self::Off);
        }
        if !matches!(node.value, Value::Map(_)) {
            let mend = "write `off`, or a mapping such as `{ abort_over: 50%, after: 4 }`";
            wrong(node, thing, "`off` or limits", mend, report);
            return None;
        }
        Limits::read(node, thing, report).map(Self::Limits)
    }
}

item! {
    Probe "probe" {
        name: String,
        targets: Vec<At<String>>,
        every: Wait,
        cron: String,
        timezone: String,
        windows: Vec<At<Window>>,
        pauses: Vec<At<Pause>>,
        concurrency: NonZeroU32,
        arrival: Arrival,
        ladder: Vec<At<Step>>,
        ladder_stop: Share,
        capacity: Capacity,
        settle: Rest,
        requests: NonZeroU32,
        duration: Wait,
        warmup: u32,
        prompt: Prompt,
        max_tokens: NonZeroU64,
        min_tokens: NonZeroU64,
        ignore_eos: bool,
        thinking: Thinking,
        timeouts: Timeouts,
        expect: Expect,
        slo: Slo,
        jitter: Share,
        budget: Budget,
        protect: Protect,
        labels: Named<String>,
    }
    hints {
        "target" => "write `targets: [NAME]`",
        "interval" => "write `every: 1m`",
        "schedule" => "write `every: 1m` or `cron: '*/5 * * * *'`",
        "rate" => "write `arrival: { kind: rate, per_second: … }`; `rate` is a key of the steps of a `ladder`",
        "users" => "write `concurrency: …`; `users` is a key of the steps of a `ladder`",
        "model" => "`model` is a key of a target",
    }
}

item! {
    Window {
        days: String,
        hours: String,
    }
}

item! {
    Pause {
        from: String,
        to: String,
    }
}

item! {
    Arrival {
        kind: ArrivalKind,
        over: Wait,
        per_second: Amount,
        process: ProcessKind,
        burstiness: Amount,
    }
    hints {
        "rate" => "write `kind: rate` with `per_second: …`",
    }
}

item! {
    Step {
        users: NonZeroU32,
        rate: Amount,
        slo: Slo,
        requests: NonZeroU32,
        duration: Wait,
    }
    hints {
        "concurrency" => "write `users: …` in a step",
    }
}

item! {
    Capacity {
        max: Amount,
        requests: NonZeroU32,
        repeats: NonZeroU32,
        resolution: Share,
    }
    hints {
        "users" => "write `max: …`",
        "per_second" => "write `max: …`",
        "concurrency" => "write `max: …`",
    }
}

item! {
    Prompt {
        text: String,
        file: String,
        tokens: Length,
        prefix_tokens: NonZeroU64,
        turns: Vec<At<String>>,
        system: String,
        cache: Caching,
    }
}

item! {
    Timeouts {
        connect: Wait,
        first_token: Wait,
        stall: Wait,
        total: Wait,
    }
}

item! {
    Expect {
        contains: String,
        matches: String,
        min_output_tokens: NonZeroU64,
    }
    hints {
        "regex" => "write `matches: …`",
    }
}

item! {
    Slo {
        ttft: Wait,
        ttft_from: TtftFrom,
        ttfo: Wait,
        itl: Wait,
        gap: Wait,
        request: Wait,
        objective: Share,
        alert: Alert,
        excuse: Vec<At<Failure>>,
        withheld: Withheld,
    }
}

/// A probe that has no name, targets or labels of its own.
#[derive(Clone, Default)]
pub(in crate::config) struct Defaults(pub(in crate::config) Probe);

impl Item for Defaults {
    /// Those of a probe, without `name`, `targets` and `labels`.
    const KEYS: &'static [&'static str] = &[
        "every",
        "cron",
        "timezone",
        "windows",
        "pauses",
        "concurrency",
        "arrival",
        "ladder",
        "ladder_stop",
        "capacity",
        "settle",
        "requests",
        "duration",
        "warmup",
        "prompt",
        "max_tokens",
        "min_tokens",
        "ignore_eos",
        "thinking",
        "timeouts",
        "expect",
        "slo",
        "jitter",
        "budget",
        "protect",
    ];
    const HINTS: &'static [(&'static str, &'static str)] =
        &[("name", ONE_PROBE), ("targets", ONE_PROBE), ("labels", ONE_PROBE)];

    fn of(entries: &[Entry], thing: &str, report: &Report<'_>) -> Self {
        let is_shared = |entry: &&Entry| Self::KEYS.contains(&entry.name.as_str());
        let shared: Vec<Entry> = entries.iter().filter(is_shared).cloned().collect();
        Self(Probe::of(&shared, thing, report))
    }

    fn merged(&self, other: &Self) -> Self {
        Self(self.0.merged(&other.0))
    }
}

impl Read for Defaults {
    fn read(node: &Node, thing: &str, report: &Report<'_>) -> Option<Self> {
        Some(Self::of(entries::<Self>(node, thing, report)?, thing, report))
    }
}

/// Each kind of item, as messages call it, with its keys.
const HOMES: &[(&str, &[&str])] = &[
    ("a probe", Probe::KEYS),
    ("a target", Target::KEYS),
    ("`slo`", Slo::KEYS),
    ("`timeouts`", Timeouts::KEYS),
    ("`arrival`", Arrival::KEYS),
    ("`capacity`", Capacity::KEYS),
    ("`expect`", Expect::KEYS),
    ("`prompt`", Prompt::KEYS),
    ("`authorization`", Authorization::KEYS),
    ("`tokenizer`", Tokenizer::KEYS),
    ("`price`", Price::KEYS),
    ("`budget`", Budget::KEYS),
    ("`busy`", Busy::KEYS),
    ("`protect`", Limits::KEYS),
    ("`tls`", Tls::KEYS),
    ("`proxy`", Proxy::KEYS),
    ("`global`", Global::KEYS),
    ("`metrics`", Metrics::KEYS),
    ("`measure`", Measure::KEYS),
    ("`identity`", Identity::KEYS),
    ("the outermost level", File::KEYS),
    ("a header", Header::KEYS),
    ("an entry of `discover`", Discovery::KEYS),
    ("`http` of an entry of `discover`", HttpList::KEYS),
    ("an entry of `on_demand`", OnDemand::KEYS),
    ("a step of a `ladder`", Step::KEYS),
    ("an entry of `windows`", Window::KEYS),
    ("an entry of `pauses`", Pause::KEYS),
];

/// Where a key belongs that stands somewhere else.
pub(super) fn home(key: &str) -> Option<&'static str> {
    HOMES
        .iter()
        .find(|(_, keys)| keys.contains(&key))
        .map(|(home, _)| *home)
}

/// Keys whose value, or a part of it, may be a secret or is where authors write one by mistake.
pub(in crate::config) const MAY_HOLD_SECRETS: &[&str] = &[
    "authorization",
    "headers",
    "value",
    "env",
    "file",
    "credentials",
    "scheme",
    "url",
    "username",
    "password_env",
    "password_file",
    "key_file",
    "body",
    "text",
    "turns",
    "system",
];

/// Every key that there is.
pub(in crate::config) fn keys() -> impl Iterator<Item = &'static str> {
    HOMES.iter().flat_map(|(_, keys)| keys.iter().copied())
}
