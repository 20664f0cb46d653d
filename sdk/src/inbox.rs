//! Messages on their way to the app.

use bytes::Bytes;
use byway_api::{MessageId, PeerId, UserId, WallTime};
use byway_core::io::InboxItem;

use crate::body::Body;
use crate::chat::{Chat, SendOptions, Sent};
use crate::engine::{EngineHandle, InboxReceiver};
use crate::error::{NodeError, SendError};

/// The incoming messages. There is one, returned by `spawn`: one consumer by type.
///
/// While the app takes none, messages wait in the store; a full inbox (10,000 messages or 64 MiB)
/// leaves them with their senders.
#[derive(Debug)]
pub struct Inbox {
    items: InboxReceiver,
    engine: EngineHandle,
}

impl Inbox {
    pub(crate) const fn new(items: InboxReceiver, engine: EngineHandle) -> Self {
        Self { items, engine }
    }

    /// The next message: those of one sending device in the order in which they were sent, except
    /// [`late`](Message::late) ones. `None` once the node has stopped.
    ///
    /// A message counts as handled only after [`Message::done`]. One that was not done comes again
    /// after a restart, and not before: `next` goes on with the message after it.
    ///
    /// Cancel-safe: no message is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Message> {
        let item = self.items.next().await?;
        Some(Message { item, engine: self.engine.clone() })
    }
}

/// One incoming message. It is lent: [`done`](Self::done) ends it.
#[derive(Clone, Debug)]
pub struct Message {
    item: InboxItem,
    engine: EngineHandle,
}

impl Message {
    /// Its id, the same for sender and recipient.
    pub const fn id(&self) -> MessageId {
        self.item.message
    }

    /// Who sent it.
    pub const fn from(&self) -> &UserId {
        &self.item.from_user
    }

    /// The device that sent it.
    pub const fn device(&self) -> PeerId {
        self.item.key.from
    }

    /// What it says, if that is text.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.item.body).ok()
    }

    /// What it says.
    pub const fn bytes(&self) -> &Bytes {
        &self.item.body
    }

    /// The message that it answers.
    pub const fn reply_to(&self) -> Option<MessageId> {
        self.item.reply_to
    }

    /// When it was sent, by the sender's clock.
    pub const fn sent_at(&self) -> WallTime {
        self.item.sent_at
    }

    /// When it arrived, by our clock.
    pub const fn received_at(&self) -> WallTime {
        self.item.received_at
    }

    /// It comes out of order: an earlier message of the same device was waited for in vain, or this
    /// is that message.
    pub const fn late(&self) -> bool {
        self.item.late
    }

    /// The conversation that it belongs to.
    pub fn chat(&self) -> Chat {
        Chat::new(self.engine.clone(), self.item.from_user.clone())
    }

    /// Answers it. Like [`Chat::send`], with this message as the one that is answered.
    ///
    /// # Errors
    /// [`SendError`]; nothing was stored then.
    pub async fn reply(&self, body: impl Into<Body>) -> Result<Sent, SendError> {
        self.chat().send_with(body, SendOptions::default().reply_to(self.id())).await
    }

    /// Tells the sender that the message was read, unless the node's tuning says not to. Idempotent.
    ///
    /// Dropping the future recalls nothing.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn read(&self) -> Result<(), NodeError> {
        Ok(self.engine.read(self.item.key).await?)
    }

    /// The app is done with the message: Byway forgets it, and it does not come again. Idempotent.
    ///
    /// Dropping the future recalls nothing. After a crash in this moment the message may come once
    /// more.
    ///
    /// # Errors
    /// [`NodeError`]; the message comes again after a restart.
    pub async fn done(&self) -> Result<(), NodeError> {
        Ok(self.engine.done(self.item.key).await?)
    }
}
