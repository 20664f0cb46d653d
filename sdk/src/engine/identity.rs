//! Who this device is: its key, its credential, its seal keys, its signed record.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use byway_api::{
    KeyError, KeyErrorKind, KeyStore, Keys, Membership, MembershipError, NetworkId, PeerId, Proof, Prover, SealSeed,
    Secret, SignalAddress, UserId, WallTime,
};
use byway_core::Tick;
use byway_wire::Beacon;
use byway_wire::DeviceKey;
use byway_wire::SealSecret;
use byway_wire::WireError;
use byway_wire::issue_self_token;
use byway_wire::limits;
use byway_wire::make_proof;
use byway_wire::{RecordDraft, VerifiedRecord};
use tokio::sync::Notify;

use super::runtime::{Runtime, random};
use super::{Me, Settings};

/// What proves that this device is the user's.
#[derive(Clone)]
pub(crate) enum Credential {
    /// A token that the device signs itself and renews: the first device of a user in an open network.
    SelfSigned,
    /// A token from elsewhere: from the issuer, or, in an open network, from another device of the user.
    Given(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SelfSigned => "SelfSigned",
            Self::Given(_) => "Given(..)",
        })
    }
}

/// The device's secrets and what is signed with them. Shared by the whole engine.
pub(super) struct Identity {
    network: NetworkId,
    user: UserId,
    key: DeviceKey,
    keys: Arc<dyn KeyStore>,
    membership: Arc<dyn Membership>,
    capabilities: Vec<String>,
    periods: Periods,
    runtime: Runtime,
    state: Mutex<State>,
    changed: Notify,
}

/// The life of a seal key.
#[derive(Clone, Copy)]
struct Periods {
    every: Duration,
    valid: Duration,
    kept: Duration,
}

struct State {
    seeds: Vec<SealSeed>,
    secrets: Arc<[SealSecret]>,
    credential: Arc<str>,
    self_signed: bool,
    addresses: Vec<SignalAddress>,
    seq: u64,
    record: Option<VerifiedRecord>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("user", &self.user).field("key", &self.key).finish_non_exhaustive()
    }
}

/// What an [`Identity`] is made of.
pub(super) struct Parts {
    pub(super) network: NetworkId,
    pub(super) user: UserId,
    pub(super) keys: Arc<dyn KeyStore>,
    pub(super) credential: Credential,
    pub(super) membership: Arc<dyn Membership>,
    pub(super) capabilities: Vec<String>,
}

impl Identity {
    /// Reads the keys, or makes them, and brings the seal keys up to date.
    pub(super) fn open(parts: Parts, settings: &Settings, runtime: Runtime) -> Result<Self, KeyError> {
        let now = runtime.now().wall;
        let periods = Periods { every: settings.seal_every, valid: settings.seal_valid, kept: settings.seal_kept };
        let stored = parts.keys.load()?;
        let fresh = stored.is_none();
        let device = match &stored {
            Some(keys) => keys.device.clone(),
            None => Secret::new(random().map_err(no_randomness)?),
        };
        let mut seeds = stored.map(|keys| keys.seal).unwrap_or_default();
        if rotate(&mut seeds, periods, now)? || fresh {
            parts.keys.save(&Keys::new(device.clone(), seeds.clone()))?;
        }
        let key = DeviceKey::from_seed(&device);
        let (credential, self_signed) = match parts.credential {
            Credential::Given(token) => (token, false),
            Credential::SelfSigned => {
                let jti = random().map_err(no_randomness)?;
                let token =
                    issue_self_token(&key, &parts.network, &parts.user, &key.peer(), now, limits::CREDENTIAL_LIFE, jti);
                (token, true)
            }
        };
        let state = State {
            secrets: secrets(&seeds),
            seeds,
            credential: credential.into(),
            self_signed,
            addresses: Vec::new(),
            seq: 0,
            record: None,
        };
        Ok(Self {
            network: parts.network,
            user: parts.user,
            key,
            keys: parts.keys,
            membership: parts.membership,
            capabilities: parts.capabilities,
            periods,
            runtime,
            state: Mutex::new(state),
            changed: Notify::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) const fn peer(&self) -> PeerId {
        self.key.peer()
    }

    pub(super) const fn network(&self) -> &NetworkId {
        &self.network
    }

    pub(super) const fn user(&self) -> &UserId {
        &self.user
    }

    pub(super) const fn key(&self) -> &DeviceKey {
        &self.key
    }

    /// The seed of the device key, for a transport that proves it itself. Read again from the key store:
    /// the node keeps no copy that could be lent by mistake.
    pub(super) async fn seed(self: &Arc<Self>) -> Result<Secret, KeyError> {
        let me = Arc::clone(self);
        let gone = |text: &str| KeyError::new(KeyErrorKind::Io, "identity", text);
        match self.runtime.blocking(move || me.keys.load()).await {
            Some(Ok(Some(keys))) => Ok(keys.device),
            Some(Ok(None)) => Err(gone("the keys are gone")),
            Some(Err(error)) => Err(error),
            None => Err(gone("loading panicked")),
        }
    }

    pub(super) fn membership(&self) -> &dyn Membership {
        &*self.membership
    }

    pub(super) fn capabilities(&self) -> &[String] {
        &self.capabilities
    }

    /// The current credential.
    pub(super) fn credential(&self) -> Arc<str> {
        Arc::clone(&self.state().credential)
    }

    /// The secrets of all seal keys that are still kept.
    pub(super) fn secrets(&self) -> Arc<[SealSecret]> {
        Arc::clone(&self.state().secrets)
    }

    /// Our newest record. Signed before anything else runs.
    pub(super) fn record(&self) -> VerifiedRecord {
        let Some(record) = self.state().record.clone() else {
            unreachable!("the record is signed before the engine starts");
        };
        record
    }

    pub(super) fn me(&self) -> Me {
        Me { network: self.network.clone(), user: self.user.clone(), peer: self.peer(), record: self.record() }
    }

    pub(super) fn beacon(&self, at: WallTime) -> Beacon {
        Beacon::sign(&self.key, &self.network, at)
    }

    /// A token that makes `device` another device of our user.
    pub(super) fn authorize(&self, device: &PeerId, now: WallTime, jti: [u8; 16]) -> String {
        issue_self_token(&self.key, &self.network, &self.user, device, now, limits::CREDENTIAL_LIFE, jti)
    }

    /// Replaces the credential, if it is one for us.
    pub(super) fn renew(&self, credential: String, now: WallTime) -> Result<(), MembershipError> {
        let member = self.membership.verify(&credential, &self.peer(), now)?;
        if member.user != self.user {
            let text = format!("it is {}'s, not {}'s", member.user, self.user);
            return Err(MembershipError::new(byway_api::MembershipErrorKind::WrongKey, "identity", text));
        }
        self.state().credential = credential.into();
        self.changed.notify_one();
        Ok(())
    }

    /// The sequence number below which no record of ours may be: that of an earlier run.
    pub(super) fn continue_from(&self, seq: u64) {
        let mut state = self.state();
        state.seq = state.seq.max(seq);
    }

    /// Sets the addresses of the next record; true if they differ from the current one's.
    pub(super) fn set_addresses(&self, addresses: Vec<SignalAddress>) -> bool {
        let mut state = self.state();
        let differ = state.addresses != addresses;
        state.addresses = addresses;
        differ
    }

    /// Signs a new record over what is current. Its number is higher than any before, as long as the
    /// clock does not go back behind an earlier run whose number was lost.
    pub(super) fn sign_record(&self) -> Result<VerifiedRecord, WireError> {
        let now = self.runtime.now().wall;
        let mut state = self.state();
        let seq = (state.seq + 1).max(u64::try_from(now.as_millis()).unwrap_or_default());
        let newest = state
            .seeds
            .last()
            .map(|seed| SealSecret::from_seed(&seed.seed).public(seed.created_at.plus(self.periods.valid)));
        let draft = RecordDraft {
            network: self.network.clone(),
            user: self.user.clone(),
            seq,
            issued_at: now,
            expires_at: now.plus(limits::RECORD_LIFE),
            addresses: state.addresses.clone(),
            capabilities: self.capabilities.clone(),
            credential: state.credential.to_string(),
            seal_keys: newest.into_iter().collect(),
            coordinators: Vec::new(),
        };
        let record = draft.sign(&self.key, &*self.membership, now)?;
        state.seq = seq;
        state.record = Some(record.clone());
        Ok(record)
    }

    /// Waits until the credential was replaced.
    pub(super) async fn credential_changed(&self) {
        self.changed.notified().await;
    }

    /// When the next seal key is due.
    pub(super) fn next_rotation(&self) -> Tick {
        let now = self.runtime.now();
        let due = self.state().seeds.last().map_or(now.wall, |seed| seed.created_at.plus(self.periods.every));
        now.tick.plus(due.since(now.wall))
    }

    /// Makes the seal key that is due, erases those that are too old, renews a self-signed
    /// credential. The old keys stay in use if the new ones cannot be saved.
    pub(super) async fn rotate(self: &Arc<Self>) -> Result<(), KeyError> {
        let now = self.runtime.now().wall;
        let (mut seeds, self_signed) = {
            let state = self.state();
            (state.seeds.clone(), state.self_signed)
        };
        if rotate(&mut seeds, self.periods, now)? {
            let me = Arc::clone(self);
            let saved = self
                .runtime
                .blocking(move || {
                    let Some(keys) = me.keys.load()? else {
                        return Err(KeyError::new(KeyErrorKind::Io, "identity", "the keys are gone"));
                    };
                    me.keys.save(&Keys::new(keys.device, seeds.clone())).map(|()| seeds)
                })
                .await;
            let seeds = saved.unwrap_or_else(|| Err(KeyError::new(KeyErrorKind::Io, "identity", "saving panicked")))?;
            let mut state = self.state();
            state.secrets = secrets(&seeds);
            state.seeds = seeds;
        }
        if self_signed {
            let jti = random().map_err(no_randomness)?;
            self.state().credential = self.authorize(&self.peer(), now, jti).into();
        }
        Ok(())
    }
}

impl Prover for Identity {
    fn prove(&self, method: &str, target: &str, nonce: &str) -> Proof {
        // A proof without a random id is still bound to the server's nonce.
        let jti = random().unwrap_or_default();
        make_proof(&self.key, &self.credential(), method, target, nonce, self.runtime.now().wall, jti)
    }
}

fn no_randomness(error: getrandom::Error) -> KeyError {
    KeyError::new(KeyErrorKind::Io, "identity", "the operating system gives no random bytes").with_source(error)
}

fn secrets(seeds: &[SealSeed]) -> Arc<[SealSecret]> {
    seeds.iter().map(|seed| SealSecret::from_seed(&seed.seed)).collect()
}

/// Brings the seeds up to date; true if anything changed. A seed from the future (the clock was
/// wrong) counts as new.
fn rotate(seeds: &mut Vec<SealSeed>, periods: Periods, now: WallTime) -> Result<bool, KeyError> {
    let before = seeds.len();
    seeds.retain(|seed| now.since(seed.created_at) < periods.kept);
    let erased = seeds.len() != before;
    let due = seeds.last().is_none_or(|newest| now.since(newest.created_at) >= periods.every);
    if due {
        seeds.push(SealSeed { seed: Secret::new(random().map_err(no_randomness)?), created_at: now });
    }
    Ok(due || erased)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn periods() -> Periods {
        let settings = Settings::default();
        Periods { every: settings.seal_every, valid: settings.seal_valid, kept: settings.seal_kept }
    }

    #[test]
    fn seal_keys_are_made_daily_and_erased_after_28_days() {
        let mut seeds = Vec::new();
        let start = WallTime::from_millis(1_000_000_000_000);
        for day in 0..60 {
            assert!(rotate(&mut seeds, periods(), start.plus(periods().every * day)).unwrap());
        }
        assert_eq!(seeds.len(), 28);
        let last = start.plus(periods().every * 59);
        assert!(!rotate(&mut seeds, periods(), last.plus(Duration::from_secs(60))).unwrap());
        assert!(seeds.iter().all(|seed| last.since(seed.created_at) < periods().kept));
    }
}
