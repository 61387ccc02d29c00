//! Reads a server's text exposition.

use reqwest::header::{ACCEPT, USER_AGENT};
use tokio::{runtime::Handle, time::timeout};
use url::Url;

use super::{
    ClientError, headers, named_for_tls, plain, redaction::Redaction, resolver::MarkingResolver,
    secret_forms, tls, whole::whole,
};
use crate::config::plan::{Busy, HttpVersion, Reach, Target};

/// Reads one exposition, again and again. What belongs to the target (credentials, headers, certificates, proxy,
/// socket) is used only where the exposition has the same scheme, host and port.
#[derive(Debug)]
pub struct Scraper {
    http: reqwest::Client,
    url: Url,
    busy: Busy,
    headers: http::HeaderMap,
    redaction: Redaction,
}

impl Scraper {
    /// `blocking` is the runtime whose threads resolve names.
    pub fn new(
        busy: &Busy,
        target: &Target,
        user_agent: &str,
        blocking: &Handle,
    ) -> Result<Self, ClientError> {
        let elsewhere = Reach::default();
        let is_same = busy.is_same_origin(&target.url);
        let reach = if is_same { &target.reach } else { &elsewhere };
        let tls = tls::config(busy.url.scheme() == "https", HttpVersion::Http1, &reach.tls)?;
        let (url, host) = named_for_tls(busy.url.clone(), reach)?;
        let resolver = MarkingResolver::new(blocking.clone(), host, reach.addresses);
        let http = plain(tls, resolver, reach)?
            .http1_only()
            .pool_max_idle_per_host(1)
            .build()?;
        let mut own = http::HeaderMap::new();
        if is_same {
            own = headers(target, target.api, user_agent)?;
            own.remove(http::header::CONTENT_TYPE);
        }
        own.insert(ACCEPT, http::HeaderValue::from_static("text/plain;version=0.0.4"));
        own.insert(USER_AGENT, super::value(user_agent, "User-Agent")?);
        Ok(Self {
            http,
            url,
            busy: busy.clone(),
            headers: own,
            redaction: Redaction(secret_forms(target)),
        })
    }

    /// What is to be withheld or ended, and when.
    pub fn busy(&self) -> &Busy {
        &self.busy
    }

    /// The exposition as it is now; the error says in words why there is none.
    pub async fn scrape(&self) -> Result<String, String> {
        let limit = self.busy.timeout;
        let read = timeout(limit, self.read()).await;
        read.unwrap_or_else(|_| Err(format!("no answer within {}", humantime::format_duration(limit))))
    }

    async fn read(&self) -> Result<String, String> {
        let request = self.http.get(self.url.clone()).headers(self.headers.clone());
        let bytes = whole(request.send(), &self.redaction).await?;
        String::from_utf8(bytes).map_err(|_| "the answer is no text".to_owned())
    }
}
