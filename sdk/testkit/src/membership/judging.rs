use std::sync::Arc;
use std::time::{Duration, Instant};

use byway_api::{Member, Membership, MembershipError, MembershipErrorKind, WallTime};

use super::fixture::{Claims, LIFE, MembershipFixture, NOON, START, alice, credential, device, judge, network};
use crate::promise::{Broken, Outcome, Verdict, ensure};

const MOMENT: Duration = Duration::from_secs(1);

fn kind(judged: &Result<Member, MembershipError>) -> Option<MembershipErrorKind> {
    judged.as_ref().err().map(MembershipError::kind)
}

/// A credential proves its user to the device that it is bound to, and says until when.
pub async fn the_right_device_is_a_member(fixture: &dyn MembershipFixture) -> Verdict {
    let membership = fixture.membership(&network("blue"));
    for (n, user) in [(1, "alice"), (2, "bob"), (3, "J\u{fc}rgen"), (4, "\u{5c71}\u{7530}")] {
        let claims = Claims { user: user.to_owned(), device: device(n), ..alice() };
        let peer = claims.device.peer();
        let member = membership.verify(&credential(fixture, &claims)?, &peer, NOON);
        let member = member.map_err(|e| Broken::new(format!("{user}'s own credential is refused: {e}")))?;
        ensure!(member.user.as_str() == user, "{user}'s credential was taken for {:?}", member.user);
        ensure!(member.peer == peer, "{user}'s device is {peer:?}, and the answer {:?}", member.peer);
        let end = START.plus(LIFE);
        ensure!(member.expires_at == end, "the credential ends at {end}, and the answer is {}", member.expires_at);
        ensure!(member.roles.iter().any(|role| role == "member"), "{user} is no member, but {:?}", member.roles);
    }
    Ok(Outcome::Kept)
}

/// For any other device it proves nothing.
pub async fn a_credential_is_for_one_device(fixture: &dyn MembershipFixture) -> Verdict {
    use MembershipErrorKind::{BadSignature, WrongKey};
    let membership = fixture.membership(&network("blue"));
    let credential = credential(fixture, &alice())?;
    for n in [2, 3] {
        let judged = membership.verify(&credential, &device(n).peer(), NOON);
        let refused = matches!(kind(&judged), Some(WrongKey | BadSignature));
        ensure!(refused, "another device showed alice's credential, and the answer is {judged:?}");
    }
    Ok(Outcome::Kept)
}

/// In any other network it proves nothing.
pub async fn a_credential_is_for_one_network(fixture: &dyn MembershipFixture) -> Verdict {
    use MembershipErrorKind::{BadSignature, WrongNetwork};
    let credential = credential(fixture, &alice())?;
    for name in ["red", "blu", "blue2"] {
        let judged = judge(&*fixture.membership(&network(name)), &credential, NOON);
        let refused = matches!(kind(&judged), Some(WrongNetwork | BadSignature));
        ensure!(refused, "a credential for blue was shown in {name}, and the answer is {judged:?}");
    }
    Ok(Outcome::Kept)
}

/// Before its start it is `NotYetValid`, except for what two clocks may differ.
pub async fn a_credential_is_good_from_its_start(fixture: &dyn MembershipFixture) -> Verdict {
    let membership = fixture.membership(&network("blue"));
    let credential = credential(fixture, &alice())?;
    let skew = fixture.limits().skew;
    accepted(&*membership, &credential, START.minus(skew).plus(MOMENT), "just inside the skew before the start")?;
    for early in [skew + MOMENT, 10 * LIFE, Duration::from_secs(1_000_000_000)] {
        let judged = judge(&*membership, &credential, START.minus(early));
        let early = early.as_secs();
        ensure!(
            kind(&judged) == Some(MembershipErrorKind::NotYetValid),
            "{early} s before its start the answer is {judged:?}, not NotYetValid"
        );
    }
    Ok(Outcome::Kept)
}

/// After its end it is `Expired`, except for what two clocks may differ.
pub async fn a_credential_is_good_until_its_end(fixture: &dyn MembershipFixture) -> Verdict {
    let membership = fixture.membership(&network("blue"));
    let credential = credential(fixture, &alice())?;
    let (end, skew) = (START.plus(LIFE), fixture.limits().skew);
    accepted(&*membership, &credential, end.plus(skew).minus(MOMENT), "just inside the skew after the end")?;
    for late in [skew + MOMENT, 10 * LIFE, Duration::from_secs(1_000_000_000)] {
        let judged = judge(&*membership, &credential, end.plus(late));
        let late = late.as_secs();
        ensure!(
            kind(&judged) == Some(MembershipErrorKind::Expired),
            "{late} s after its end the answer is {judged:?}, not Expired"
        );
    }
    Ok(Outcome::Kept)
}

fn accepted(membership: &dyn Membership, credential: &str, now: WallTime, when: &str) -> Result<(), Broken> {
    judge(membership, credential, now).map(drop).map_err(|e| Broken::new(format!("{when} it is refused: {e}")))
}

/// A name that is not in its one form (NFC, no control characters, 1 to 128 bytes) is refused or brought
/// into it, and never taken for another one.
pub async fn names_are_in_one_form(fixture: &dyn MembershipFixture) -> Verdict {
    let membership = fixture.membership(&network("blue"));
    let long = "x".repeat(129);
    let mut made = false;
    for (name, form) in
        [("Ju\u{308}rgen", "J\u{fc}rgen"), ("A\u{30a}sa", "\u{c5}sa"), ("al\nice", ""), ("", ""), (&long, "")]
    {
        let claims = Claims { user: name.to_owned(), ..alice() };
        let Some(credential) = fixture.credential(&claims) else { continue };
        made = true;
        if let Ok(member) = judge(&*membership, &credential, NOON) {
            ensure!(member.user.as_str() == form, "a credential for {name:?} was taken for {:?}", member.user);
        }
    }
    let never = || Outcome::Skipped("the fixture makes no credential for a name in another form".to_owned());
    Ok(if made { Outcome::Kept } else { never() })
}

/// The same question has the same answer: again, after others, from a second membership, in a thread
/// without a runtime.
pub async fn the_same_is_judged_alike(fixture: &dyn MembershipFixture) -> Verdict {
    let credential = credential(fixture, &alice())?;
    let questions = [("good", NOON), ("early", START.minus(10 * LIFE)), ("late", START.plus(10 * LIFE))];
    let answers = |membership: &dyn Membership| -> Vec<String> {
        let answer = |now| match judge(membership, &credential, now) {
            Ok(member) => format!("{member:?}"),
            Err(e) => e.to_string(),
        };
        questions.iter().map(|(what, now)| format!("{what}: {}", answer(*now))).collect()
    };
    let membership = fixture.membership(&network("blue"));
    let first = answers(&*membership);
    for _ in 0..3 {
        let again = answers(&*membership);
        ensure!(again == first, "first the answers were {first:?}, then {again:?}");
    }
    let second = fixture.membership(&network("blue"));
    let elsewhere = std::thread::scope(|scope| scope.spawn(|| answers(&*second)).join());
    let elsewhere = elsewhere.map_err(|_| Broken::new("verify panicked in a thread without a runtime"))?;
    ensure!(elsewhere == first, "here the answers were {first:?}, in another thread {elsewhere:?}");
    Ok(Outcome::Kept)
}

/// A judgement takes no longer than it takes to compute.
pub async fn verify_does_not_block(fixture: &dyn MembershipFixture) -> Verdict {
    let membership: Arc<dyn Membership> = fixture.membership(&network("blue"));
    let credential = credential(fixture, &alice())?;
    let mut spans: Vec<Duration> = (0..21)
        .map(|_| {
            let start = Instant::now();
            let judged = judge(&*membership, &credential, NOON);
            let span = start.elapsed();
            drop(judged);
            span
        })
        .collect();
    spans.sort();
    let (median, most) = (spans[spans.len() / 2], fixture.limits().judgement);
    ensure!(median <= most, "a judgement takes {median:?}; {most:?} are granted");
    Ok(Outcome::Kept)
}
