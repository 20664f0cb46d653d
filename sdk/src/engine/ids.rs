use std::fmt;
use std::sync::{Mutex, PoisonError};

use byway_api::MessageId;

use super::runtime::random;

/// Ids fetched from the operating system at once.
const POOL: usize = 64;

/// Random message ids. One call of the system's generator serves many of them.
#[derive(Default)]
pub(super) struct MessageIds(Mutex<Vec<[u8; 16]>>);

impl fmt::Debug for MessageIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MessageIds(..)")
    }
}

impl MessageIds {
    /// A new one.
    pub(super) fn next(&self) -> Result<MessageId, getrandom::Error> {
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.is_empty() {
            let bytes: [u8; 16 * POOL] = random()?;
            pool.extend(bytes.as_chunks::<16>().0);
        }
        let Some(id) = pool.pop() else {
            unreachable!("the pool was filled");
        };
        Ok(MessageId::from_bytes(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_id_comes_twice() {
        let ids = MessageIds::default();
        let all: BTreeSet<_> = (0..10 * POOL).map(|_| ids.next().unwrap()).collect();
        assert_eq!(all.len(), 10 * POOL);
    }
}
