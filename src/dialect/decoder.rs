//! The body of one response → what it means.

use std::fmt::{self, Write as _};

use super::{
    Delta, Dialect, anthropic_messages, fault::error_frame, gemini, llamacpp_completion, ollama_chat,
    openai_chat, openai_completions, openai_responses, said::Said, tgi_generate, triton_generate,
};
use crate::{
    config::plan::TextMode,
    framing::{Deframer, Frame, FramingError},
    usage::Transcript,
};

/// Why a body is not the protocol.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error(transparent)]
    Framing(#[from] FramingError),
    /// Which one, and what is wrong with it.
    #[error("frame {0}: {1}")]
    Frame(u32, String),
}

/// The most that is kept of what an error says, in bytes.
const LONGEST_ERROR: usize = 16 << 10;

/// The beginning of what an error says: it may quote a frame that is megabytes long.
fn in_brief(error: &serde_json::Error) -> String {
    struct Brief(String);
    impl fmt::Write for Brief {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let room = LONGEST_ERROR.saturating_sub(self.0.len());
            self.0
                .push_str(text.get(..text.floor_char_boundary(room)).unwrap_or_default());
            if text.len() > room {
                Err(fmt::Error)
            } else {
                Ok(())
            }
        }
    }
    let mut brief = Brief(String::new());
    // It stops where there is no more room.
    write!(brief, "{error}").ok();
    brief.0
}

/// Decodes the body of one response.
#[derive(Debug)]
pub struct Decoder {
    deframer: Deframer,
    frames: u32,
    meaning: Meaning,
}

/// What frames mean, one after the other.
#[derive(Debug)]
struct Meaning {
    dialect: Dialect,
    /// What earlier frames of a dialect said that later ones do not say again.
    prompt: anthropic_messages::Prompt,
    counted: gemini::Counted,
    seen: triton_generate::Seen,
    /// Only where somebody wants the text.
    transcript: Option<Transcript>,
}

impl Decoder {
    pub fn new(dialect: Dialect) -> Self {
        Self {
            deframer: Deframer::new(dialect.framing()),
            frames: 0,
            meaning: Meaning {
                dialect,
                prompt: anthropic_messages::Prompt::default(),
                counted: gemini::Counted::default(),
                seen: triton_generate::Seen::new(TextMode::Auto),
                transcript: None,
            },
        }
    }

    /// Says whether frames carry what is new or all so far, where the dialect leaves it open.
    #[must_use]
    pub fn text_mode(mut self, mode: TextMode) -> Self {
        self.meaning.seen = triton_generate::Seen::new(mode);
        self
    }

    /// Keeps the text of the answer, too.
    #[must_use]
    pub fn keeping_text(mut self, keep: bool) -> Self {
        self.meaning.transcript = keep.then(Transcript::default);
        self
    }

    /// Decodes a chunk and hands on what its frames mean. After an error the rest of the body means nothing.
    pub fn push(&mut self, chunk: &[u8], mut each: impl FnMut(Delta)) -> Result<(), DecodeError> {
        let mut undecodable = None;
        let (meaning, frames) = (&mut self.meaning, &mut self.frames);
        let pushed = self.deframer.push(chunk, |frame| {
            *frames += 1;
            if undecodable.is_none() {
                match meaning.of(frame) {
                    Ok(delta) => each(delta),
                    Err(error) => undecodable = Some(DecodeError::Frame(*frames, in_brief(&error))),
                }
            }
        });
        undecodable.map_or(Ok(()), Err)?;
        Ok(pushed?)
    }

    /// The body has ended in order. A last frame without its terminator counts if it is whole.
    pub fn finish(&mut self, mut each: impl FnMut(Delta)) {
        let (meaning, mut whole) = (&mut self.meaning, true);
        self.deframer.finish(|frame| match meaning.of(frame) {
            Ok(delta) => each(delta),
            Err(_) => whole = false,
        });
        if whole && meaning.dialect == Dialect::TritonGenerate {
            if let Some(transcript) = &mut meaning.transcript {
                transcript.add(meaning.seen.rest(), true);
            }
            each(triton_generate::end());
        }
    }

    pub fn dialect(&self) -> Dialect {
        self.meaning.dialect
    }

    /// The text so far, where it is kept; from here on it is not.
    pub fn take_transcript(&mut self) -> Option<Transcript> {
        self.meaning.transcript.take()
    }
}

impl Meaning {
    fn of(&mut self, frame: Frame<'_>) -> Result<Delta, serde_json::Error> {
        let Frame { event, data, .. } = frame;
        if data.trim_ascii() == b"[DONE]" {
            // Only where it belongs to the protocol is it the end marker; some servers say it everywhere.
            return Ok(Delta {
                finished: matches!(self.dialect, Dialect::OpenaiChat | Dialect::OpenaiCompletions),
                last: true,
                ..Delta::default()
            });
        }
        if let Some(error) = error_frame(event, data) {
            return Ok(Delta {
                error: Some(error),
                ..Delta::default()
            });
        }
        let mut said = Said::new(self.transcript.as_mut());
        let delta = match self.dialect {
            Dialect::OpenaiChat => openai_chat::decode(data, &mut said),
            Dialect::OpenaiCompletions => openai_completions::decode(data, &mut said),
            Dialect::OpenaiResponses => openai_responses::decode(event, data, &mut said),
            Dialect::AnthropicMessages => {
                anthropic_messages::decode(event, data, &mut self.prompt, &mut said)
            }
            Dialect::OllamaChat | Dialect::OllamaGenerate => ollama_chat::decode(data, &mut said),
            Dialect::LlamacppCompletion => llamacpp_completion::decode(data, &mut said),
            Dialect::TgiGenerate => tgi_generate::decode(data, &mut said),
            Dialect::TritonGenerate => triton_generate::decode(data, &mut self.seen, &mut said),
            Dialect::Gemini => gemini::decode(data, &mut self.counted, &mut said),
        }?;
        Ok(Delta {
            output: said.output(),
            ..delta
        })
    }
}
