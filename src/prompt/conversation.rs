//! Conversations: what one user asks turn by turn, each time with all that was said before, the model's own
//! answers among it.

use std::{num::NonZeroU32, vec};

use super::{Cache, MadeUp, Message, Question, Role};
use crate::{units::Name, usage::Transcript};

/// A conversation as it is written down: everything but the answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// For people, who want to find it again.
    pub name: Option<Name>,
    /// In place of the prompt's.
    pub system: Option<String>,
    /// What was said before the first turn, by both.
    pub before: Vec<Message>,
    /// What the user says, turn by turn: at least one.
    pub turns: Vec<String>,
}

impl Script {
    /// The most turns of a conversation: each makes the next one longer.
    pub const MOST_TURNS: usize = 100;

    /// One turn, which says this.
    pub fn of_text(text: impl Into<String>) -> Self {
        Self {
            turns: vec![text.into()],
            ..Self::default()
        }
    }

    /// Bytes of everything that is written down.
    pub fn bytes(&self) -> usize {
        let before = self.before.iter().map(|message| message.content.len());
        let turns = self.turns.iter().map(String::len);
        before.chain(turns).sum()
    }
}

/// Which prompt a request asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Of the script, where it has one.
    pub name: Option<Name>,
    /// Which turn of its conversation it is, from 1.
    pub turn: NonZeroU32,
    /// How it was made up, where it was.
    pub made_up: Option<MadeUp>,
}

impl Asked {
    pub fn is_first_turn(&self) -> bool {
        self.turn == NonZeroU32::MIN
    }

    /// What is to be expected of the server's prefix cache where the prompt says `cache`: what was said in the turns
    /// before it has seen.
    pub fn expects(&self, cache: Cache) -> Cache {
        if self.is_first_turn() { cache } else { Cache::Share }
    }
}

impl Default for Asked {
    /// The first turn of a nameless one.
    fn default() -> Self {
        Self {
            name: None,
            turn: NonZeroU32::MIN,
            made_up: None,
        }
    }
}

/// A conversation under way.
#[derive(Clone, Debug)]
pub struct Conversation {
    pub asked: Asked,
    /// What is asked in this turn.
    pub question: Question,
    /// What the user says in the turns after it.
    later: vec::IntoIter<String>,
}

impl Conversation {
    /// The most that the model says in one, in bytes: more would not fit the memory that a user may take.
    const MOST_SAID: usize = Transcript::MAX;

    /// Begins what is written down. `system` is the prompt's.
    pub(super) fn begin(script: &Script, system: Option<&String>, cache: Cache) -> Self {
        let mut later = script.turns.clone().into_iter();
        let mut messages = script.before.clone();
        messages.extend(later.next().map(|turn| Message::new(Role::User, turn)));
        let has_answers = messages.iter().any(|message| message.role == Role::Assistant);
        Self {
            asked: Asked {
                name: script.name.clone(),
                ..Asked::default()
            },
            question: Question {
                system: script.system.as_ref().or(system).cloned(),
                messages,
                is_dialogue: has_answers || later.len() > 0,
                cache,
            },
            later,
        }
    }

    /// Puts something before all that is said.
    pub(super) fn mark(&mut self, nonce: &str) {
        let Question { system, messages, .. } = &mut self.question;
        let first = messages.first_mut().map(|message| &mut message.content);
        if let Some(beginning) = system.as_mut().or(first) {
            beginning.insert_str(0, nonce);
        }
    }

    /// How many turns there still are, this one among them.
    pub fn turns_left(&self) -> u32 {
        u32::try_from(self.later.len())
            .unwrap_or(u32::MAX)
            .saturating_add(1)
    }

    /// The next turn, when this one was answered with `answer`. `None` when it was the last one, and when the answer
    /// cannot be handed back to the model as what it said: nothing of it was visible, or it is not kept whole.
    pub fn answered(mut self, answer: Transcript) -> Option<Self> {
        let next = self.later.next()?;
        let before = &self.question.messages;
        let said = before
            .iter()
            .filter(|message| message.role == Role::Assistant)
            .map(|message| message.content.len());
        let is_too_much = said.sum::<usize>() + answer.visible.len() > Self::MOST_SAID;
        if answer.cut || is_too_much || answer.visible.trim().is_empty() {
            return None;
        }
        self.question.messages.extend([
            Message::new(Role::Assistant, answer.visible),
            Message::new(Role::User, next),
        ]);
        self.question.cache = Cache::Share;
        self.asked.turn = self.asked.turn.saturating_add(1);
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(turns: &[&str]) -> Conversation {
        let script = Script {
            name: Some(Name::new("trip").unwrap()),
            turns: turns.iter().map(ToString::to_string).collect(),
            ..Script::default()
        };
        let mut conversation = Conversation::begin(&script, None, Cache::Bust);
        conversation.mark("[1] ");
        conversation
    }

    fn answer(visible: &str) -> Transcript {
        Transcript {
            visible: visible.into(),
            reasoning: "Hm. ".into(),
            cut: false,
        }
    }

    fn said(conversation: &Conversation) -> Vec<(Role, &str)> {
        let messages = conversation.question.messages.iter();
        messages
            .map(|message| (message.role, message.content.as_str()))
            .collect()
    }

    #[test]
    fn each_turn_carries_what_was_said_before() {
        use Role::{Assistant, User};
        let first = begun(&["Where to?", "How?", "When?"]);
        assert_eq!(said(&first), [(User, "[1] Where to?")]);
        assert!(first.question.is_dialogue && first.asked.is_first_turn());
        assert_eq!(
            (first.question.cache, first.asked.expects(Cache::Bust)),
            (Cache::Bust, Cache::Bust)
        );

        let second = first.answered(answer(" Rome.\n")).unwrap();
        let until_second = [(User, "[1] Where to?"), (Assistant, " Rome.\n"), (User, "How?")];
        assert_eq!(said(&second), until_second);
        let second_left = second.turns_left();
        assert_eq!(second.asked.turn.get(), 2);
        assert_eq!(
            (second.question.cache, second.asked.expects(Cache::Bust)),
            (Cache::Share, Cache::Share)
        );

        let third = second.answered(answer("By train.")).unwrap();
        let (before, asked) = (said(&third)[..3].to_vec(), said(&third)[3..].to_vec());
        assert_eq!(before, until_second);
        assert_eq!(asked, [(Assistant, "By train."), (User, "When?")]);
        assert_eq!(third.asked.name.as_ref().unwrap().as_str(), "trip");
        assert_eq!((second_left, third.turns_left()), (2, 1));
        assert!(third.answered(answer("Soon.")).is_none());
    }

    #[test]
    fn what_cannot_be_handed_back_ends_it() {
        let cut = Transcript {
            cut: true,
            ..answer("Rome")
        };
        for answer in [answer(""), answer(" \n"), cut] {
            assert!(
                begun(&["Where to?", "How?"]).answered(answer.clone()).is_none(),
                "{answer:?}"
            );
        }
        let half = answer(&"a".repeat(Conversation::MOST_SAID / 2));
        let second = begun(&["a", "b", "c", "d"]).answered(half.clone()).unwrap();
        let third = second.answered(half.clone()).unwrap();
        assert!(third.answered(answer("a")).is_none());
    }

    #[test]
    fn a_list_of_messages_is_one_turn() {
        let script = Script {
            system: Some("Be kind.".into()),
            before: vec![
                Message::new(Role::User, "Hi"),
                Message::new(Role::Assistant, "Hello"),
            ],
            ..Script::of_text("Why?")
        };
        let mut conversation = Conversation::begin(&script, Some(&"Be brief.".into()), Cache::Bust);
        conversation.mark("[1] ");
        let question = &conversation.question;
        assert_eq!(question.system.as_deref(), Some("[1] Be kind."));
        assert_eq!((question.messages.len(), question.is_dialogue), (3, true));
        assert_eq!(conversation.turns_left(), 1);
        assert_eq!(script.bytes(), 2 + 5 + 4);
    }
}
