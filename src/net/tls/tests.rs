use rcgen::KeyPair;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncWriteExt as _, DuplexStream, duplex};

use super::*;

fn identity() -> Identity {
    Identity::from_pem(&generate_key()).unwrap()
}

/// The certificate of one key together with another key.
#[derive(Debug)]
struct Stolen(Arc<CertifiedKey>);

impl Stolen {
    fn new() -> Arc<Self> {
        let (victim, thief) =
            (KeyPair::generate_for(&PKCS_ED25519).unwrap(), KeyPair::generate_for(&PKCS_ED25519).unwrap());
        let certificate = CertificateParams::default().self_signed(&victim).unwrap().der().clone();
        let key = PrivateKeyDer::Pkcs8(thief.serialize_der().into());
        let key = ring::default_provider().key_provider.load_private_key(key).unwrap();
        Arc::new(Self(Arc::new(CertifiedKey::new(vec![certificate], key))))
    }
}

impl ResolvesClientCert for Stolen {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Stolen {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// A pipe that hands out so many bytes at a time. One that holds so few would not do: rustls does
/// not read while it has something to send, and both sides have at once.
struct Trickle(DuplexStream, usize);

impl AsyncRead for Trickle {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let most = self.1;
        let mut piece = vec![0; most.min(buf.remaining())];
        let mut piece = ReadBuf::new(&mut piece);
        let polled = Pin::new(&mut self.0).poll_read(cx, &mut piece);
        buf.put_slice(piece.filled());
        polled
    }
}

impl AsyncWrite for Trickle {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let most = self.1.min(bytes.len());
        Pin::new(&mut self.0).poll_write(cx, &bytes[..most])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// What both sides make of each other over a pipe that hands out so many bytes at a time.
async fn shake_hands(
    client: &Identity,
    server: &Identity,
    piece: usize,
) -> (Result<NodeId, HandshakeError>, Result<NodeId, HandshakeError>) {
    let (near, far) = duplex(65536);
    let (near, far) = (Trickle(near, piece), Trickle(far, piece));
    // A client is done before the server has judged its certificate: it learns that by reading.
    let dialling = async {
        let (mut stream, id, _) = client.connect(near).await?;
        stream.write_all(b"hello").await.map_err(HandshakeError::Broken)?;
        stream.flush().await.map_err(HandshakeError::Broken)?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await.map_err(explain)?;
        Ok((id, stream))
    };
    let accepting = async {
        let (mut stream, id, _) = server.accept(far, || ()).await?;
        let mut heard = [0; 5];
        stream.read_exact(&mut heard).await.map_err(HandshakeError::Broken)?;
        assert_eq!(&heard, b"hello");
        stream.write_all(b"world").await.map_err(HandshakeError::Broken)?;
        stream.flush().await.map_err(HandshakeError::Broken)?;
        Ok((id, stream))
    };
    // Neither end goes before the other has said all.
    let (dialled, accepted) = tokio::join!(dialling, accepting);
    (dialled.map(|(id, _)| id), accepted.map(|(id, _)| id))
}

// Not with a paused clock: it jumps whenever a task yields, and one byte at a time makes it yield.
#[tokio::test]
async fn both_sides_learn_who_the_other_is_also_one_byte_at_a_time() {
    for piece in [1, 7, 65536] {
        let (a, b) = (identity(), identity());
        let (at_a, at_b) = shake_hands(&a, &b, piece).await;
        assert_eq!(at_b.as_ref().unwrap(), &a.node_id(), "{piece}: {at_a:?}");
        assert_eq!(at_a.unwrap(), b.node_id());
        assert_eq!(at_b.unwrap(), a.node_id());
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_gives_the_same_identity_every_time_and_every_key_another() {
    let pem = generate_key();
    let again = || Identity::from_pem(&pem).unwrap().node_id();
    assert_eq!(again(), again());
    assert_ne!(again(), identity().node_id());
    let key = KeyPair::from_pem(&pem).unwrap();
    assert_eq!(again(), NodeId(Sha256::digest(rcgen::PublicKeyData::der_bytes(&key)).into()));
}

#[test]
fn what_is_no_ed25519_key_is_no_identity() {
    let ecdsa = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem();
    for bad in ["", "secret", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", &ecdsa] {
        assert!(Identity::from_pem(bad).is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_certificate_without_its_key_is_refused_on_either_side() {
    let mut thief = identity();
    let mut client = (*thief.client).clone();
    client.client_auth_cert_resolver = Stolen::new();
    thief.client = Arc::new(client);
    let (at_thief, at_victim) = shake_hands(&thief, &identity(), 4096).await;
    assert!(
        matches!(
            at_victim,
            Err(HandshakeError::Failed(Error::InvalidCertificate(CertificateError::BadSignature)))
        ),
        "{at_victim:?}"
    );
    assert!(at_thief.is_err());

    let mut thief = identity();
    let mut server = (*thief.server).clone();
    server.cert_resolver = Stolen::new();
    thief.server = Arc::new(server);
    let (at_victim, at_thief) = shake_hands(&identity(), &thief, 4096).await;
    assert!(
        matches!(
            at_victim,
            Err(HandshakeError::Failed(Error::InvalidCertificate(CertificateError::BadSignature)))
        ),
        "{at_victim:?}"
    );
    assert!(at_thief.is_err());
}

#[tokio::test(start_paused = true)]
async fn who_shows_no_certificate_is_refused() {
    let mut nobody = identity();
    let mut client = (*nobody.client).clone();
    client.client_auth_cert_resolver = Arc::new(NoCertificate);
    nobody.client = Arc::new(client);
    let (_, at_server) = shake_hands(&nobody, &identity(), 4096).await;
    assert!(
        matches!(at_server, Err(HandshakeError::Failed(Error::NoCertificatesPresented))),
        "{at_server:?}"
    );
}

#[derive(Debug)]
struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[tokio::test(start_paused = true)]
async fn another_protocol_over_tls_and_none_are_refused_on_either_side() {
    for protocols in [vec![b"h2".to_vec()], vec![]] {
        let mut web = identity();
        let mut client = (*web.client).clone();
        client.alpn_protocols.clone_from(&protocols);
        web.client = Arc::new(client);
        let (at_client, at_server) = shake_hands(&web, &identity(), 4096).await;
        assert!(at_client.is_err(), "{protocols:?}");
        assert!(matches!(at_server, Err(HandshakeError::Failed(_))), "{protocols:?}: {at_server:?}");

        let mut web = identity();
        let mut server = (*web.server).clone();
        server.alpn_protocols.clone_from(&protocols);
        web.server = Arc::new(server);
        let (at_client, at_server) = shake_hands(&identity(), &web, 4096).await;
        assert!(at_client.is_err(), "{protocols:?}");
        assert!(at_server.is_err(), "{protocols:?}");
    }
}

/// What a node that accepts makes of these bytes.
async fn accept_bytes(bytes: &[u8]) -> (HandshakeError, DuplexStream) {
    let (mut near, far) = duplex(65536);
    near.write_all(bytes).await.unwrap();
    let error = identity().accept(far, || ()).await.map(|_| ()).expect_err("no handshake was made");
    (error, near)
}

#[tokio::test(start_paused = true)]
async fn tls_1_2_is_refused() {
    // A ClientHello without the supported_versions extension (RFC 5246, section 7.4.1.2): random,
    // no session, one cipher suite (ECDHE_ECDSA_WITH_AES_128_GCM_SHA256), no compression.
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
    // Extensions: signature_algorithms (ed25519) and supported_groups (x25519).
    body.extend([0, 16, 0, 13, 0, 4, 0, 2, 8, 7, 0, 10, 0, 4, 0, 2, 0, 29]);
    let mut hello = vec![TLS_FIRST_BYTE, 3, 1, 0, u8::try_from(body.len() + 4).unwrap(), 1, 0, 0];
    hello.push(u8::try_from(body.len()).unwrap());
    hello.extend(body);
    let (error, _) = accept_bytes(&hello).await;
    assert!(matches!(error, HandshakeError::Failed(Error::PeerIncompatible(_))), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn plaintext_is_recognized_at_its_first_byte_on_either_side() {
    // Also what rustls would wait for the rest of: other types of records.
    for first in [b"{", b" ", b"\0", &[TLS_FIRST_BYTE - 1], &[TLS_FIRST_BYTE + 1]] {
        let (error, mut open) = accept_bytes(first).await;
        assert!(matches!(error, HandshakeError::Plaintext), "{first:?}: {error:?}");
        assert!(error.to_string().contains("--plain"));
        let mut heard = Vec::new();
        open.read_to_end(&mut heard).await.unwrap();
        assert!(heard.is_empty(), "{first:?}: not a byte is answered: {heard:?}");
    }

    let (near, mut far) = duplex(65536);
    far.write_all(b"{\"type\":\"HELLO\"}\n").await.unwrap();
    let error = identity().connect(near).await.err().unwrap();
    assert!(matches!(error, HandshakeError::Plaintext), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_stalls_ends_in_time() {
    let begun = tokio::time::Instant::now();
    for said in [&b""[..], &[TLS_FIRST_BYTE, 3, 1]] {
        let (error, _open) = accept_bytes(said).await;
        assert!(matches!(error, HandshakeError::TooSlow), "{error:?}");
    }
    let (near, _silent) = duplex(65536);
    let error = identity().connect(near).await.err().unwrap();
    assert!(matches!(error, HandshakeError::TooSlow), "{error:?}");
    assert!(begun.elapsed() <= 3 * HANDSHAKE_TIMEOUT + Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn garbage_is_refused() {
    for garbage in [&[TLS_FIRST_BYTE; 200][..], &[TLS_FIRST_BYTE, 3, 1, 0xff, 0xff, 1, 2]] {
        let (error, _open) = accept_bytes(garbage).await;
        assert!(matches!(error, HandshakeError::Failed(_) | HandshakeError::TooSlow), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_shows_a_chain_of_certificates_is_refused_on_either_side() {
    let chained = || {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let certificate = || CertificateParams::default().self_signed(&key).unwrap().der().clone();
        let chain = vec![certificate(), certificate()];
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let key = ring::default_provider().key_provider.load_private_key(key).unwrap();
        Arc::new(Stolen(Arc::new(CertifiedKey::new(chain, key))))
    };
    let mut liar = identity();
    let mut client = (*liar.client).clone();
    client.client_auth_cert_resolver = chained();
    liar.client = Arc::new(client);
    let (_, at_server) = shake_hands(&liar, &identity(), 4096).await;
    assert!(matches!(at_server, Err(HandshakeError::Failed(_))), "{at_server:?}");

    let mut server = (*liar.server).clone();
    server.cert_resolver = chained();
    liar.server = Arc::new(server);
    let (at_client, _) = shake_hands(&identity(), &liar, 4096).await;
    assert!(matches!(at_client, Err(HandshakeError::Failed(_))), "{at_client:?}");
}

#[tokio::test(start_paused = true)]
async fn every_handshake_is_a_full_one() {
    let (client, server) = (identity(), identity());
    for _ in 0..2 {
        let (near, far) = duplex(65536);
        let (near, far) = tokio::join!(client.connect(near), server.accept(far, || ()));
        let ((mut near, ..), (mut far, ..)) = (near.unwrap(), far.unwrap());
        // A ticket would come with the first bytes after the handshake.
        far.write_all(b"x").await.unwrap();
        far.flush().await.unwrap();
        near.read_exact(&mut [0]).await.unwrap();
        assert_eq!(near.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
        let TlsStream::Client(connection) = &near else { panic!() };
        assert_eq!(connection.get_ref().1.tls13_tickets_received(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_hello_names_no_server() {
    let (near, mut far) = duplex(65536);
    let dialling = tokio::spawn(async move { identity().connect(near).await.map(|_| ()) });
    let mut hello = vec![0; 65536];
    let read = far.read(&mut hello).await.unwrap();
    assert!(memchr::memmem::find(&hello[..read], ALPN).is_some(), "this is the whole ClientHello");
    assert!(memchr::memmem::find(&hello[..read], b"p2p.invalid").is_none());
    drop(far);
    assert!(dialling.await.unwrap().is_err());
}
