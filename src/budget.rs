//! What probes may use in an hour or a day: counted, reserved before each round, and thinned evenly when it will
//! not last. No clock: seconds since the Unix epoch are passed in. Periods begin at full hours and at midnight, UTC.
//!
//! A round is the bursts that one probe fires at one target when they are due: one, or one per step of a ladder.
//! Before it begins, the most that it can cost is reserved, so that a limit holds to the request. When what is
//! left does not suffice for the rounds that are still due in the period, by what they cost on average, only every
//! k-th fires, so that the last one falls to the end of the period and not to noon.

use std::{
    collections::BTreeMap,
    ops::{AddAssign, SubAssign},
};

use serde::{Deserialize, Serialize};

use crate::timetable::Timetable;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Requests,
    InputTokens,
    OutputTokens,
    Dollars,
}

impl Unit {
    pub const ALL: &'static [Self] = &[
        Self::Requests,
        Self::InputTokens,
        Self::OutputTokens,
        Self::Dollars,
    ];

    /// An amount of it, as people write it.
    pub fn shown(self, amount: f64) -> String {
        match self {
            Self::Dollars => format!("{amount:.6}"),
            Self::Requests | Self::InputTokens | Self::OutputTokens => format!("{amount:.0}"),
        }
    }

    /// The value of the label `unit`, and the key in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::InputTokens => "input_tokens",
            Self::OutputTokens => "output_tokens",
            Self::Dollars => "dollars",
        }
    }
}

/// An amount of each unit; whole numbers are exact up to 2^53.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Amounts {
    pub requests: f64,
    pub input_tokens: f64,
    pub output_tokens: f64,
    pub dollars: f64,
}

impl Amounts {
    pub const fn get(&self, unit: Unit) -> f64 {
        match unit {
            Unit::Requests => self.requests,
            Unit::InputTokens => self.input_tokens,
            Unit::OutputTokens => self.output_tokens,
            Unit::Dollars => self.dollars,
        }
    }

    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        self.each(|amount| amount * factor)
    }

    /// The smaller of both, unit by unit.
    #[must_use]
    pub fn at_most(self, other: Self) -> Self {
        self.with(other, f64::min)
    }

    /// Whether it can be what somebody used.
    fn is_sound(&self) -> bool {
        Unit::ALL
            .iter()
            .all(|unit| self.get(*unit).is_finite() && self.get(*unit) >= 0.0)
    }

    fn each(self, of: impl Fn(f64) -> f64) -> Self {
        Self {
            requests: of(self.requests),
            input_tokens: of(self.input_tokens),
            output_tokens: of(self.output_tokens),
            dollars: of(self.dollars),
        }
    }

    fn with(self, other: Self, of: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            requests: of(self.requests, other.requests),
            input_tokens: of(self.input_tokens, other.input_tokens),
            output_tokens: of(self.output_tokens, other.output_tokens),
            dollars: of(self.dollars, other.dollars),
        }
    }
}

impl AddAssign for Amounts {
    fn add_assign(&mut self, other: Self) {
        *self = self.with(other, |a, b| a + b);
    }
}

impl SubAssign for Amounts {
    /// Never below nothing.
    fn sub_assign(&mut self, other: Self) {
        *self = self.with(other, |a, b| (a - b).max(0.0));
    }
}

/// For how long a budget is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Per {
    Hour,
    Day,
}

impl Per {
    /// As written in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    pub const fn seconds(self) -> f64 {
        match self {
            Self::Hour => 3_600.0,
            Self::Day => 86_400.0,
        }
    }
}

/// The limits of one period; at least one is given, none of them 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    pub requests: Option<u64>,
    pub input_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
    pub dollars: Option<f64>,
    pub per: Per,
}

impl Budget {
    /// What each of so many replicas may use, so that all together keep to it.
    #[must_use]
    pub fn share(self, replicas: u32) -> Self {
        let replicas = u64::from(replicas.max(1));
        let of = |limit: Option<u64>| limit.map(|limit| limit / replicas);
        Self {
            requests: of(self.requests),
            input_tokens: of(self.input_tokens),
            output_tokens: of(self.output_tokens),
            dollars: self.dollars.map(|limit| limit / replicas as f64),
            per: self.per,
        }
    }

    pub fn limit(&self, unit: Unit) -> Option<f64> {
        match unit {
            Unit::Requests => self.requests.map(|limit| limit as f64),
            Unit::InputTokens => self.input_tokens.map(|limit| limit as f64),
            Unit::OutputTokens => self.output_tokens.map(|limit| limit as f64),
            Unit::Dollars => self.dollars,
        }
    }

    /// The first unit of which `amounts` exceed the limit.
    pub fn exceeded_by(&self, amounts: &Amounts) -> Option<Unit> {
        let exceeds = |unit: &&Unit| {
            self.limit(**unit)
                .is_some_and(|limit| amounts.get(**unit) > limit * (1.0 + 1e-9))
        };
        Unit::ALL.iter().find(exceeds).copied()
    }

    fn period(&self, at: f64) -> f64 {
        (at / self.per.seconds()).floor()
    }
}

/// What was used in a period, as it is kept over restarts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Used {
    pub per: Per,
    /// When the period began, in seconds since the Unix epoch.
    pub since: f64,
    pub used: Amounts,
}

impl Used {
    /// Whether the hour or day that it was used in is the one at `at`, in seconds since the Unix epoch.
    pub fn is_of_now(&self, at: f64) -> bool {
        (0.0..self.per.seconds()).contains(&(at - self.since))
    }
}

/// Whether a due round may be fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Fire,
    /// It would last no longer than a part of the period otherwise.
    Thinned,
    /// What is left does not suffice for it.
    Exhausted,
}

/// A budget and what was used of it. Rounds are told apart by a number.
#[derive(Clone, Debug)]
pub struct Account {
    budget: Budget,
    period: f64,
    used: Amounts,
    reserved: Amounts,
    rounds: BTreeMap<usize, Rounds>,
}

/// The rounds of one probe at one target.
#[derive(Clone, Debug)]
struct Rounds {
    timetable: Timetable,
    most: Amounts,
    /// What those that ended have cost, and how many they are.
    cost: Amounts,
    ended: f64,
    /// Due and not fired since the last one of this period that was; `None` before the first.
    passed_over: Option<f64>,
    /// One in so many is fired, at least 1.
    stretch: f64,
}

impl Rounds {
    fn average(&self) -> Amounts {
        if self.ended > 0.0 {
            self.cost.times(1.0 / self.ended)
        } else {
            self.most
        }
    }
}

impl Account {
    pub fn new(budget: Budget, at: f64) -> Self {
        Self {
            budget,
            period: budget.period(at),
            used: Amounts::default(),
            reserved: Amounts::default(),
            rounds: BTreeMap::new(),
        }
    }

    /// Takes over what was used before a restart, if it was in the period that is now.
    pub fn restore(&mut self, kept: &Used) {
        let apart = (self.budget.period(kept.since) - self.period).abs();
        let is_now = kept.per == self.budget.per && apart < 0.5;
        if is_now && kept.used.is_sound() {
            self.used = kept.used;
        }
    }

    /// What is to be kept over restarts. What is reserved for rounds under way may have been used when the process dies,
    /// or one that dies again and again would send them for nothing.
    pub fn kept(&self) -> Used {
        let mut used = self.used;
        used += self.reserved;
        Used {
            per: self.budget.per,
            since: self.period * self.budget.per.seconds(),
            used,
        }
    }

    /// Goes on with other limits; whether it can: those of another period count from another beginning.
    pub fn change_budget(&mut self, budget: Budget) -> bool {
        let goes_on = budget.per == self.budget.per;
        if goes_on {
            self.budget = budget;
        }
        goes_on
    }

    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// What was used in the period that is now.
    pub fn used(&mut self, at: f64) -> Amounts {
        self.turn(at);
        self.used
    }

    /// Rounds that draw on this budget, each of which costs at most `most`.
    pub fn join(&mut self, id: usize, timetable: Timetable, most: Amounts) {
        self.rounds.insert(
            id,
            Rounds {
                timetable,
                most,
                cost: Amounts::default(),
                ended: 0.0,
                passed_over: None,
                stretch: 1.0,
            },
        );
    }

    /// What would become of a round that is due and costs at most `most`; [`Self::decided`] is to be told.
    pub fn verdict(&mut self, id: usize, most: Amounts, at: f64) -> Verdict {
        self.turn(at);
        let end = (self.period + 1.0) * self.budget.per.seconds();
        let due: BTreeMap<usize, f64> = self
            .rounds
            .iter()
            .map(|(&other, rounds)| {
                let due = rounds.timetable.due(at, end);
                // This one and those after it; of others, one that is due when the period ends belongs to the next.
                let due = if other == id {
                    due.ceil().max(1.0)
                } else {
                    due.floor()
                };
                (other, due)
            })
            .collect();
        let mut share: f64 = 1.0;
        for &unit in Unit::ALL {
            let Some(limit) = self.budget.limit(unit) else {
                continue;
            };
            let rest = (limit - self.used.get(unit) - self.reserved.get(unit)).max(0.0);
            let costs = self.rounds.iter().zip(due.values());
            let cost = costs.map(|((_, rounds), due)| due * rounds.average().get(unit));
            let cost: f64 = cost.sum();
            if cost > rest {
                share = share.min(rest / cost);
            }
        }
        let fits = self.fits(most);
        let Some(rounds) = self.rounds.get_mut(&id) else {
            return if fits { Verdict::Fire } else { Verdict::Exhausted };
        };
        let due = due.get(&id).copied().unwrap_or(1.0);
        let passed_over = rounds.passed_over.unwrap_or_default();
        rounds.stretch = if share < 1.0 {
            ((passed_over + due + 1.0) / (share * due + 1.0)).max(1.0)
        } else {
            1.0
        };
        if !fits {
            Verdict::Exhausted
        } else if rounds.passed_over.is_none() || passed_over + 1.0 >= rounds.stretch {
            Verdict::Fire
        } else {
            Verdict::Thinned
        }
    }

    fn fits(&self, most: Amounts) -> bool {
        let mut planned = self.reserved;
        planned += self.used;
        planned += most;
        self.budget.exceeded_by(&planned).is_none()
    }

    /// Whether something beside the rounds may cost `most`. It is not thinned, and not reserved yet.
    pub fn affords(&mut self, most: Amounts, at: f64) -> bool {
        self.turn(at);
        self.fits(most)
    }

    /// Reserves it.
    pub fn reserve(&mut self, most: Amounts) {
        self.reserved += most;
    }

    /// So much of what was reserved is free again.
    pub fn release(&mut self, free: Amounts) {
        self.reserved -= free;
    }

    /// What became of it: where several budgets hold for a round, all must let it pass.
    pub fn decided(&mut self, id: usize, most: Amounts, fires: bool) {
        if fires {
            self.reserve(most);
        }
        if let Some(rounds) = self.rounds.get_mut(&id) {
            rounds.passed_over = if fires {
                Some(0.0)
            } else {
                rounds.passed_over.map(|passed_over| passed_over + 1.0)
            };
        }
    }

    /// A request of a round ended; so much of it was reserved. Whether all that is reserved still fits: not where requests
    /// use more than the most that they were taken to.
    pub fn charge(&mut self, amounts: Amounts, of_reserved: Amounts, at: f64) -> bool {
        self.turn(at);
        self.used += amounts;
        self.reserved -= of_reserved;
        self.fits(Amounts::default())
    }

    /// A round ended that has cost so much; so much of what was reserved for it is free again.
    pub fn ended(&mut self, id: usize, cost: Amounts, free: Amounts) {
        self.release(free);
        if let Some(rounds) = self.rounds.get_mut(&id) {
            rounds.cost += cost;
            rounds.ended += 1.0;
        }
    }

    /// No rounds of `id` are due any more.
    pub fn leave(&mut self, id: usize) {
        self.rounds.remove(&id);
    }

    /// By how much the interval of these rounds is stretched, at least 1.
    pub fn stretch(&self, id: usize) -> f64 {
        self.rounds.get(&id).map_or(1.0, |rounds| rounds.stretch)
    }

    /// A new period begins with nothing used. A clock that was put back gives nothing back.
    fn turn(&mut self, at: f64) {
        let period = self.budget.period(at);
        if period > self.period {
            self.period = period;
            self.used = Amounts::default();
            for rounds in self.rounds.values_mut() {
                rounds.passed_over = None;
                rounds.stretch = 1.0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::calendar::{Calendar, Days, Hours, Window, Zone};

    fn every(every: Duration) -> Timetable {
        Timetable {
            every,
            cron: None,
            calendar: Calendar::default(),
            replicas: 1,
        }
    }

    impl Account {
        /// A round is due, and no other budget holds for it.
        fn due(&mut self, id: usize, most: Amounts, at: f64) -> Verdict {
            let verdict = self.verdict(id, most, at);
            self.decided(id, most, verdict == Verdict::Fire);
            verdict
        }
    }

    const DAY: f64 = 86_400.0;
    const MIDNIGHT: f64 = 20_000.0 * DAY;

    fn requests(requests: u64, per: Per) -> Budget {
        Budget {
            requests: Some(requests),
            input_tokens: None,
            output_tokens: None,
            dollars: None,
            per,
        }
    }

    fn cost(requests: f64) -> Amounts {
        Amounts {
            requests,
            ..Amounts::default()
        }
    }

    /// Seconds of the day at which rounds of `every` seconds that cost `most` at most and `real` in fact fire.
    fn day(account: &mut Account, every: u32, most: Amounts, real: Amounts, begin: f64) -> Vec<f64> {
        account.join(0, self::every(Duration::from_secs(every.into())), most);
        let mut fired = Vec::new();
        let mut at = begin;
        while at < MIDNIGHT + DAY {
            if account.due(0, most, at) == Verdict::Fire {
                account.charge(real, real.at_most(most), at);
                let mut free = most;
                free -= real;
                account.ended(0, real, free);
                fired.push(at - MIDNIGHT);
            }
            at += f64::from(every);
        }
        fired
    }

    #[test]
    fn a_demo_day_keeps_its_budget_to_the_request() {
        // Limit, interval in seconds, requests a round; rounds that fire.
        for (limit, every, round, fires) in [
            (1440, 60, 1.0, 1440),
            (2000, 60, 1.0, 1440),
            (1439, 60, 1.0, 1439),
            (720, 60, 1.0, 720),
            (100, 60, 10.0, 10),
            (105, 60, 10.0, 10),
            (1, 60, 1.0, 1),
            (9, 60, 10.0, 0),
            (7, 3600, 1.0, 7),
        ] {
            let mut account = Account::new(requests(limit, Per::Day), MIDNIGHT);
            let fired = day(&mut account, every, cost(round), cost(round), MIDNIGHT + 1.0);
            assert_eq!(fired.len(), fires, "{limit} a day, {round} every {every} s");
            assert!(account.used(MIDNIGHT + DAY - 1.0).requests <= limit as f64);
        }
    }

    #[test]
    fn a_budget_that_is_too_small_thins_evenly_until_the_period_ends() {
        for (limit, every) in [(720, 60), (100, 60), (1000, 30), (11, 3600)] {
            let mut account = Account::new(requests(limit, Per::Day), MIDNIGHT);
            let fired = day(&mut account, every, cost(1.0), cost(1.0), MIDNIGHT);
            assert_eq!(fired.len() as u64, limit);
            let even = DAY / limit as f64;
            let gaps: Vec<_> = fired.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let widest = gaps.iter().copied().fold(0.0, f64::max);
            assert!(
                widest <= even + 2.0 * f64::from(every),
                "{limit}: {widest} s, {even} s would be even"
            );
            assert!(
                DAY - fired.last().unwrap() <= even + 2.0 * f64::from(every),
                "{limit}"
            );
        }
    }

    #[test]
    fn what_rounds_cost_in_fact_decides_on_thinning_and_the_most_on_firing() {
        // A round may cost 10 and costs 1: 2000 suffice for the 1440 of a day.
        let mut account = Account::new(requests(2000, Per::Day), MIDNIGHT);
        let fired = day(&mut account, 60, cost(10.0), cost(1.0), MIDNIGHT);
        assert_eq!(fired.len(), 1440);
    }

    #[test]
    fn a_day_that_begins_at_noon_has_the_whole_budget() {
        let mut account = Account::new(requests(720, Per::Day), MIDNIGHT + DAY / 2.0);
        let fired = day(&mut account, 60, cost(1.0), cost(1.0), MIDNIGHT + DAY / 2.0);
        assert_eq!(fired.len(), 720);
    }

    #[test]
    fn rounds_of_several_probes_share_the_budget_of_a_target() {
        let mut account = Account::new(requests(720, Per::Day), MIDNIGHT);
        for id in 0..2 {
            account.join(id, every(Duration::from_mins(1)), cost(1.0));
        }
        let mut fired = [0, 0];
        for minute in 0..1440 {
            for (id, fired) in fired.iter_mut().enumerate() {
                let at = MIDNIGHT + 60.0 * f64::from(minute) + 10.0 * id as f64;
                if account.due(id, cost(1.0), at) == Verdict::Fire {
                    account.charge(cost(1.0), cost(1.0), at);
                    account.ended(id, cost(1.0), cost(0.0));
                    *fired += 1;
                }
            }
        }
        assert!(fired.iter().sum::<i32>() <= 720);
        assert!(fired.iter().all(|fired| (355..=365).contains(fired)), "{fired:?}");
    }

    #[test]
    fn windows_thin_over_what_is_due_inside_them() {
        let zone = Zone::named("UTC").unwrap();
        let calendar = Calendar {
            zone,
            windows: vec![Window {
                days: Days::parse("mon-fri").unwrap(),
                hours: Hours::parse("08:00-18:00").unwrap(),
            }],
            ..Calendar::default()
        };
        // A Thursday.
        let monday = MIDNIGHT;
        let mut account = Account::new(requests(6, Per::Hour), monday);
        let timetable = Timetable {
            calendar,
            ..every(Duration::from_mins(5))
        };
        account.join(0, timetable, cost(1.0));
        let fired: Vec<u32> = (0..12)
            .filter(|number| {
                let at = monday + 9.0 * 3600.0 + 300.0 * f64::from(*number);
                let fires = account.due(0, cost(1.0), at) == Verdict::Fire;
                if fires {
                    account.charge(cost(1.0), cost(1.0), at);
                    account.ended(0, cost(1.0), cost(0.0));
                }
                fires
            })
            .collect();
        assert_eq!(fired.len(), 6, "{fired:?}");
        assert!(fired.windows(2).all(|pair| pair[1] - pair[0] <= 3), "{fired:?}");
        assert!(fired[5] >= 9, "{fired:?}");
    }

    #[test]
    fn replicas_keep_to_the_budget_together() {
        let budget = requests(720, Per::Day);
        let mut all = 0;
        for replica in 0..2 {
            let mut account = Account::new(budget.share(2), MIDNIGHT);
            let timetable = Timetable {
                replicas: 2,
                ..every(Duration::from_mins(1))
            };
            account.join(0, timetable, cost(1.0));
            let mut last = 0.0;
            for number in (replica..1440).step_by(2) {
                let at = MIDNIGHT + 60.0 * f64::from(number);
                if account.due(0, cost(1.0), at) == Verdict::Fire {
                    account.charge(cost(1.0), cost(1.0), at);
                    account.ended(0, cost(1.0), cost(0.0));
                    all += 1;
                    last = at - MIDNIGHT;
                }
            }
            assert!(last > 23.0 * 3600.0, "it lasts the day: {last}");
        }
        assert_eq!(all, 720);
    }

    #[test]
    fn what_is_under_way_when_the_process_dies_stays_used() {
        let mut account = Account::new(requests(100, Per::Day), MIDNIGHT);
        account.join(0, every(Duration::from_mins(1)), cost(50.0));
        assert_eq!(account.due(0, cost(50.0), MIDNIGHT + 1.0), Verdict::Fire);
        account.charge(cost(1.0), cost(1.0), MIDNIGHT + 2.0);
        assert_eq!(account.kept().used, cost(50.0));
        account.ended(0, cost(1.0), cost(49.0));
        assert_eq!(account.kept().used, cost(1.0));
    }

    #[test]
    fn what_is_reserved_is_not_given_twice() {
        let mut account = Account::new(requests(10, Per::Hour), MIDNIGHT);
        for id in 0..2 {
            account.join(id, every(Duration::from_mins(50)), cost(6.0));
        }
        let now = MIDNIGHT + 3599.0;
        assert_eq!(account.due(0, cost(6.0), now), Verdict::Fire);
        assert_eq!(account.due(1, cost(6.0), now), Verdict::Exhausted);
        account.charge(cost(1.0), cost(1.0), now);
        account.ended(0, cost(1.0), cost(5.0));
        assert_eq!(account.due(1, cost(6.0), now), Verdict::Fire);
    }

    #[test]
    fn a_new_period_begins_with_nothing_used_and_a_clock_that_is_put_back_gives_nothing_back() {
        let mut account = Account::new(requests(10, Per::Hour), MIDNIGHT + 10.0);
        account.charge(cost(9.0), cost(0.0), MIDNIGHT + 20.0);
        for (at, used) in [(3599.0, 9.0), (-7200.0, 9.0), (3600.0, 0.0)] {
            assert_eq!(account.used(MIDNIGHT + at), cost(used), "{at}");
        }
    }

    #[test]
    fn only_the_period_that_is_now_is_restored() {
        let now = MIDNIGHT + 3.5 * 3600.0;
        let used = |since: f64, per, amount: f64| Used {
            per,
            since,
            used: cost(amount),
        };
        for (kept, restored) in [
            (used(MIDNIGHT + 3.0 * 3600.0, Per::Hour, 4.0), 4.0),
            (used(MIDNIGHT + 2.0 * 3600.0, Per::Hour, 4.0), 0.0),
            (used(MIDNIGHT + 4.0 * 3600.0, Per::Hour, 4.0), 0.0),
            (used(MIDNIGHT + 3.0 * 3600.0, Per::Day, 4.0), 0.0),
            (used(MIDNIGHT + 3.0 * 3600.0, Per::Hour, -4.0), 0.0),
            (used(MIDNIGHT + 3.0 * 3600.0, Per::Hour, f64::NAN), 0.0),
        ] {
            let mut account = Account::new(requests(10, Per::Hour), now);
            account.restore(&kept);
            assert_eq!(account.used(now), cost(restored), "{kept:?}");
            assert!((account.kept().since - MIDNIGHT - 3.0 * 3600.0).abs() < 0.5);
        }
    }

    #[test]
    fn every_unit_has_its_limit() {
        let amounts = Amounts {
            requests: 1.0,
            input_tokens: 20.0,
            output_tokens: 300.0,
            dollars: 0.5,
        };
        let none = Budget {
            requests: None,
            input_tokens: None,
            output_tokens: None,
            dollars: None,
            per: Per::Day,
        };
        for (budget, exceeded) in [
            (none, None),
            (
                Budget {
                    input_tokens: Some(19),
                    ..none
                },
                Some(Unit::InputTokens),
            ),
            (
                Budget {
                    output_tokens: Some(300),
                    ..none
                },
                None,
            ),
            (
                Budget {
                    dollars: Some(0.49),
                    ..none
                },
                Some(Unit::Dollars),
            ),
        ] {
            assert_eq!(budget.exceeded_by(&amounts), exceeded, "{budget:?}");
        }
    }
}
