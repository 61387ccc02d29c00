//! The allow list of URLs at which bursts may be asked for: the entries of `on_demand`.

use std::{collections::HashSet, sync::Arc};

use url::Url;

use super::{Context, names, protection, require, targets};
use crate::{
    config::{
        plan::{Addresses, Allowed, Dialect, Probe, Target},
        positions::NodeId,
        problem::{list, meant, shown},
        raw::{
            items::{self, File},
            reading::{At, Field},
        },
        report::Report,
    },
    units::Name,
};

/// The entries that can be built. `targets` and `probes` are those of the plan.
pub(super) fn allowed(
    file: &File,
    targets: &[&str],
    probes: &[Arc<Probe>],
    context: &Context<'_>,
) -> Vec<Arc<Allowed>> {
    let raw = file.on_demand.value().map_or(&[][..], Vec::as_slice);
    let names = names(raw, |entry| &entry.name, context.report);
    raw.iter()
        .zip(names)
        .filter_map(|(raw, name)| entry(raw, name, targets, probes, context))
        .map(Arc::new)
        .collect()
}

fn entry(
    raw: &At<items::OnDemand>,
    name: Option<Name>,
    targets: &[&str],
    probes: &[Arc<Probe>],
    context: &Context<'_>,
) -> Option<Allowed> {
    let (report, of, item) = (context.report, raw.thing.as_str(), &raw.value);
    if let Some(given) = item
        .name
        .given()
        .filter(|name| targets.contains(&name.value.as_str()))
    {
        let what = format!("{} is also the name of a target", shown(&given.value));
        report.problem(given.id, what, "give one of them another name");
    }
    let how = "say how the endpoints are asked: `target: { api: openai_chat, model: … }`";
    require(&item.target, raw, "target", how, report);
    let which = "say which probes may be asked for: `probes: [NAME]`";
    require(&item.probes, raw, "probes", which, report);
    let addresses = match item.private {
        Field::Absent => Addresses::Public,
        Field::Bad => return None,
        Field::Given(ref given) => given.value,
    };
    let target = item.target.given();
    let target = target.and_then(|given| template(raw, given, name, addresses, context));
    let target = target.map(Arc::new);
    let probes = which_probes(item, of, target.as_ref(), probes, report);
    Some(Allowed {
        target: target?,
        probes: probes?,
    })
}

/// How the endpoints are asked.
fn template(
    raw: &At<items::OnDemand>,
    given: &At<items::Target>,
    name: Option<Name>,
    addresses: Addresses,
    context: &Context<'_>,
) -> Option<Target> {
    let (report, item, own) = (context.report, &raw.value, &given.value);
    let key = |key: Option<NodeId>, name: &'static str, mend: &'static str| Some((key?, name, mend));
    let beside = "write it beside `target`";
    let straight = "remove it: whether an address may be connected to can only be seen on the straight way";
    let misplaced = [
        key(own.name.given().map(|given| given.key), "name", beside),
        key(own.url.given().map(|given| given.key), "url", beside),
        key(own.proxy.given().map(|given| given.key), "proxy", straight),
        key(
            own.unix_socket.given().map(|given| given.key),
            "unix_socket",
            straight,
        ),
        key(
            own.busy.given().map(|given| given.key),
            "busy",
            "remove it: each URL is another server",
        ),
    ];
    for (key, name, mend) in misplaced.into_iter().flatten() {
        let what = format!("{} has a key `{name}`", given.thing);
        report.problem(key, what, mend);
    }
    let filled = At {
        key: given.key,
        id: raw.id,
        thing: raw.thing.clone(),
        value: items::Target {
            name: item.name.clone(),
            url: item.url.clone(),
            ..own.clone()
        },
    };
    let mut target = targets::target(&filled, name, context)?;
    let url = item.url.given()?;
    pattern(&target.url, target.api, addresses, url, report)?;
    target.reach.addresses = addresses;
    Some(target)
}

/// Whether the URL is one that others can begin with.
fn pattern(
    url: &Url,
    api: Dialect,
    addresses: Addresses,
    given: &At<String>,
    report: &Report<'_>,
) -> Option<()> {
    let problem = |what: &str, mend: &str| {
        report.problem(given.id, format!("{} {what}", given.thing), mend);
        None
    };
    let (host, path) = (url.host_str().unwrap_or_default(), url.path());
    let parent = host.strip_prefix("*.").unwrap_or(host);
    if parent.contains('*') || path.contains('*') || parent.is_empty() {
        return problem(
            "has a `*` where it stands for nothing",
            "write it for the first label of the host alone: `https://*.example.org/v1`",
        );
    }
    if host.starts_with("*.") && !parent.contains('.') {
        return problem(
            &format!("allows every host of `{parent}`"),
            "write more of the name, such as `https://*.example.org/v1`",
        );
    }
    let address = match url.host() {
        Some(url::Host::Ipv4(address)) => Some(address.into()),
        Some(url::Host::Ipv6(address)) => Some(address.into()),
        _ => None,
    };
    if address.is_some_and(|address| !addresses.admit(address)) {
        return problem(
            "is an address that is not public, so that all it allows would be refused",
            "write `private: allow` beside it, if whoever may ask for bursts may reach it",
        );
    }
    let odd = |c: char| !(c.is_ascii_alphanumeric() || "/.-_~".contains(c));
    if path.contains(odd) || path.contains("//") {
        let like = api.version().unwrap_or("/v1");
        return problem(
            "has a path that no URL that is asked for may have",
            &format!("write letters, digits and `.-_~` alone, such as `{like}`"),
        );
    }
    Some(())
}

/// The probes that may be asked for; what cannot be asked of `target` is a problem.
fn which_probes(
    item: &items::OnDemand,
    of: &str,
    target: Option<&Arc<Target>>,
    probes: &[Arc<Probe>],
    report: &Report<'_>,
) -> Option<Vec<Arc<Probe>>> {
    let given = item.probes.given()?;
    if report.is_empty_list(given.id) {
        let what = format!("{of} lets no probe be asked for");
        report.problem(given.key, what, "name one, or remove the entry");
    }
    let mut seen = HashSet::new();
    let mut named = Vec::new();
    for name in &given.value {
        let Some(probe) = probes.iter().find(|probe| probe.name.as_str() == name.value) else {
            let what = format!("{of} names probe {}, which there is not", shown(&name.value));
            let known: Vec<_> = probes.iter().map(|probe| probe.name.as_str()).collect();
            let mend = match meant(&name.value, &known) {
                Some(probe) => format!("did you mean `{probe}`?"),
                None => format!("the probes are {}", list(&known)),
            };
            report.problem(name.id, what, mend);
            continue;
        };
        if !seen.insert(name.value.as_str()) {
            let what = format!("{of} names probe {} twice", shown(&name.value));
            report.problem(name.id, what, "remove one");
            continue;
        }
        if let Some(target) = target {
            named.push(Arc::new(fitted(probe, target, name, report)));
        }
    }
    Some(named)
}

/// The probe as it asks the endpoints; what cannot be asked of them is a problem.
fn fitted(probe: &Probe, target: &Arc<Target>, name: &At<String>, report: &Report<'_>) -> Probe {
    let generation = &probe.generation;
    let lacks = |key: &str| {
        let what = format!(
            "probe {} has `{key}`, which `{}` has no field for",
            shown(&name.value),
            target.api.as_str()
        );
        report.problem(name.id, what, "name another probe");
    };
    if generation.min_tokens.is_some() && !target.api.has_min_tokens() {
        lacks("min_tokens");
    }
    if generation.ignore_eos && !target.api.has_ignore_eos() {
        lacks("ignore_eos");
    }
    let there = Probe {
        targets: vec![Arc::clone(target)],
        ..probe.clone()
    };
    let of = format!("probe {}", shown(&name.value));
    protection::fits(&there, &of, name.id, Some(name.id), report);
    there
}
