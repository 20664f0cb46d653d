use byway_wire::{Direct, Receipts, VerifiedRecord};

/// What a sealed envelope says, besides a transport's signals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Letter {
    /// A message of an app.
    Message(Direct),
    /// What became of messages.
    Receipts(Receipts),
}

/// An envelope for us that was opened and found genuine.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenedLetter {
    /// Who signed it: the newest record of that device.
    pub sender: VerifiedRecord,
    /// What it says.
    pub letter: Letter,
}

/// Why a letter could not be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SealFailure {
    /// Every seal key of the device has ended; a newer record of it is needed.
    NoKey,
    /// Anything else.
    Other,
}
