//! Who is let in by name and password. A wrong name costs what a wrong password does, and guessing costs this process
//! at most one thread that has stepped back, however many guess.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, PoisonError},
};

use axum::http::{HeaderMap, header};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use tokio::sync::Semaphore;

use super::aside::aside;
use crate::config::{secret::Secret, web::PasswordHash};

/// Guesses that wait for their turn; further ones are told to come back.
const WAITING: usize = 16;

/// What becomes of a request that has to say who it is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Admitted,
    Refused,
    /// Too many passwords are being looked at.
    Busy,
}

/// Passwords are looked at one after the other. Clones share the turn, also those of the users after a reload.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    turn: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Default for Turn {
    fn default() -> Self {
        Self {
            turn: Arc::new(Semaphore::new(1)),
            waiting: Arc::new(Semaphore::new(WAITING + 1)),
        }
    }
}

/// The users, and whose password was right.
#[derive(Debug)]
pub(super) struct Users {
    hashes: HashMap<String, Secret>,
    /// Of a password that nobody has, for names that nobody has. It costs as much as the dearest of the others.
    nobody: Secret,
    /// What the right password of a user comes to: one a user, so there are no more than users.
    verified: Mutex<HashMap<String, Print>>,
    /// Keys that only this process knows, so that no password is kept.
    keys: [RandomState; 2],
}

/// 128 bits of a password under the keys of this process.
type Print = [u64; 2];

impl Users {
    /// `None` where there are none: then nobody is asked.
    pub(super) fn new(users: &[(String, PasswordHash)]) -> Option<Self> {
        let cost = users.iter().map(|(_, hash)| hash.cost).max()?;
        let (salt, hash) = (".".repeat(22), ".".repeat(31));
        Some(Self {
            hashes: users
                .iter()
                .map(|(name, hash)| (name.clone(), hash.text.clone()))
                .collect(),
            nobody: Secret::Inline(format!("$2b${cost:02}${salt}{hash}")),
            verified: Mutex::default(),
            keys: [RandomState::new(), RandomState::new()],
        })
    }

    /// The same, in place of those `before`: whoever was let in by a hash that is still theirs need not show it again.
    pub(super) fn in_place_of(self, before: &Self) -> Self {
        let same = |name: &String| self.hashes.get(name) == before.hashes.get(name);
        let verified = before.verified().clone();
        let verified = verified.into_iter().filter(|(name, _)| same(name)).collect();
        Self {
            verified: Mutex::new(verified),
            keys: before.keys.clone(),
            ..self
        }
    }

    /// Whether a request with these headers is let in.
    pub(super) async fn admit(&self, headers: &HeaderMap, turn: &Turn) -> Admission {
        let Some((name, password)) = credentials(headers) else {
            return Admission::Refused;
        };
        let print = self.print(&password);
        if self.verified().get(&name) == Some(&print) {
            return Admission::Admitted;
        }
        let Ok(_waiting) = turn.waiting.try_acquire() else {
            return Admission::Busy;
        };
        let Ok(taken) = Arc::clone(&turn.turn).acquire_owned().await else {
            return Admission::Busy;
        };
        let hash = self.hashes.get(&name).unwrap_or(&self.nobody).clone();
        let right = aside("password", move || {
            // It ends when the work has, also where the client has gone meanwhile.
            let _taken = taken;
            bcrypt::verify(password, hash.expose()).unwrap_or(false)
        });
        if !matches!(right.await, Ok(true)) || !self.hashes.contains_key(&name) {
            return Admission::Refused;
        }
        self.verified().insert(name, print);
        Admission::Admitted
    }

    fn print(&self, password: &str) -> Print {
        self.keys.each_ref().map(|key| key.hash_one(password))
    }

    fn verified(&self) -> std::sync::MutexGuard<'_, HashMap<String, Print>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name and the password of the one `Authorization: Basic …` (RFC 7617).
fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = BASE64_STANDARD.decode(encoded.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::web::parse;

    fn users(cost: u32) -> Users {
        let hash = bcrypt::hash("right", cost).unwrap();
        let text = format!("basic_auth_users: {{ ann: '{hash}' }}");
        Users::new(&parse(&text, "web.yml", "".as_ref()).unwrap().users).unwrap()
    }

    fn basic(credentials: &str) -> HeaderMap {
        let value = format!("Basic {}", BASE64_STANDARD.encode(credentials));
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())])
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_user_is_let_in() {
        let (users, turn) = (users(4), Turn::default());
        for (credentials, expected) in [
            ("ann:right", Admission::Admitted),
            ("ann:right", Admission::Admitted),
            ("ann:wrong", Admission::Refused),
            ("ann:", Admission::Refused),
            ("bob:right", Admission::Refused),
            (":", Admission::Refused),
            ("ann", Admission::Refused),
            ("ann:right\0", Admission::Refused),
            ("ann:right", Admission::Admitted),
        ] {
            assert_eq!(
                users.admit(&basic(credentials), &turn).await,
                expected,
                "{credentials}"
            );
        }
        assert_eq!(users.verified().len(), 1, "of guesses nothing is kept");
        let mut twice = basic("ann:right");
        twice.append(header::AUTHORIZATION, "Basic eDp5".parse().unwrap());
        for headers in [HeaderMap::new(), twice] {
            assert_eq!(users.admit(&headers, &turn).await, Admission::Refused);
        }
        let other = HeaderMap::from_iter([(header::AUTHORIZATION, "Bearer eDp5".parse().unwrap())]);
        assert_eq!(users.admit(&other, &turn).await, Admission::Refused);
    }

    #[tokio::test]
    async fn who_was_let_in_stays_so_unless_the_hash_is_another() {
        let (before, turn) = (users(4), Turn::default());
        assert_eq!(
            before.admit(&basic("ann:right"), &turn).await,
            Admission::Admitted
        );
        let hashes = |before: &Users| -> Vec<(String, PasswordHash)> {
            let text = before.hashes["ann"].expose().to_owned();
            let text = format!("basic_auth_users: {{ ann: '{text}', bob: '{text}' }}");
            parse(&text, "web.yml", "".as_ref()).unwrap().users
        };
        let same = Users::new(&hashes(&before)).unwrap().in_place_of(&before);
        // Nobody looks at passwords any more.
        turn.waiting.close();
        assert_eq!(same.admit(&basic("ann:right"), &turn).await, Admission::Admitted);
        assert_eq!(same.admit(&basic("ann:wrong"), &turn).await, Admission::Busy);
        assert_eq!(same.admit(&basic("bob:right"), &turn).await, Admission::Busy);
        let other = users(4).in_place_of(&before);
        assert_eq!(other.admit(&basic("ann:right"), &turn).await, Admission::Busy);
    }

    #[tokio::test]
    async fn a_name_that_nobody_has_costs_what_a_wrong_password_costs() {
        let users = users(10);
        let cost = |text: &Secret| text.expose().parse::<bcrypt::HashParts>().unwrap().get_cost();
        assert_eq!(cost(&users.nobody), cost(&users.hashes["ann"]));
        assert!(!bcrypt::verify("", users.nobody.expose()).unwrap());
    }

    #[tokio::test]
    async fn however_many_guess_few_wait_and_who_was_verified_does_not() {
        let (users, turn) = (Arc::new(users(8)), Turn::default());
        assert_eq!(users.admit(&basic("ann:right"), &turn).await, Admission::Admitted);
        let held = turn.turn.acquire().await.unwrap();
        let guess = |at: u32| {
            let (users, turn) = (Arc::clone(&users), turn.clone());
            tokio::spawn(async move { users.admit(&basic(&format!("ann:{at}")), &turn).await })
        };
        let waiting: Vec<_> = (0..=17).map(guess).collect();
        while !waiting.iter().any(tokio::task::JoinHandle::is_finished) {
            tokio::task::yield_now().await;
        }
        assert_eq!(users.admit(&basic("ann:right"), &turn).await, Admission::Admitted);
        drop(held);
        let mut ends = Vec::new();
        for guess in waiting {
            ends.push(guess.await.unwrap());
        }
        let busy = ends.iter().filter(|end| **end == Admission::Busy).count();
        assert_eq!((busy, ends.len() - busy), (1, WAITING + 1));
        assert!(!ends.contains(&Admission::Admitted));
    }
}
