//! A running node.

use std::sync::Arc;

use byway_api::{IdError, MembershipError, MessageId, NetworkId, PeerId, SignalAddress, StoreError, UserId};

use crate::builder::Builder;
use crate::chat::{Chat, Sent};
use crate::engine::EngineHandle;
use crate::error::NodeError;
use crate::events::Events;
use crate::explain::Explanation;
use crate::invite::{Invite, InviteError};
use crate::members::{Member, Members, Roster};
use crate::metrics::Metrics;
use crate::presets::Preset;

/// One device in one network. Cheap to clone: every clone is the same node.
///
/// It runs until [`shutdown`](Self::shutdown). It also ends when the last handle to it is dropped (the
/// [`Inbox`](crate::Inbox), chats and messages count), but then only stops: nobody is told, and what
/// was not yet written to the store is sent again after the next start.
#[derive(Clone, Debug)]
pub struct Node {
    engine: EngineHandle,
}

impl Node {
    /// Begins a configuration with one of the [`presets`](crate::presets).
    pub fn builder(preset: impl Preset) -> Builder {
        preset.configure(Builder::new())
    }

    pub(crate) const fn new(engine: EngineHandle) -> Self {
        Self { engine }
    }

    /// The network.
    pub fn network(&self) -> NetworkId {
        self.engine.me().network
    }

    /// Our user.
    pub fn user(&self) -> UserId {
        self.engine.me().user
    }

    /// Our device.
    pub fn peer(&self) -> PeerId {
        self.engine.me().peer
    }

    /// Where others can reach this device, best first, as its signed record says.
    pub fn addresses(&self) -> Vec<SignalAddress> {
        self.engine.me().record.addresses().to_vec()
    }

    /// A conversation with a member, who need not be known or online.
    ///
    /// # Errors
    /// [`IdError`] if this is not the name of a user.
    pub fn chat(&self, user: impl AsRef<str>) -> Result<Chat, IdError> {
        Ok(Chat::new(self.engine.clone(), UserId::new(user.as_ref())?))
    }

    /// A message that was sent earlier, before a restart too; `None` if it is not, or not any more, in
    /// the outbox: it was read, or has expired.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`NodeError::Stopped`].
    pub async fn sent(&self, message: MessageId) -> Result<Option<Sent>, NodeError> {
        let status = self.engine.status(message).await?;
        Ok(status.map(|status| Sent::found(message, status, self.engine.clone())))
    }

    /// Watches the member list.
    pub fn members(&self) -> Members {
        Members::new(self.engine.roster(), self.engine.lifeline())
    }

    /// What is known of one member now; `None` if nothing.
    ///
    /// # Errors
    /// [`IdError`] if this is not the name of a user.
    pub fn member(&self, user: impl AsRef<str>) -> Result<Option<Member>, IdError> {
        let user = UserId::new(user.as_ref())?;
        Ok(self.roster().get(&user).cloned())
    }

    /// The path to a member in words: `Connected over webrtc`, `Online via bob`, `Offline`.
    ///
    /// # Errors
    /// [`IdError`] if this is not the name of a user.
    pub fn path(&self, user: impl AsRef<str>) -> Result<String, IdError> {
        Ok(self.member(user)?.map_or_else(|| "Not known".to_owned(), |member| member.path()))
    }

    fn roster(&self) -> Arc<Roster> {
        Arc::clone(&self.engine.roster().borrow())
    }

    /// Listens to events from now on.
    pub fn events(&self) -> Events {
        Events::new(self.engine.events(), self.engine.lifeline())
    }

    /// Why the last lookup of a member took the path it took; `None` if there was no lookup yet.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`NodeError::User`] or [`NodeError::Stopped`].
    pub async fn explain(&self, user: impl AsRef<str> + Send) -> Result<Option<Explanation>, NodeError> {
        let user = UserId::new(user.as_ref())?;
        Ok(self.engine.explain(user).await?.map(Explanation::from))
    }

    /// Numbers since the start.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`NodeError::Stopped`].
    pub async fn metrics(&self) -> Result<Metrics, NodeError> {
        Ok(Metrics::new(self.engine.uptime(), self.engine.metrics().await?))
    }

    /// Refuses a user from now on, over restarts: links, relayed messages and signals. Nothing is sent
    /// to the user either.
    ///
    /// Dropping the future recalls nothing.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn block(&self, user: impl AsRef<str> + Send) -> Result<(), NodeError> {
        let user = UserId::new(user.as_ref())?;
        Ok(self.engine.block(user, true).await?)
    }

    /// Admits a blocked user again.
    ///
    /// Dropping the future recalls nothing.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn unblock(&self, user: impl AsRef<str> + Send) -> Result<(), NodeError> {
        let user = UserId::new(user.as_ref())?;
        Ok(self.engine.block(user, false).await?)
    }

    /// Says that this device is the user's, in place of the one that was known: after a reinstall, and
    /// after having asked the person over another channel. Answers
    /// [`Event::IdentityConflict`](crate::Event::IdentityConflict).
    ///
    /// Dropping the future recalls nothing.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn trust(&self, user: impl AsRef<str> + Send, peer: PeerId) -> Result<(), NodeError> {
        let user = UserId::new(user.as_ref())?;
        Ok(self.engine.trust(user, peer).await?)
    }

    /// In an open network: makes another device one of our user's. Give the text to that device's
    /// [`Builder::device_token`].
    ///
    /// # Errors
    /// [`NodeError::Stopped`].
    pub fn authorize(&self, device: &PeerId) -> Result<String, NodeError> {
        Ok(self.engine.authorize(device)?)
    }

    /// In a network with a membership of its own: replaces our credential, before the old one ends.
    ///
    /// # Errors
    /// [`MembershipError`] if the membership does not accept it for this device; the old one stays.
    pub fn renew_credential(&self, credential: impl Into<String>) -> Result<(), MembershipError> {
        self.engine.renew_credential(credential.into())
    }

    /// A text that another member's [`Builder::bootstrap`] takes to find this device without a server.
    ///
    /// # Errors
    /// [`InviteError::NoAddress`] if nobody could dial this device.
    pub fn invite(&self) -> Result<Invite, InviteError> {
        let record = self.engine.me().record;
        if record.addresses().is_empty() {
            return Err(InviteError::NoAddress);
        }
        Ok(Invite::new(record.bytes().clone()))
    }

    /// Closes all connections and stops all timers: the app goes to the background. Messages can still
    /// be sent; they wait.
    ///
    /// Dropping the future recalls nothing. On a stopped node it does nothing.
    pub async fn suspend(&self) {
        let _ = self.engine.suspend().await;
    }

    /// Goes on after [`suspend`](Self::suspend).
    ///
    /// Dropping the future recalls nothing. On a stopped node it does nothing.
    pub async fn resume(&self) {
        let _ = self.engine.resume().await;
    }

    /// A hint that addresses or routes of this machine have changed, or that it woke up: whatever
    /// waits for a retry is tried now. Never waits.
    pub fn network_changed(&self) {
        self.engine.network_changed();
    }

    /// Stops in order: says goodbye, flushes the store, closes every connection, file and lock, ends
    /// every task. Afterwards the inbox ends, and commands fail with `Stopped`. Idempotent: a second
    /// call waits for the first.
    ///
    /// Dropping the future does not stop the shutdown.
    ///
    /// # Errors
    /// [`StoreError`] if the last writes could not be saved. The node has stopped all the same.
    pub async fn shutdown(&self) -> Result<(), StoreError> {
        self.engine.shutdown().await
    }
}
