//! How a target is reached now: with the secrets that are on file now, and with a token that lasts.
//!
//! An [`Endpoint`] never changes: when a file holds another secret or a token is got, the next burst has a new one. That is
//! seen to before a burst begins, so that it is no part of what is measured.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    time::{Instant, timeout},
};

use crate::{
    client::{Client, ClientError, Token, fetch_token},
    config::{
        plan::{Authorization, OAuth2, Reread, Target},
        secret::Secret,
    },
    gate::Gate,
    identity::Headers,
    request::Endpoint,
    tape::Room,
};

/// A file system, or a server that gives tokens, that takes longer gives nothing.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a server that gave no token is left alone.
const AGAIN: Duration = Duration::from_secs(10);

/// A burst that begins shortly before the end of a token needs another one.
const LEEWAY: Duration = Duration::from_mins(1);

/// What the endpoints of all targets have in common.
#[derive(Clone, Debug)]
pub struct Setup {
    pub user_agent: String,
    pub gate: Gate,
    pub identity: Headers,
    /// Where responses are recorded: room for their bytes.
    pub recording: Option<Room>,
    /// The runtime whose threads may block.
    pub blocking: Handle,
}

/// The way to one target, for all its probes.
#[derive(Debug)]
pub struct Access {
    setup: Setup,
    now: Mutex<Now>,
    /// Whoever has it sees to it that files are read and tokens are got; the others wait.
    grant: tokio::sync::Mutex<Grant>,
    /// A file system that does not answer holds one thread a target.
    is_reading: Arc<AtomicBool>,
    /// The token was refused.
    distrusted: AtomicBool,
}

#[derive(Clone, Debug)]
struct Now {
    target: Arc<Target>,
    endpoint: Arc<Endpoint>,
}

/// The token that is in use.
#[derive(Debug, Default)]
struct Grant {
    /// When another one is to be got, and when this one ends.
    token: Option<(Instant, Instant)>,
    /// Nobody is asked for one before.
    not_before: Option<Instant>,
}

/// What came of a renewal.
#[derive(Debug, Default)]
pub struct Renewal {
    /// The target with other secrets than before.
    pub target: Option<Arc<Target>>,
    /// What went wrong, in words; what was known before is used on.
    pub problems: Vec<String>,
    /// There is no token at all.
    pub is_without_token: bool,
}

impl Access {
    pub fn new(target: &Arc<Target>, setup: Setup) -> Result<Self, ClientError> {
        let endpoint = setup.endpoint(target)?;
        Ok(Self {
            now: Mutex::new(Now {
                target: Arc::clone(target),
                endpoint,
            }),
            setup,
            grant: tokio::sync::Mutex::default(),
            is_reading: Arc::default(),
            distrusted: AtomicBool::new(false),
        })
    }

    /// For the requests of one burst.
    pub fn endpoint(&self) -> Arc<Endpoint> {
        self.now().endpoint
    }

    /// The server refused the credentials: a token is not used again.
    pub fn distrust(&self) {
        self.distrusted.store(true, Ordering::Relaxed);
    }

    /// Reads files again that hold secrets, and gets a token where one is needed.
    pub async fn renew(&self) -> Renewal {
        let may_change = |target: &Target| target.has_files() || target.oauth2.is_some();
        if !may_change(&self.now().target) {
            return Renewal::default();
        }
        let mut grant = self.grant.lock().await;
        // Only now: whoever had it before may have got a token, which is not to be undone.
        let before = self.now().target;
        let Reread { changed, problems } = self.reread(&before).await;
        let mut renewal = Renewal {
            problems,
            ..Renewal::default()
        };
        let (mut next, mut lasts) = (changed, None);
        if let Some(oauth2) = &before.oauth2 {
            // As it is on file now.
            let current = next.clone().unwrap_or_else(|| (*before).clone());
            let oauth2 = current.oauth2.as_ref().unwrap_or(oauth2);
            if grant.is_due(self.distrusted.swap(false, Ordering::Relaxed)) {
                match self.token(&current, oauth2).await {
                    Ok(token) => {
                        lasts = Some(token.lasts);
                        let credentials = Secret::Inline(token.value);
                        next = Some(Target {
                            authorization: Some(Authorization {
                                scheme: Some("Bearer".to_owned()),
                                credentials,
                            }),
                            ..current
                        });
                    }
                    Err(what) => {
                        grant.refused();
                        renewal
                            .problems
                            .push(format!("no token from `token_url`: {what}"));
                    }
                }
            }
        }
        if let Some(next) = next {
            match self.setup.endpoint(&next) {
                Ok(endpoint) => {
                    let target = Arc::new(next);
                    renewal.target = Some(Arc::clone(&target));
                    *self.now.lock().unwrap_or_else(PoisonError::into_inner) = Now { target, endpoint };
                    if let Some(lasts) = lasts {
                        grant.gives(lasts);
                    }
                }
                Err(error) => {
                    renewal.problems.push(error.to_string());
                    // A token that nothing is sent with is none.
                    if lasts.is_some() {
                        grant.refused();
                    }
                }
            }
        }
        renewal.is_without_token = before.oauth2.is_some() && !grant.holds();
        renewal
    }

    async fn reread(&self, target: &Arc<Target>) -> Reread {
        let failed = |what: &str| Reread {
            changed: None,
            problems: vec![format!("files with secrets cannot be read again: {what}")],
        };
        if self.is_reading.swap(true, Ordering::Relaxed) {
            return failed("the file system does not answer");
        }
        let (target, is_reading) = (Arc::clone(target), Arc::clone(&self.is_reading));
        let reading = self.setup.blocking.spawn_blocking(move || {
            let read = target.reread();
            is_reading.store(false, Ordering::Relaxed);
            read
        });
        match timeout(PATIENCE, reading).await {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => failed(&error.to_string()),
            Err(_) => failed("the file system does not answer"),
        }
    }

    async fn token(&self, target: &Target, oauth2: &OAuth2) -> Result<Token, String> {
        let fetching = fetch_token(target, oauth2, &self.setup.user_agent, &self.setup.blocking);
        let fetched = timeout(PATIENCE, fetching).await;
        fetched.unwrap_or_else(|_| {
            Err(format!(
                "no answer within {}",
                humantime::format_duration(PATIENCE)
            ))
        })
    }

    fn now(&self) -> Now {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Grant {
    /// Whether a token is to be got now.
    fn is_due(&mut self, distrusted: bool) -> bool {
        if distrusted {
            self.token = None;
        }
        let now = Instant::now();
        let lasts = self.token.is_some_and(|(renew, _)| now < renew);
        let may_ask = self.not_before.is_none_or(|again| now >= again);
        !lasts && may_ask
    }

    /// There is none to be had for now.
    fn refused(&mut self) {
        self.not_before = Some(Instant::now() + AGAIN);
    }

    fn gives(&mut self, lasts: Duration) {
        let now = Instant::now();
        let leeway = LEEWAY.min(lasts / 2);
        self.token = Some((now + lasts - leeway, now + lasts));
        // One that is refused at once is not asked for at once again.
        self.not_before = Some(now + AGAIN.min(lasts / 2));
    }

    /// Whether there is a token that has not ended.
    fn holds(&self) -> bool {
        self.token.is_some_and(|(_, end)| Instant::now() < end)
    }
}

impl Setup {
    fn endpoint(&self, target: &Target) -> Result<Arc<Endpoint>, ClientError> {
        Ok(Arc::new(Endpoint {
            client: Client::new(target, &self.user_agent, &self.blocking)?,
            dialect: target.api,
            text_mode: target.text_mode,
            replica_header: target.replica_header.clone(),
            gate: self.gate.clone(),
            identity: self.identity.clone(),
            recording: self.recording.clone(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_token_is_got_before_it_ends_and_not_at_once_again() {
        let mut grant = Grant::default();
        assert!(grant.is_due(false) && !grant.holds());
        grant.gives(Duration::from_mins(10));
        assert!(!grant.is_due(false) && grant.holds());
        tokio::time::advance(Duration::from_secs(541)).await;
        assert!(grant.is_due(false) && grant.holds());
        grant.refused();
        assert!(!grant.is_due(false) && grant.holds());
        tokio::time::advance(Duration::from_mins(1)).await;
        assert!(grant.is_due(false) && !grant.holds());
        grant.gives(Duration::from_mins(10));
        assert!(!grant.is_due(true) && !grant.holds());
        tokio::time::advance(AGAIN).await;
        assert!(grant.is_due(false));
        grant.gives(Duration::ZERO);
        assert!(!grant.holds());
    }

    /// The way to a target whose token is got with a secret on file.
    fn access(folder: &std::path::Path) -> Access {
        let text = "targets: [{ name: t, url: 'http://127.0.0.1:9/v1', api: openai_chat, model: m, oauth2: { client_id: i, \
                    client_secret_file: secret, token_url: 'http://127.0.0.1:9/token' } }]\nprobes: [{ name: p }]\n";
        std::fs::write(folder.join("secret"), "first").unwrap();
        let plan = crate::config::parse(text, "probes.yaml", folder).unwrap();
        let setup = Setup {
            user_agent: "test".to_owned(),
            gate: Gate::default(),
            identity: plan.global().identity.clone(),
            recording: None,
            blocking: Handle::current(),
        };
        Access::new(&plan.targets()[0], setup).unwrap()
    }

    fn with_token(access: &Access, value: &str) {
        let mut now = access.now.lock().unwrap();
        let target = Target {
            authorization: Some(Authorization {
                scheme: Some("Bearer".to_owned()),
                credentials: Secret::Inline(value.to_owned()),
            }),
            ..(*now.target).clone()
        };
        now.target = Arc::new(target);
    }

    #[tokio::test]
    async fn who_waited_does_not_undo_what_was_got_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let access = Arc::new(access(folder.path()));
        let mut grant = access.grant.lock().await;
        let waiting = tokio::spawn({
            let access = Arc::clone(&access);
            async move { access.renew().await }
        });
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        with_token(&access, "got");
        grant.gives(Duration::from_mins(10));
        drop(grant);
        std::fs::write(folder.path().join("secret"), "second").unwrap();
        let renewal = waiting.await.unwrap();
        assert!(renewal.problems.is_empty() && !renewal.is_without_token);
        let now = access.now().target;
        assert_eq!(now.oauth2.as_ref().unwrap().client_secret.expose(), "second");
        let credentials = now
            .authorization
            .as_ref()
            .map(|authorization| authorization.credentials.expose());
        assert_eq!(credentials, Some("got"));
    }
}
