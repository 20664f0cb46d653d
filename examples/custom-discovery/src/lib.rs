//! A discovery step of your own, from outside the SDK.
