use super::Preset;
use crate::builder::Builder;

/// Nothing at all: no transport, no discovery step, no server. You say everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bare;

impl Preset for Bare {
    fn configure(self, builder: Builder) -> Builder {
        builder
    }
}
