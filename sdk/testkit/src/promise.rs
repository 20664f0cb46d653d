//! What a conformance suite is made of: promises, each an async function with a verdict.

use std::borrow::Borrow;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// Why a promise counts as broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken(String);

impl Broken {
    /// A reason, for the author of the plugin.
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Broken {}

/// A promise that was not broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was put to the test and held.
    Kept,
    /// It does not apply to this plugin; the reason.
    Skipped(String),
}

/// What came of one promise.
pub type Verdict = Result<Outcome, Broken>;

/// A promise applied to a fixture.
pub type Trial<'a> = Pin<Box<dyn Future<Output = Verdict> + Send + 'a>>;

/// A named promise about the plugin in a fixture `F`.
pub struct Promise<F: ?Sized> {
    name: &'static str,
    trial: for<'a> fn(&'a F) -> Trial<'a>,
}

impl<F: ?Sized> Clone for Promise<F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F: ?Sized> Copy for Promise<F> {}

impl<F: ?Sized> Promise<F> {
    /// A promise from its name and its test.
    pub const fn new(name: &'static str, trial: for<'a> fn(&'a F) -> Trial<'a>) -> Self {
        Self { name, trial }
    }

    /// The name of the function that tests it.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Puts the promise to the test; hanging for longer than `deadline` breaks it.
    ///
    /// # Errors
    /// [`Broken`] if the plugin does not keep it.
    pub async fn test(&self, fixture: &F, deadline: Duration) -> Verdict {
        within(deadline, "this promise's whole test", (self.trial)(fixture)).await?
    }
}

impl<F: ?Sized> fmt::Debug for Promise<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Promise({})", self.name)
    }
}

/// Waits for something the plugin owes.
///
/// # Errors
/// [`Broken`] if it does not come within `limit`.
pub async fn within<T>(limit: Duration, what: &str, owed: impl Future<Output = T>) -> Result<T, Broken> {
    match tokio::time::timeout(limit, owed).await {
        Ok(value) => Ok(value),
        Err(_) => Err(Broken::new(format!("{what}: nothing came within {limit:?}"))),
    }
}

/// Breaks the promise with a formatted reason unless the condition holds.
macro_rules! ensure {
    ($holds:expr, $($why:tt)+) => {
        if !$holds {
            return Err($crate::promise::Broken::new(format!($($why)+)));
        }
    };
}
pub(crate) use ensure;

/// Runs one promise as a test of its own: on its own single-threaded tokio runtime, with real time.
///
/// The conformance macros expand to calls of this.
///
/// # Panics
/// If the promise is broken, with the reason.
#[doc(hidden)]
#[expect(clippy::panic, reason = "this is the body of a #[test]")]
pub fn check<F: ?Sized, B: Borrow<F>>(
    fixture: impl Future<Output = B>,
    deadline: impl Fn(&F) -> Duration,
    promise: Promise<F>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => panic!("no tokio runtime: {error}"),
    };
    let verdict = runtime.block_on(async {
        let fixture = fixture.await;
        let deadline = deadline(fixture.borrow());
        promise.test(fixture.borrow(), deadline).await
    });
    match verdict {
        Ok(Outcome::Kept) => {}
        Ok(Outcome::Skipped(why)) => println!("skipped: {}: {why}", promise.name),
        Err(broken) => panic!("broken promise: {}: {broken}", promise.name),
    }
}

/// Turns a list of promises into tests, or into a table.
#[doc(hidden)]
#[macro_export]
macro_rules! __promises {
    (tests [$fixture:expr] $trait:ident: $($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                $crate::promise::check(
                    async { $fixture },
                    $crate::$trait::deadline,
                    $crate::promise::Promise::new(stringify!($name), |f| Box::pin($crate::$trait::$name(f))),
                );
            }
        )*
    };
    (table [] $trait:ident: $($name:ident)*) => {
        &[$($crate::promise::Promise::new(stringify!($name), |f| Box::pin($name(f)))),*]
    };
}
