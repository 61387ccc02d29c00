//! Responses: the same meaning however they are cut. The first two bytes of the input choose the size of the pieces.

use llm_probe_exporter::{
    dialect::{Decoder, Delta, Dialect},
    framing::{Deframer, Framing},
    usage::Transcript,
};

type Frame = (Vec<u8>, Vec<u8>, bool);

/// A stream, and the sizes of the pieces that it comes in, in turn.
fn input(bytes: &[u8]) -> Option<(&[u8], [usize; 2])> {
    let (sizes, body) = bytes.split_at_checked(2)?;
    let [first, second] = sizes else { return None };
    Some((body, [1 + usize::from(*first), 1 + usize::from(*second % 7)]))
}

fn pieces(mut body: &[u8], sizes: [usize; 2]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    for size in sizes.into_iter().cycle() {
        if body.is_empty() {
            break;
        }
        let (piece, rest) = body.split_at(size.min(body.len()));
        pieces.push(piece);
        body = rest;
    }
    pieces
}

/// The same frames.
pub fn frames(framing: Framing, bytes: &[u8]) {
    let Some((body, sizes)) = input(bytes) else { return };
    let whole = deframe(framing, &[body]);
    assert_eq!(deframe(framing, &pieces(body, sizes)), whole);
    assert!(whole.0.len() <= body.len());
}

fn deframe(framing: Framing, pieces: &[&[u8]]) -> (Vec<Frame>, bool) {
    let mut frames: Vec<Frame> = Vec::new();
    let mut deframer = Deframer::new(framing);
    for piece in pieces {
        let each = |frame: llm_probe_exporter::framing::Frame<'_>| {
            frames.push((frame.event.to_vec(), frame.data.to_vec(), frame.unterminated));
        };
        if deframer.push(piece, each).is_err() {
            return (frames, false);
        }
    }
    deframer.finish(|frame| frames.push((frame.event.to_vec(), frame.data.to_vec(), frame.unterminated)));
    (frames, true)
}

/// The same deltas and text.
pub fn meaning(dialect: Dialect, bytes: &[u8]) {
    let Some((body, sizes)) = input(bytes) else { return };
    let whole = decode(dialect, &[body], true);
    assert_eq!(decode(dialect, &pieces(body, sizes), true), whole);
    let unheard = decode(dialect, &[body], false);
    assert_eq!((unheard.0, unheard.1), (whole.0, whole.1));
    let text = whole.2.expect("it was to be kept");
    assert!(text.visible.len() + text.reasoning.len() <= Transcript::MAX);
}

fn decode(
    dialect: Dialect,
    pieces: &[&[u8]],
    keep: bool,
) -> (Vec<Delta>, Option<String>, Option<Transcript>) {
    let mut deltas = Vec::new();
    let mut decoder = Decoder::new(dialect).keeping_text(keep);
    for piece in pieces {
        if let Err(error) = decoder.push(piece, |delta| deltas.push(delta)) {
            return (deltas, Some(error.to_string()), decoder.take_transcript());
        }
    }
    decoder.finish(|delta| deltas.push(delta));
    (deltas, None, decoder.take_transcript())
}
