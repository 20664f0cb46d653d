//! TLS is a thing of run time: a build without a provider compiles. So every path is taken here.

use std::sync::Arc;

use crate::hub::{Server, Setup, context, mail};
use crate::support::{Readable, Scripted, Search, Tokens, network, peer, within};
use byway_api::{DiscoveryStep, SignalAddress, SignalErrorKind, Signaling, StepErrorKind};
use byway_discovery::{CarrierConfig, RegistryClient, RegistryConfig, RegistryStep, SocketCarrier, Tls};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// A certificate for 127.0.0.1 and a server that shows it.
fn certified() -> (CertificateDer<'static>, TlsAcceptor) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    (certificate, TlsAcceptor::from(Arc::new(config)))
}

fn trusting(certificate: CertificateDer<'static>) -> Option<Tls> {
    Some(Tls::trusting([certificate]).unwrap())
}

async fn carrier(tls: Option<Tls>) -> SocketCarrier {
    let mut config = CarrierConfig::default();
    config.tls = tls;
    let carrier = SocketCarrier::new(config, vec![]);
    carrier.attach(context(peer(1), Tokens::new(10))).await.unwrap();
    carrier
}

async fn listener() -> (Server, CertificateDer<'static>, SignalAddress, byway_socket::LocalDevice) {
    let (certificate, tls) = certified();
    let server = Server::start(Setup { target: Some(peer(2).to_string()), tls: Some(tls), ..Setup::default() }).await;
    let local = server.hub.local(byway_socket::Device::new(network(), peer(2))).unwrap();
    let address = SignalAddress::socket(&format!("wss://{}", server.address), peer(2)).unwrap();
    (server, certificate, address, local)
}

#[tokio::test]
async fn a_socket_over_tls() {
    let (_server, certificate, address, bob) = listener().await;
    let alice = carrier(trusting(certificate)).await;
    within(alice.send(&address, mail(peer(2), "x"))).await.unwrap();
    assert_eq!(within(bob.recv()).await.unwrap().0, peer(1));
    within(alice.close()).await;
}

#[tokio::test]
async fn a_socket_whose_server_nobody_vouches_for_is_not_used() {
    let (_server, _, address, _bob) = listener().await;
    let (other, _) = certified();
    for tls in [None, trusting(other)] {
        let alice = carrier(tls).await;
        let e = within(alice.send(&address, mail(peer(2), "x"))).await.unwrap_err();
        assert_eq!(e.kind(), SignalErrorKind::Unreachable, "{e}");
        within(alice.close()).await;
    }
}

#[tokio::test]
async fn tls_to_a_port_without_it_fails_cleanly() {
    let plain = Scripted::start(vec![]).await;
    let alice = carrier(None).await;
    let address = SignalAddress::socket(&format!("wss://{}", plain.address), peer(2)).unwrap();
    let e = within(alice.send(&address, mail(peer(2), "x"))).await.unwrap_err();
    assert_eq!(e.kind(), SignalErrorKind::Unreachable, "{e}");
    within(alice.close()).await;

    let client = RegistryClient::new(&format!("https://{}", plain.address), RegistryConfig::default()).unwrap();
    client.attach(Arc::new(Readable));
    let e = within(RegistryStep::new(client).find(&Search::of("bob"))).await.unwrap_err();
    assert_eq!(e.kind(), StepErrorKind::Unreachable, "{e}");
}

#[tokio::test]
async fn a_call_over_tls() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let (certificate, tls) = certified();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = tls.accept(tcp).await else { continue };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}").await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    let call = async |tls: Option<Tls>| {
        let mut config = RegistryConfig::default();
        config.tls = tls;
        let client = RegistryClient::new(&url, config).unwrap();
        client.attach(Arc::new(Readable));
        within(RegistryStep::new(client).find(&Search::of("bob"))).await
    };
    assert_eq!(call(None).await.unwrap_err().kind(), StepErrorKind::Unreachable, "nobody vouches for it");
    call(trusting(certificate)).await.unwrap();
    server.abort();
}
