use proptest::prelude::*;

use super::*;

/// A server that makes so many tokens of a word, give or take, and adds so many.
struct Server {
    overhead: f64,
    tokens_per_word: f64,
    /// The deviation of a word; that of a prompt is as of so many independent words.
    noise: f64,
    random: fastrand::Rng,
}

impl Server {
    fn count(&mut self, words: u64) -> Count {
        let deviation = self.noise * (words as f64).sqrt();
        let noise = deviation * crate::random::normal(&mut self.random);
        let tokens = (words as f64).mul_add(self.tokens_per_word, self.overhead) + noise;
        Count {
            words,
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a test")]
            tokens: Tokens(tokens.round().max(1.0) as u64),
        }
    }
}

fn learned(counts: &[(u64, u64)]) -> Calibration {
    let mut calibration = Calibration::default();
    for &(words, tokens) in counts {
        let tokens = Tokens(tokens);
        calibration.learn(Count { words, tokens }, 1e9);
    }
    calibration
}

/// Whether prompts of so many tokens would have them.
fn is_met(fit: &Fit, server: &mut Server, tokens: u64) -> bool {
    let noise = std::mem::take(&mut server.noise);
    let counted = server.count(fit.words_of_prompt(Tokens(tokens))).tokens.0;
    server.noise = noise;
    let off = counted.abs_diff(tokens) as f64;
    off <= (tokens as f64 * 0.02).max(2.0)
}

proptest! {
    #[test]
    fn two_prompts_are_enough_where_words_are_alike(
        overhead in 0.0..20.0, tokens_per_word in 0.8..4.0, tokens in prop::sample::select(vec![32_u64, 300, 2000, 100_000]),
    ) {
        let mut server = Server { overhead, tokens_per_word, noise: 0.0, random: fastrand::Rng::with_seed(1) };
        let mut calibration = Calibration::default();
        for words in [16, 1024] {
            calibration.learn(server.count(words), 1e9);
        }
        let fit = calibration.fit().unwrap();
        prop_assert!(is_met(&fit, &mut server, tokens), "{fit:?}");
    }

    #[test]
    fn it_comes_near_by_its_own_prompts_alone(
        overhead in 0.0..40.0, tokens_per_word in 0.9..2.0, tokens in 100_u64..3000, seed: u64,
    ) {
        let mut server = Server { overhead, tokens_per_word, noise: 0.1, random: fastrand::Rng::with_seed(seed) };
        let mut calibration = Calibration::default();
        for _ in 0..6 {
            let fit = calibration.fit().unwrap_or(Fit::ASSUMED);
            calibration.learn(server.count(fit.words_of_prompt(Tokens(tokens))), 1e9);
        }
        let fit = calibration.fit().unwrap();
        prop_assert!(is_met(&fit, &mut server, tokens), "{fit:?}");
    }

    #[test]
    fn noise_and_wrong_counts_now_and_then_do_no_harm(seed: u64, wrong in 0_u64..1 << 41) {
        let random = fastrand::Rng::with_seed(seed);
        let mut server = Server { overhead: 11.0, tokens_per_word: 1.37, noise: 0.1, random };
        let mut calibration = Calibration::default();
        for words in [16, 500, 213, 214, 212, 213, 230, 200] {
            calibration.learn(server.count(words), 1e9);
        }
        calibration.learn(Count { words: 213, tokens: Tokens(wrong) }, 1e9);
        let fit = calibration.fit().unwrap();
        prop_assert!(is_met(&fit, &mut server, 300), "{fit:?}");
    }

    #[test]
    fn whatever_is_counted_prompts_stay_bounded(counts: Vec<(u64, u64)>, tokens in 1_u64..1_000_000) {
        let calibration = learned(&counts);
        prop_assert!(calibration.counts.len() <= MOST_COUNTS);
        let words = calibration.fit().unwrap_or(Fit::ASSUMED).words_of_prompt(Tokens(tokens));
        prop_assert!((1..=2 * tokens).contains(&words), "{words}");
    }
}

#[test]
fn what_no_server_can_have_counted_teaches_nothing() {
    const MOST: u64 = Tokens::MOST.0;
    for (what, counts) in [
        ("nothing", vec![]),
        ("zero", vec![(16, 0), (300, 0)]),
        ("the most there is", vec![(16, MOST), (300, MOST)]),
        ("always the same", vec![(16, 50), (300, 50), (100, 50)]),
        ("less for more", vec![(16, 500), (300, 20)]),
        ("far too much for more", vec![(16, 20), (300, 1 << 30)]),
        (
            "at random",
            vec![
                (16, 900),
                (300, 20),
                (100, 7000),
                (200, 5),
                (250, 90_000),
                (30, 77),
            ],
        ),
    ] {
        assert_eq!(learned(&counts).fit(), None, "{what}");
    }
}

#[test]
fn one_length_is_met_and_two_are_known() {
    let mut calibration = learned(&[(300, 422)]);
    assert!(!calibration.is_known());
    let fit = calibration.fit().unwrap();
    assert_eq!(fit.words_of_prompt(Tokens(300)), 213);
    assert_eq!(fit.words_of_prompt(Tokens(422)), 300);
    let tokens = Tokens(303);
    calibration.learn(Count { words: 213, tokens }, 1e9);
    assert!(calibration.is_known());
    let fit = calibration.fit().unwrap();
    assert!((fit.tokens_per_word() - 119.0 / 87.0).abs() < 1e-9 && (fit.overhead() - 11.6).abs() < 0.2);
}

#[test]
fn an_overhead_beyond_the_prompt_leaves_a_word() {
    let fit = learned(&[(16, 3016), (256, 3256)]).fit().unwrap();
    assert_eq!(fit.words_of_prompt(Tokens(300)), 1);
    assert_eq!(fit.words_of_prompt(Tokens(3100)), 100);
    assert_eq!(fit.words_of_text(Tokens(300)), 300);
}

#[test]
fn another_model_under_the_name_is_followed() {
    let mut server = Server {
        overhead: 11.0,
        tokens_per_word: 1.0,
        noise: 0.0,
        random: fastrand::Rng::with_seed(1),
    };
    let mut calibration = Calibration::default();
    for words in [16, 300, 289, 289, 289] {
        calibration.learn(server.count(words), 1e9);
    }
    server.tokens_per_word = 1.37;
    for _ in 0..12 {
        let fit = calibration.fit().unwrap_or(Fit::ASSUMED);
        calibration.learn(server.count(fit.words_of_prompt(Tokens(300))), 1e9);
    }
    let fit = calibration.fit().unwrap();
    assert!(is_met(&fit, &mut server, 300), "{fit:?}");
}

#[test]
fn it_survives_being_kept() {
    let calibrations = Calibrations::default();
    let tokens = Tokens(31);
    calibrations.learn("a", &[Count { words: 16, tokens }], 1e9);
    assert!(calibrations.have_changed() && !calibrations.have_changed());
    let text = serde_json::to_string(&calibrations.kept()).unwrap();
    for (later, is_kept) in [(1e5, true), (1e8, false)] {
        let again = Calibrations::default();
        again.restore(&serde_json::from_str(&text).unwrap(), 1e9 + later);
        assert_eq!(again.of("a") == calibrations.of("a"), is_kept);
    }
}

#[test]
fn what_cannot_have_been_learned_is_not_taken_up() {
    let kept = |counts: &[Count]| {
        let counts = serde_json::to_value(counts).unwrap();
        let kept = serde_json::json!({ "m": { "counts": counts, "last": 1e9 } });
        let calibrations = Calibrations::default();
        calibrations.restore(&serde_json::from_value(kept).unwrap(), 1e9);
        calibrations.of("m").counts.len()
    };
    let count = |words, tokens| Count {
        words,
        tokens: Tokens(tokens),
    };
    let few: Vec<_> = (1..=MOST_COUNTS as u64)
        .map(|words| count(words, words))
        .collect();
    assert_eq!(kept(&few), MOST_COUNTS);
    // All of these would be compared with one another.
    let many: Vec<_> = (1..=1000).map(|words| count(words, words)).collect();
    assert_eq!(kept(&many), 0);
    assert_eq!(kept(&[count(0, 5)]), 0);
    assert_eq!(kept(&[count(5, u64::MAX)]), 0);
}
