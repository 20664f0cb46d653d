//! redb store of Byway.
