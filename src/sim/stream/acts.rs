//! What a fault makes of an answer at one place in it.

use std::{io, time::Duration};

use super::Stream;
use crate::sim::{
    api::{Part, Refused},
    fault::{Act, Event, Place},
    generate::pause,
    journal::End,
};

impl Stream<'_, '_> {
    pub(super) fn is_at(&self, place: Place) -> bool {
        self.orders
            .event
            .as_ref()
            .is_some_and(|event| event.place == place)
    }

    /// What a fault wants at this place; how the answer has ended, if it has.
    pub(super) async fn pass(&mut self, place: Place) -> io::Result<Option<End>> {
        let Some(event) = self.orders.event.take_if(|event| event.place == place) else {
            return Ok(None);
        };
        let Event { act, label, .. } = event;
        self.record.faults.push(label);
        self.write_head().await?;
        self.flush(false).await?;
        let wire = self.answer.api.wire();
        match act {
            Act::Stall(None) => return Err(self.outlet.gone().await),
            Act::Stall(Some(time)) => {
                pause(self.outlet, time).await?;
                return Ok(None);
            }
            Act::Reset => self.outlet.reset(),
            Act::Close => self.outlet.close(),
            Act::Goaway => self.outlet.goaway(),
            Act::Truncate => {
                self.outlet.piece(b"", true).await?;
            }
            Act::Error(overloaded) => {
                let refused = if overloaded {
                    Refused::QueueFull
                } else {
                    Refused::Status(500)
                };
                wire.error_frame(&refused, &self.progress, &mut self.payload);
                self.flush(false).await?;
                for part in wire.after_error() {
                    self.put(*part, false).await?;
                }
                self.flush(false).await?;
                self.outlet.piece(b"", true).await?;
            }
            Act::Garbage => {
                self.payload.push_str("data: {\"choices\": [oops\n\n");
                self.flush(false).await?;
                self.outlet.piece(b"", true).await?;
            }
            Act::Comments(interval) => loop {
                self.payload.push_str(wire.comment());
                self.repeat(interval).await?;
            },
            Act::Pings(interval) => loop {
                self.answer
                    .render(Part::Ping, &mut self.progress, &mut self.payload);
                self.repeat(interval).await?;
            },
        }
        Ok(Some(End::Broken))
    }

    async fn repeat(&mut self, interval: Duration) -> io::Result<()> {
        self.flush(false).await?;
        pause(self.outlet, interval).await
    }
}
