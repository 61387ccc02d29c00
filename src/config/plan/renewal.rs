//! What of a target is on file and may be replaced while the program runs.

use super::{Pem, Target};
use crate::config::secret::Secret;

/// What came of reading files again.
#[derive(Debug)]
pub struct Reread {
    /// The target with what the files hold now; `None` where that is what they have held.
    pub changed: Option<Target>,
    /// What could not be read, in words; its last value stays.
    pub problems: Vec<String>,
}

impl Target {
    /// Whether any of its secrets is on file.
    pub fn has_files(&self) -> bool {
        let key = self.reach.tls.identity.iter().map(|identity| &identity.key);
        self.sent_secrets().chain(key).any(Secret::is_on_file)
    }

    /// Reads the files again that hold secrets, and with them the certificates that belong to a key.
    pub fn reread(&self) -> Reread {
        let mut now = self.clone();
        let mut has_changed = false;
        let mut problems = Vec::new();
        for secret in now.secrets_mut() {
            match secret.reread() {
                Ok(changed) => has_changed |= changed,
                Err(what) => problems.push(what),
            }
        }
        if let Some(identity) = &mut now.reach.tls.identity {
            match identity.certificates.reread() {
                Ok(changed) => has_changed |= changed,
                Err(what) => problems.push(what),
            }
        }
        Reread {
            changed: has_changed.then_some(now),
            problems,
        }
    }

    /// All that is secret and sent to somebody: not the private key.
    pub fn sent_secrets(&self) -> impl Iterator<Item = &Secret> {
        let Self {
            authorization,
            oauth2,
            headers,
            reach,
            ..
        } = self;
        let authorization = authorization
            .iter()
            .map(|authorization| &authorization.credentials);
        let login = reach.proxy.iter().filter_map(|proxy| proxy.login.as_ref());
        authorization
            .chain(oauth2.iter().map(|oauth2| &oauth2.client_secret))
            .chain(oauth2.iter().flat_map(|oauth2| oauth2.endpoint_params.values()))
            .chain(headers.iter().map(|header| &header.value))
            .chain(login.map(|login| &login.password))
    }

    fn secrets_mut(&mut self) -> impl Iterator<Item = &mut Secret> {
        let Self {
            authorization,
            oauth2,
            headers,
            reach,
            ..
        } = self;
        let authorization = authorization
            .iter_mut()
            .map(|authorization| &mut authorization.credentials);
        let login = reach.proxy.iter_mut().filter_map(|proxy| proxy.login.as_mut());
        authorization
            .chain(oauth2.iter_mut().map(|oauth2| &mut oauth2.client_secret))
            .chain(headers.iter_mut().map(|header| &mut header.value))
            .chain(login.map(|login| &mut login.password))
            .chain(reach.tls.identity.iter_mut().map(|identity| &mut identity.key))
    }
}

impl Pem {
    /// As [`Secret::reread`].
    fn reread(&mut self) -> Result<bool, String> {
        let path = &self.path;
        let read = Self::read(path).map_err(|what| format!("{} {what}", path.display()))?;
        let has_changed = read != self.text;
        self.text = read;
        Ok(has_changed)
    }
}
