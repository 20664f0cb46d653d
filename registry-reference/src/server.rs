//! Puts it together: listen, serve, clean up, stop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use byway_socket::{Device, Hub, SignalBus};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval_at, timeout};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{Any, CorsLayer};

use crate::app::App;
use crate::auth::SocketGate;
use crate::backend::{BackendError, RegistryBackend, Swept};
use crate::base::Base;
use crate::door::{Door, Ends};
use crate::election::elect;
use crate::embedded::EmbeddedBackend;
use crate::limiter::Limiter;
use crate::metrics::Metrics;
use crate::nonce::Nonces;
use crate::problem::Problem;
use crate::socket::{Attendance, unknown, upgrade, wrong_method};
use crate::{Config, calls, probes};

const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");
/// Comings and goings that wait to be noted.
const ATTENDANCE: usize = 4096;
/// Those noted at once.
const ATTENDANCE_BATCH: usize = 256;

/// Why a registry does not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another with --listen, port 0 takes a free one")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The configuration does not work.
    #[error("{0}")]
    Config(String),
    /// The database cannot be used.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// A registry that runs until it is shut down.
///
/// Dropping it stops it as well, without waiting for anything.
#[derive(Debug)]
pub struct RunningRegistry {
    address: SocketAddr,
    app: Arc<App>,
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
}

/// Starts a registry with the embedded backend.
///
/// # Errors
/// [`ServeError`] with what to change.
pub async fn serve(config: Config) -> Result<RunningRegistry, ServeError> {
    let now = config.clock.now();
    let backend = EmbeddedBackend::open(config.database.clone(), (&config).into(), now).await?;
    serve_with(config, Arc::new(backend), None).await
}

/// Starts a registry with another backend, and as one of several if there is a bus.
///
/// # Errors
/// [`ServeError`] with what to change.
pub async fn serve_with(
    config: Config,
    backend: Arc<dyn RegistryBackend>,
    bus: Option<Arc<dyn SignalBus>>,
) -> Result<RunningRegistry, ServeError> {
    let public = config.public_url.as_deref().map(Base::parse).transpose().map_err(ServeError::Config)?;
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|e| ServeError::Config(format!("the system has no randomness: {e}")))?;
    let nonces = Arc::new(Nonces::new(key, config.times.nonce));
    let listen_error = |source| ServeError::Listen { address: config.listen, source };
    let listener = TcpListener::bind(config.listen).await.map_err(listen_error)?;
    let address = listener.local_addr().map_err(listen_error)?;

    let (seen, attendance) = mpsc::channel(ATTENDANCE);
    let gate = SocketGate { nonces: Arc::clone(&nonces), clock: Arc::clone(&config.clock), open: config.open };
    let hub = Hub::with_bus(config.hub.clone(), Arc::new(gate), Arc::new(Attendance { seen, others: bus }));
    let limits = &config.limits;
    let app = Arc::new(App {
        public,
        backend,
        hub,
        nonces,
        calls: Limiter::new(limits.calls_per_minute, limits.burst, limits.remembered),
        ip_calls: Limiter::new(limits.ip_calls_per_minute, limits.ip_burst, limits.remembered),
        failed_auths: Limiter::new(limits.failed_auths_per_minute, limits.failed_auths_per_minute, limits.remembered),
        metrics: Metrics::default(),
        closing: AtomicBool::new(false),
        upgraded: watch::Sender::new(0),
        config,
    });

    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let door = Door::new(listener, app.config.limits.connections, app.config.times.idle);
    let service = router(Arc::clone(&app)).into_make_service_with_connect_info::<Ends>();
    let server = axum::serve(door, service).with_graceful_shutdown(until(stopped.clone()));
    tasks.spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(target: "byway::registry", %error, "the server has ended");
        }
    });
    tasks.spawn(keep_attendance(Arc::clone(&app), attendance, stopped.clone()));
    tasks.spawn(clean_up(Arc::clone(&app), stopped));
    tracing::info!(target: "byway::registry", %address, "listening");
    Ok(RunningRegistry { address, app, tasks, stop })
}

impl RunningRegistry {
    /// The address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Its URL: the public one, else that of its address.
    pub fn url(&self) -> String {
        match &self.app.public {
            Some(base) => base.http.clone(),
            None => format!("http://{}", self.address),
        }
    }

    /// Cleans up now instead of at the next interval.
    ///
    /// # Errors
    /// [`BackendError`] if the backend does not work.
    pub async fn sweep(&self) -> Result<Swept, BackendError> {
        sweep(&self.app).await
    }

    /// Stops: no new connections, a goodbye on every socket, requests finish, the database closes.
    /// Takes at most [`Times::shutdown`](crate::config::Times::shutdown) and the time of one database call.
    pub async fn shutdown(mut self) {
        self.app.closing.store(true, Ordering::Relaxed);
        self.stop.send_replace(true);
        let app = Arc::clone(&self.app);
        let tasks = &mut self.tasks;
        let all = async {
            app.hub.close().await;
            let mut upgraded = app.upgraded.subscribe();
            let _ = upgraded.wait_for(|n| *n == 0).await;
            while tasks.join_next().await.is_some() {}
        };
        if timeout(app.config.times.shutdown, all).await.is_err() {
            tracing::warn!(target: "byway::registry", "some connections did not end in time");
        }
        self.tasks.shutdown().await;
        app.backend.close().await;
    }
}

impl Drop for RunningRegistry {
    fn drop(&mut self) {
        self.app.hub.stop();
        self.stop.send_replace(true);
    }
}

fn router(app: Arc<App>) -> Router {
    let cors = CorsLayer::new().allow_origin(Any).allow_methods(Any).allow_headers(Any).expose_headers([
        DPOP_NONCE,
        header::ETAG,
        header::RETRY_AFTER,
        header::WWW_AUTHENTICATE,
    ]);
    Router::new()
        .route("/network/{network}/active-peers", get(calls::active_peers))
        .route("/network/{network}/announce", post(calls::announce))
        .route("/network/{network}/peer/{user}", get(calls::peer))
        .route("/coordinator/heartbeat", post(calls::heartbeat))
        .route("/health", get(probes::health))
        .route("/ready", get(probes::ready))
        .route("/metrics", get(probes::metrics))
        .route("/{peer}", any(upgrade))
        .method_not_allowed_fallback(wrong_method)
        .fallback(unknown)
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| Problem::internal().into_response()))
        .layer(from_fn_with_state(Arc::clone(&app), around))
        .layer(cors)
        .with_state(app)
}

/// Around every request: a deadline, the next nonce, a count.
async fn around(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("other", |path| path.as_str()).to_owned();
    let method = request.method().clone();
    let answer = timeout(app.config.times.request, next.run(request)).await;
    let mut response = answer.unwrap_or_else(|_| Problem::timeout().into_response());
    app.metrics.request(&route, &method, response.status().as_u16());
    let headers = response.headers_mut();
    if let Ok(nonce) = HeaderValue::from_str(&app.nonces.make(app.config.clock.now())) {
        headers.insert(DPOP_NONCE, nonce);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means that the registry itself is gone: stop as well.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Notes the devices that attach and detach.
async fn keep_attendance(app: Arc<App>, mut attendance: mpsc::Receiver<Device>, stopped: watch::Receiver<bool>) {
    let mut devices = Vec::new();
    let stop = until(stopped);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            biased;
            n = attendance.recv_many(&mut devices, ATTENDANCE_BATCH) => if n == 0 { return },
            () = &mut stop => return,
        }
        if let Err(error) = app.backend.touch(&devices, app.config.clock.now()).await {
            tracing::warn!(target: "byway::registry", %error, "could not note who attached");
        }
        devices.clear();
    }
}

async fn clean_up(app: Arc<App>, stopped: watch::Receiver<bool>) {
    let every = app.config.times.sweep;
    let mut ticks = interval_at(tokio::time::Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let stop = until(stopped);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => return,
            _ = ticks.tick() => {}
        }
        match sweep(&app).await {
            Ok(swept) => tracing::debug!(target: "byway::registry", ?swept, "cleaned up"),
            Err(error) => tracing::warn!(target: "byway::registry", %error, "could not clean up"),
        }
    }
}

async fn sweep(app: &App) -> Result<Swept, BackendError> {
    app.calls.sweep();
    app.ip_calls.sweep();
    app.failed_auths.sweep();
    let now = app.config.clock.now();
    app.backend.touch(&app.hub.devices(), now).await?;
    if !app.backend.try_lead(now).await? {
        return Ok(Swept::default());
    }
    let swept = app.backend.sweep(now).await?;
    app.metrics.swept(&swept);
    for (network, _) in app.backend.networks().await? {
        let standing = app.backend.standing(&network, now).await?;
        let attached = |peer: &_| app.hub.is_attached(&Device::new(network.clone(), *peer));
        let elected = elect(&network, &standing, attached, now);
        app.metrics.appointed(elected.len());
        for peer in elected {
            let device = Device::new(network.clone(), peer);
            app.backend.appoint(&device, now).await?;
            app.hub.appoint(&device);
        }
    }
    Ok(swept)
}
