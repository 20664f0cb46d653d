//! One conversation, and what becomes of a message in it.

use std::time::Duration;

use byway_api::{MessageId, UserId};
use byway_core::io::{Event, Refusal};
use byway_core::status::{Delivery, DeviceDelivery};
use byway_wire::limits;
use tokio::sync::broadcast::error::RecvError;

use crate::body::Body;
use crate::engine::{self, CommandError, EngineHandle, MessageStatus, SendRequest};
use crate::error::{ConnectError, DeliveryError, NodeError, SendError};
use crate::members::Status;

/// How a message is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SendOptions {
    /// For how long delivery is tried. 7 days; at most 14 days.
    pub expires_in: Duration,
    /// The message it answers. None.
    pub reply_to: Option<MessageId>,
    /// Its id. None makes a random one; the same id again gives the message that is there already,
    /// so that an app that crashed in `send` can send again without sending twice.
    pub id: Option<MessageId>,
}

impl SendOptions {
    /// The longest life of a message.
    pub const MAX_LIFE: Duration = limits::FUTURE_MAX;
    /// The life of a message that was not given another one.
    pub const DEFAULT_LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

    /// For how long delivery is tried: more than nothing, at most [`Self::MAX_LIFE`].
    #[must_use]
    pub const fn expires_in(mut self, life: Duration) -> Self {
        self.expires_in = life;
        self
    }

    /// The message it answers.
    #[must_use]
    pub const fn reply_to(mut self, message: MessageId) -> Self {
        self.reply_to = Some(message);
        self
    }

    /// Its id.
    #[must_use]
    pub const fn id(mut self, id: MessageId) -> Self {
        self.id = Some(id);
        self
    }
}

impl Default for SendOptions {
    fn default() -> Self {
        Self { expires_in: Self::DEFAULT_LIFE, reply_to: None, id: None }
    }
}

/// A conversation with one member, known or not. Cheap to clone; made by [`Node::chat`](crate::Node::chat).
#[derive(Clone, Debug)]
pub struct Chat {
    engine: EngineHandle,
    user: UserId,
}

impl Chat {
    pub(crate) const fn new(engine: EngineHandle, user: UserId) -> Self {
        Self { engine, user }
    }

    /// The member.
    pub const fn user(&self) -> &UserId {
        &self.user
    }

    /// Sends a message with the default [`SendOptions`].
    ///
    /// Returns when the message is durably queued, not when it is delivered; it never waits for a
    /// connection. Finding the member, retrying and expiring go on by themselves, over restarts too.
    ///
    /// Dropping the future recalls nothing: the message may have been queued or not. To be sure, send
    /// again with the same [`SendOptions::id`].
    ///
    /// # Errors
    /// [`SendError`]; nothing was stored then. That the member cannot be reached is no error.
    pub async fn send(&self, body: impl Into<Body>) -> Result<Sent, SendError> {
        self.send_with(body, SendOptions::default()).await
    }

    /// Sends a message. See [`Self::send`].
    ///
    /// # Errors
    /// [`SendError`]; nothing was stored then.
    pub async fn send_with(&self, body: impl Into<Body>, options: SendOptions) -> Result<Sent, SendError> {
        let SendOptions { expires_in, reply_to, id } = options;
        let body = body.into().into_bytes();
        let got = body.len();
        if got > Body::MAX {
            return Err(SendError::TooLarge { max: Body::MAX, got });
        }
        if expires_in.is_zero() || expires_in > SendOptions::MAX_LIFE {
            return Err(SendError::Expiry { max: SendOptions::MAX_LIFE, got: expires_in });
        }
        let request = SendRequest { to: self.user.clone(), message: id, body, reply_to, expires_in };
        let sent = self.engine.send(request).await.map_err(|error| match error {
            CommandError::Refused(Refusal::QueueFull) => SendError::QueueFull,
            CommandError::Refused(Refusal::TooLarge) => SendError::TooLarge { max: Body::MAX, got },
            CommandError::Refused(Refusal::Blocked) => SendError::Blocked,
            CommandError::Refused(Refusal::Store(kind)) => SendError::Store(kind),
            _ => SendError::Stopped,
        })?;
        let engine::Sent { message, existing, status } = sent;
        Ok(Sent {
            id: message,
            existing,
            seen: Delivery::Sending,
            status,
            life: expires_in,
            engine: self.engine.clone(),
        })
    }

    /// Begins to connect to the member, for example when a chat window opens. It is not needed for
    /// sending.
    ///
    /// Returns once a connection is there, or once it is clear that there is none now. Dropping the
    /// future stops only the waiting.
    ///
    /// # Errors
    /// [`ConnectError::Unreachable`] if every way was tried, [`ConnectError::Timeout`] if nothing was
    /// decided within `wait`.
    pub async fn connect(&self, wait: Duration) -> Result<(), ConnectError> {
        let mut events = self.engine.events();
        let lifeline = self.engine.lifeline();
        if self.is_direct() {
            return Ok(());
        }
        self.engine.seek(self.user.clone()).await.map_err(|_| ConnectError::Stopped)?;
        let decided = async {
            loop {
                let event = tokio::select! {
                    biased;
                    event = events.recv() => event,
                    () = lifeline.ended() => return Err(ConnectError::Stopped),
                };
                match event {
                    Ok(Event::Connected { user, .. }) if user == self.user => return Ok(()),
                    Ok(Event::Unreachable { user }) if user == self.user => return Err(ConnectError::Unreachable),
                    Err(RecvError::Lagged(_)) if self.is_direct() => return Ok(()),
                    Err(RecvError::Closed) => return Err(ConnectError::Stopped),
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                }
            }
        };
        engine::timeout(wait, decided).await.unwrap_or(Err(ConnectError::Timeout))
    }

    fn is_direct(&self) -> bool {
        self.engine.roster().borrow().get(&self.user).is_some_and(|member| member.status() == Status::Direct)
    }
}

/// A message on its way. Dropping it changes nothing for the message.
#[derive(Clone, Debug)]
pub struct Sent {
    id: MessageId,
    existing: bool,
    seen: Delivery,
    status: MessageStatus,
    life: Duration,
    engine: EngineHandle,
}

impl Sent {
    /// A message that was there already.
    pub(crate) const fn found(id: MessageId, status: MessageStatus, engine: EngineHandle) -> Self {
        Self { id, existing: true, seen: Delivery::Sending, status, life: SendOptions::MAX_LIFE, engine }
    }

    /// The message's id, the same on every path and device.
    pub const fn id(&self) -> MessageId {
        self.id
    }

    /// The message was there before, under the same id; nothing new was stored.
    pub const fn existing(&self) -> bool {
        self.existing
    }

    /// Where the message stands now: the best over the recipient's devices.
    pub fn status(&self) -> Delivery {
        self.status.now()
    }

    /// Waits until the message stands elsewhere than this handle has told so far (at first
    /// `Sending`). `None` when it will not move any more: it was read, or has expired, or the node
    /// has stopped.
    ///
    /// Cancel-safe: no change is lost when the future is dropped.
    pub async fn changed(&mut self) -> Option<Delivery> {
        if matches!(self.seen, Delivery::Read | Delivery::Expired) {
            return None;
        }
        let changed = engine::timeout(self.life, self.status.changed(self.seen));
        self.seen = changed.await?.ok()?;
        Some(self.seen)
    }

    /// Waits until the message is durable on a device of the recipient.
    ///
    /// Cancel-safe: dropping the future stops only the waiting.
    ///
    /// # Errors
    /// [`DeliveryError`] if it expired first, or the node has stopped.
    pub async fn delivered(&self) -> Result<(), DeliveryError> {
        self.reaches(Delivery::Delivered).await
    }

    /// Waits until the recipient has read the message: its app said so. Apps need not.
    ///
    /// Cancel-safe: dropping the future stops only the waiting.
    ///
    /// # Errors
    /// [`DeliveryError`] if it expired first, or the node has stopped.
    pub async fn read(&self) -> Result<(), DeliveryError> {
        self.reaches(Delivery::Read).await
    }

    /// Where the message stands for each device of the recipient.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`NodeError::Stopped`].
    pub async fn devices(&self) -> Result<Vec<DeviceDelivery>, NodeError> {
        Ok(self.engine.deliveries(self.id).await?)
    }

    async fn reaches(&self, wanted: Delivery) -> Result<(), DeliveryError> {
        let wait = async {
            let mut status = self.status.now();
            while status < wanted {
                if status == Delivery::Expired {
                    return Err(DeliveryError::Expired);
                }
                status = self.status.changed(status).await.map_err(|_| DeliveryError::Stopped)?;
            }
            Ok(())
        };
        engine::timeout(self.life, wait).await.unwrap_or(Err(DeliveryError::Expired))
    }
}
