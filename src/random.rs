//! Numbers drawn from distributions. Whoever draws brings the generator, so that a seed gives the same numbers.

use fastrand::Rng;

/// Exponentially distributed with mean 1.
pub fn exponential(random: &mut Rng) -> f64 {
    -(1.0 - random.f64()).ln()
}

/// Normally distributed with mean 0 and deviation 1 (Box and Muller).
pub fn normal(random: &mut Rng) -> f64 {
    (2.0 * exponential(random)).sqrt() * (std::f64::consts::TAU * random.f64()).cos()
}

/// Gamma distributed with this shape and scale 1 (Marsaglia and Tsang, "A simple method for generating gamma
/// variables", 2000); below a shape of 1 by way of the next higher one.
pub fn gamma(shape: f64, random: &mut Rng) -> f64 {
    if shape < 1.0 {
        let above = gamma(shape + 1.0, random);
        return above * (1.0 - random.f64()).powf(shape.recip());
    }
    let d = shape - 1.0 / 3.0;
    let c = (9.0 * d).sqrt().recip();
    loop {
        let x = normal(random);
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && (1.0 - random.f64()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}
