//! How `serve` serves HTTP: where, and who is let in.

use std::{path::PathBuf, str::FromStr};

use anyhow::{Context, anyhow};
use clap::Args;
use tokio::runtime::Handle;
use url::Url;

use super::{
    CliError,
    listen::{ListenAddress, from_systemd, listen},
};
use crate::{
    metrics::Metrics,
    restart,
    web::{Door, DoorError, Listener, Place, Rules},
};

/// Who may speak to the web server.
#[derive(Args, Debug)]
pub(super) struct WebConfigArgs {
    /// TLS, passwords, headers and a rate limit of the web server, in the format of Prometheus' exporter toolkit. It is
    /// read again whenever it changes, as are the certificates.
    #[arg(
        long = "web.config.file",
        value_name = "FILE",
        env = "LLM_PROBE_WEB_CONFIG_FILE"
    )]
    file: Option<PathBuf>,
}

impl WebConfigArgs {
    /// An empty name is none, as templates write it.
    fn file(&self) -> Option<&PathBuf> {
        self.file.as_ref().filter(|file| !file.as_os_str().is_empty())
    }

    pub(super) fn read(&self) -> Result<Rules, CliError> {
        Ok(self
            .file()
            .map(|file| Rules::read(file))
            .transpose()?
            .unwrap_or_default())
    }
}

impl From<DoorError> for CliError {
    fn from(error: DoorError) -> Self {
        Self::usage(error)
    }
}

#[derive(Args, Debug)]
pub(super) struct WebArgs {
    /// Where to serve /metrics and the page; may be given several times. `:PORT` is every address, `unix:PATH` a Unix
    /// socket (mode 0660, or `unix:PATH?mode=0600`).
    #[arg(
        long = "web.listen-address",
        value_name = "ADDRESS",
        env = "LLM_PROBE_WEB_LISTEN_ADDRESS",
        default_value = ":9850"
    )]
    listen: Vec<ListenAddress>,

    /// Serve on the sockets that systemd hands over (`LISTEN_FDS`) in place of --web.listen-address.
    #[arg(long = "web.systemd-socket")]
    systemd_socket: bool,

    #[command(flatten)]
    config: WebConfigArgs,

    /// The URL under which users reach the page, where a proxy stands before it.
    #[arg(
        long = "web.external-url",
        value_name = "URL",
        env = "LLM_PROBE_WEB_EXTERNAL_URL"
    )]
    external_url: Option<ExternalUrl>,

    /// What all paths begin with here; by default the path of --web.external-url. Write `/` where the proxy takes it
    /// away.
    #[arg(
        long = "web.route-prefix",
        value_name = "PATH",
        env = "LLM_PROBE_WEB_ROUTE_PREFIX"
    )]
    route_prefix: Option<RoutePrefix>,
}

impl WebArgs {
    /// Listens, and sets up who is let in. Call it on the service runtime, which then watches the file.
    pub(super) async fn open(self, metrics: &Metrics) -> Result<(Vec<Listener>, Door), CliError> {
        let rules = self.config.read()?;
        for warning in &rules.warnings {
            tracing::warn!("{warning}");
        }
        let external = self
            .external_url
            .as_ref()
            .map_or("", |ExternalUrl(url)| url.path());
        let prefix = self
            .route_prefix
            .as_ref()
            .map(|RoutePrefix(prefix)| prefix.as_str());
        let door = Door::new(rules, Place::new(external, prefix));
        if let Some(file) = self.config.file() {
            metrics.web_config_read(true);
            let (watching, file, told) = (door.clone(), file.clone(), metrics.clone());
            let watch = move || watching.clone().keep_watching(file.clone(), told.clone());
            restart::spawn(&Handle::current(), "web config", metrics, watch);
        }
        let listeners = if self.systemd_socket {
            from_systemd()
                .context("--web.systemd-socket")
                .map_err(CliError::usage)?
        } else {
            listen(&self.listen).await?
        };
        for listener in listeners
            .iter()
            .filter(|listener| listener.is_reachable() && door.is_open())
        {
            tracing::warn!(
                address = %listener,
                "everybody who reaches this address is let in; ask for passwords or client certificates with --web.config.file, or listen on 127.0.0.1"
            );
        }
        Ok((listeners, door))
    }
}

#[derive(Clone, Debug)]
struct ExternalUrl(Url);

impl FromStr for ExternalUrl {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const LIKE: &str = "write it like https://monitoring.example.com/llm/";
        let url: Url = text.parse().map_err(|error| anyhow!("{error}; {LIKE}"))?;
        let is_plain = url.username().is_empty() && url.password().is_none();
        if !matches!(url.scheme(), "http" | "https")
            || !is_plain
            || url.query().is_some()
            || url.fragment().is_some()
        {
            return Err(anyhow!(
                "this is no http or https URL without user, query and fragment; {LIKE}"
            ));
        }
        path(url.path())?;
        Ok(Self(url))
    }
}

#[derive(Clone, Debug)]
struct RoutePrefix(String);

impl FromStr for RoutePrefix {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        path(text).map(|path| Self(path.to_owned()))
    }
}

/// A path whose parts mean what they say.
fn path(text: &str) -> anyhow::Result<&str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c);
    let parts = text.trim_matches('/').split('/');
    let has_dots = parts.clone().any(|part| matches!(part, "." | ".."));
    let has_gaps = parts.count() > 1 && text.trim_matches('/').contains("//");
    if text.chars().all(is_plain) && !has_dots && !has_gaps {
        return Ok(text);
    }
    Err(anyhow!(
        "write a path of letters, digits and `-._~`, such as /llm"
    ))
}
