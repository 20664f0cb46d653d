use byway_api::{Membership, MembershipErrorKind};

use super::fixture::{MembershipFixture, NOON, alice, credential, judge, network};
use crate::promise::{Broken, Outcome, Verdict, ensure};

fn refused(membership: &dyn Membership, text: &str, what: &str) -> Result<MembershipErrorKind, Broken> {
    match judge(membership, text, NOON) {
        Err(e) => Ok(e.kind()),
        Ok(member) => Err(Broken::new(format!("{what} proves that {member:?}"))),
    }
}

/// What is no credential is `Malformed` or has a `BadSignature`, whatever else it is.
pub async fn garbage_is_refused(fixture: &dyn MembershipFixture) -> Verdict {
    use MembershipErrorKind::{BadSignature, Malformed};
    let membership = fixture.membership(&network("blue"));
    let long = ["a".repeat(100_000), ".".repeat(100_000), "\u{5c71}".repeat(30_000)];
    let mut texts: Vec<String> =
        ["", " ", ".", "..", "...", "a.b.c", "{}", "{\"sub\":\"alice\"}", "null", "\0\0\0", "e30.e30."]
            .into_iter()
            .map(str::to_owned)
            .collect();
    texts.extend(long);
    let seed = 0x9e37_79b9_7f4a_7c15;
    texts.extend(random_texts(seed));
    for text in &texts {
        let short: String = text.chars().take(40).collect();
        let kind = refused(&*membership, text, &format!("{short:?} (seed {seed:#x})"))?;
        ensure!(matches!(kind, Malformed | BadSignature), "{short:?} is {kind:?}, not Malformed");
    }
    Ok(Outcome::Kept)
}

/// Texts of the characters that credentials are made of.
fn random_texts(seed: u64) -> Vec<String> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/{}\":";
    let mut state = seed;
    let mut next = move || {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap_or(0)
    };
    (0..200)
        .map(|_| {
            let length = next() % 600;
            (0..length).map(|_| char::from(LETTERS[next() % LETTERS.len()])).collect()
        })
        .collect()
}

/// Cut at any length, or with anything behind it or before it, a credential is refused.
pub async fn a_cut_or_longer_credential_is_refused(fixture: &dyn MembershipFixture) -> Verdict {
    let membership = fixture.membership(&network("blue"));
    let whole = credential(fixture, &alice())?;
    for length in (0..whole.len()).filter(|length| whole.is_char_boundary(*length)) {
        refused(&*membership, &whole[..length], &format!("a credential cut at {length} of {}", whole.len()))?;
    }
    for more in [" ", "\n", "\0", "=", "==", "A", ".", ".A", &whole] {
        let short: String = more.chars().take(8).collect();
        refused(&*membership, &format!("{whole}{more}"), &format!("a credential with {short:?} behind it"))?;
        refused(&*membership, &format!("{more}{whole}"), &format!("a credential with {short:?} before it"))?;
    }
    Ok(Outcome::Kept)
}

/// With any bit flipped, a credential is refused.
pub async fn every_flipped_bit_is_noticed(fixture: &dyn MembershipFixture) -> Verdict {
    let membership = fixture.membership(&network("blue"));
    let whole = credential(fixture, &alice())?;
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone().into_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        // what is no text cannot be shown
        if let Ok(text) = String::from_utf8(bytes) {
            refused(&*membership, &text, &format!("a credential with bit {bit} flipped"))?;
        }
    }
    Ok(Outcome::Kept)
}

/// A refusal names its plugin and says why in few words, however long the credential was.
pub async fn refusals_are_short(fixture: &dyn MembershipFixture) -> Verdict {
    const FEW: usize = 512;
    let membership = fixture.membership(&network("blue"));
    let mut plugins = Vec::new();
    for text in [String::new(), "{\"a\":1}".repeat(20_000), "a.".repeat(50_000), credential(fixture, &alice())?] {
        // a second one behind it spoils a good credential
        let Err(e) = judge(&*membership, &format!("{text}{text}"), NOON) else { continue };
        let (said, plugin) = (e.to_string(), e.plugin());
        ensure!(
            said.len() <= FEW,
            "a refusal of {} bytes: {}..",
            said.len(),
            said.chars().take(80).collect::<String>()
        );
        ensure!(!plugin.is_empty(), "the refusal {said:?} names no plugin");
        plugins.push(plugin);
    }
    plugins.dedup();
    ensure!(plugins.len() == 1, "refusals of one membership name the plugins {plugins:?}");
    Ok(Outcome::Kept)
}
