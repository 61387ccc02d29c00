//! The diagnosis names the truth, against the engine in virtual time and against the simulator over sockets.
#![cfg(test)]

mod cases;

#[test]
fn the_truth_is_named() {
    for (name, truth, run) in cases::all() {
        let named = (0..20)
            .map(|seed| run(&mut fastrand::Rng::with_seed(seed)))
            .filter(|diagnosis| {
                let right = truth.is_named_by(diagnosis);
                if !right {
                    eprintln!("{name}: {} {:?}", diagnosis.sentence, diagnosis.slots);
                }
                right
            })
            .count();
        assert!(named >= 19, "{name}: {named} of 20");
    }
}
