//! The buckets of a native histogram: their bounds are powers of one factor, and only those exist that hold
//! something. As in `client_golang`, so that they can be added to what other exporters say.

use std::collections::BTreeMap;

use crate::units::Seconds;

/// 2^(1/8): bounds are 9 % apart.
const FINEST_SCHEMA: i8 = 3;

/// What is up to here is zero: 2^-128, the threshold of all Prometheus clients.
pub(super) const ZERO_THRESHOLD: f64 = 1.0 / 340_282_366_920_938_463_463_374_607_431_768_211_456.0;

/// Where there would be more, pairs of neighbours become one.
const MOST_BUCKETS: usize = 160;

/// Upper bounds of the finest schema between 0.5 and 1: 2^(-8/8), 2^(-7/8) and so on, correctly rounded.
const FRACTIONS: [f64; 8] = [
    0.5,
    0.545_253_866_332_628_8,
    0.594_603_557_501_360_5,
    0.648_419_777_325_504_8,
    std::f64::consts::FRAC_1_SQRT_2,
    0.771_105_412_703_970_4,
    0.840_896_415_253_714_5,
    0.917_004_043_204_671_2,
];

/// A native histogram of durations. Its sum is that of the classic one beside it.
#[derive(Clone, Debug)]
pub(super) struct Native {
    schema: i8,
    zero_count: u64,
    /// Observations by the index of the bucket: bucket i is up to 2^(i / 2^schema), with that bound.
    buckets: BTreeMap<i32, u64>,
}

/// Buckets that follow one another.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// From the end of the span before; of the first one, from index 0.
    pub(super) offset: i32,
    pub(super) counts: Vec<u64>,
}

impl Default for Native {
    fn default() -> Self {
        Self {
            schema: FINEST_SCHEMA,
            zero_count: 0,
            buckets: BTreeMap::new(),
        }
    }
}

impl Native {
    pub(super) fn observe(&mut self, value: Seconds) {
        if value.get() <= ZERO_THRESHOLD {
            self.zero_count += 1;
            return;
        }
        let coarser = (self.schema..FINEST_SCHEMA).fold(finest_index(value.get()), |index, _| halved(index));
        *self.buckets.entry(coarser).or_default() += 1;
        while self.buckets.len() > MOST_BUCKETS {
            self.schema -= 1;
            for (index, count) in std::mem::take(&mut self.buckets) {
                *self.buckets.entry(halved(index)).or_default() += count;
            }
        }
    }

    pub(super) const fn schema(&self) -> i8 {
        self.schema
    }

    pub(super) const fn zero_count(&self) -> u64 {
        self.zero_count
    }

    pub(super) fn spans(&self) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        let mut end = 0;
        for (&index, &count) in &self.buckets {
            match spans.last_mut() {
                Some(last) if index == end => last.counts.push(count),
                _ => spans.push(Span {
                    offset: index - end,
                    counts: vec![count],
                }),
            }
            end = index + 1;
        }
        spans
    }
}

/// The bucket of the next coarser schema that holds bucket `index`.
const fn halved(index: i32) -> i32 {
    (index + 1).div_euclid(2)
}

/// The bucket of the finest schema that holds `value`, which is above the zero threshold.
fn finest_index(value: f64) -> i32 {
    /// The exponent of 0.5 as it is stored.
    const HALF: u64 = 0x3fe;
    // value = fraction × 2^exponent with 0.5 ≤ fraction < 1; above the threshold all numbers are stored so.
    let bits = value.min(f64::MAX).to_bits();
    let exponent = i32::try_from(bits >> 52 & 0x7ff).unwrap_or_default() - 0x3fe;
    let fraction = f64::from_bits(bits & 0xf_ffff_ffff_ffff | HALF << 52);
    let position = FRACTIONS.partition_point(|&bound| bound < fraction);
    (exponent - 1) * 8 + i32::try_from(position).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(index: i32, schema: i8) -> f64 {
        (f64::from(index) / f64::from(schema).exp2()).exp2()
    }

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        for (index, &fraction) in (-8..).zip(&FRACTIONS) {
            assert!((fraction - bound(index, FINEST_SCHEMA)).abs() < 1e-15);
        }
        for exponent in [-120, -10, -1, 0, 1, 10, 40] {
            for (position, &fraction) in (0..).zip(&FRACTIONS) {
                let value = fraction * f64::from(exponent).exp2();
                let index = (exponent - 1) * 8 + position;
                assert_eq!(finest_index(value), index, "{value}");
                assert_eq!(finest_index(value.next_up()), index + 1, "{value}");
                assert_eq!(finest_index(value.next_down()), index, "{value}");
            }
        }
        assert_eq!(finest_index(f64::INFINITY), 8192);
    }

    #[test]
    fn spans_skip_what_is_empty() {
        let mut native = Native::default();
        assert_eq!(native.spans(), []);
        for value in [0.0, ZERO_THRESHOLD, 0.25, 0.26, 0.27, 0.3, 1.0, 2.0, 2.0] {
            native.observe(Seconds::new(value));
        }
        let span = |offset, counts: &[u64]| Span {
            offset,
            counts: counts.into(),
        };
        assert_eq!(native.zero_count(), 2);
        // 2^-2 is bucket -16; 0.26 and 0.27 are up to 2^-15/8, 0.3 is in bucket -13.
        assert_eq!(
            native.spans(),
            [span(-16, &[1, 2]), span(1, &[1]), span(12, &[1]), span(7, &[2])]
        );
    }

    #[test]
    fn neighbours_become_one_where_there_would_be_too_many() {
        let mut native = Native::default();
        let values: Vec<_> = (-100..100)
            .map(|index| bound(index, FINEST_SCHEMA) * 0.99)
            .collect();
        for &value in &values {
            native.observe(Seconds::new(value));
        }
        assert_eq!(native.schema(), 2);
        assert!(native.buckets.len() <= MOST_BUCKETS);
        assert_eq!(native.buckets.values().sum::<u64>(), 200);
        for (&index, &count) in &native.buckets {
            let within = values
                .iter()
                .filter(|value| **value > bound(index - 1, 2) && **value <= bound(index, 2));
            assert_eq!(within.count() as u64, count, "{index}");
        }
    }
}
