//! A store of your own, from outside the SDK.
