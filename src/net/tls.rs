//! Encryption and identity: TLS 1.3, with a self-signed Ed25519 certificate on both sides.
//!
//! A certificate says nothing by itself: names and dates in it are not looked at. The handshake
//! proves that the peer has the private key, and the **node id** is the SHA-256 of the public one
//! (its 32 raw bytes, RFC 8032). Whether that id is welcome is for others to say.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, CommonState, ConnectionCommon, DigitallySignedStruct, DistinguishedName,
    Error, InvalidMessage, PeerMisbehaved, ServerConfig, SignatureScheme,
};
use sha2::{Digest, Sha256};
use thiserror::Error as ThisError;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::wire::{Binding, NodeId, TLS_FIRST_BYTE};

/// How long a handshake may take.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What both sides must name, so that no other protocol over TLS is mistaken for this one.
const ALPN: &[u8] = b"p2p/1";

/// What names our use of a connection's exporter value.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-p2p-ask-v1";

/// An Ed25519 key in a certificate (RFC 8410, section 4), up to its 32 bytes.
const ED25519_PREFIX: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Why there is no encrypted connection.
#[derive(Debug, ThisError)]
pub(crate) enum HandshakeError {
    /// The other side does not encrypt.
    #[error("it speaks plaintext; either both sides are started with --plain, or neither")]
    Plaintext,
    /// The other side said nothing, or too little, in time.
    #[error(
        "it did not finish the TLS handshake within {} seconds; a node started with --plain never does",
        HANDSHAKE_TIMEOUT.as_secs()
    )]
    TooSlow,
    /// The other side is gone.
    #[error("the connection broke during the handshake: {0}")]
    Broken(io::Error),
    /// The other side is not a node like this one, or does not have the key that it shows.
    #[error("the TLS handshake failed: {0}")]
    Failed(Error),
}

/// Why a key is no identity.
#[derive(Debug, ThisError)]
#[error("not an Ed25519 private key in PEM: {0}")]
pub(crate) struct BadKey(String);

/// Who this node is, ready to shake hands.
#[derive(Clone)]
pub(crate) struct Identity {
    node_id: NodeId,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

/// A new private key in PEM.
pub(crate) fn generate_key() -> String {
    // It fails only where the system gives no random numbers.
    KeyPair::generate_for(&PKCS_ED25519).expect("the system has random numbers").serialize_pem()
}

impl Identity {
    /// The identity that a private key stands for.
    pub(crate) fn from_pem(pem: &str) -> Result<Self, BadKey> {
        let bad = |error: &dyn std::fmt::Display| BadKey(error.to_string());
        let key = KeyPair::from_pem_and_sign_algo(pem, &PKCS_ED25519).map_err(|error| bad(&error))?;
        let certificate = CertificateParams::default().self_signed(&key).map_err(|error| bad(&error))?;
        let certificates = vec![certificate.der().clone()];
        let node_id = node_id_of(&certificates[0]).map_err(|error| bad(&error))?;
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let provider = Arc::new(ring::default_provider());
        let verifier = Arc::new(PossessionOfKey { provider: provider.clone() });

        let mut client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| bad(&error))?
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone())
            .with_client_auth_cert(certificates.clone(), key.clone_key())
            .map_err(|error| bad(&error))?;
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.enable_sni = false;
        // A resumed session would skip the certificates.
        client.resumption = Resumption::disabled();

        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| bad(&error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(certificates, key)
            .map_err(|error| bad(&error))?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.send_tls13_tickets = 0;

        Ok(Self { node_id, client: Arc::new(client), server: Arc::new(server) })
    }

    /// Its id.
    pub(crate) fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// Shakes hands on a connection that we made, and answers who is there. Not cancel-safe: the
    /// stream is lost.
    pub(crate) async fn connect<S>(
        &self,
        stream: S,
    ) -> Result<(TlsStream<S>, NodeId, Binding), HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from("p2p.invalid").expect("a valid name, which is not sent");
        let handshake = TlsConnector::from(self.client.clone()).connect(name, stream);
        let stream = in_time(async { handshake.await.map_err(explain) }).await?;
        let (node_id, binding) = (peer_of(stream.get_ref().1)?, binding_of(stream.get_ref().1)?);
        Ok((TlsStream::Client(stream), node_id, binding))
    }

    /// Shakes hands on a connection that was made to us, and answers who is there. `spoke` is
    /// called at its first byte. Not cancel-safe: the stream is lost.
    pub(crate) async fn accept<S>(
        &self,
        mut stream: S,
        spoke: impl FnOnce(),
    ) -> Result<(TlsStream<Replayed<S>>, NodeId, Binding), HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = in_time(async {
            let first = stream.read_u8().await.map_err(HandshakeError::Broken)?;
            spoke();
            if first != TLS_FIRST_BYTE {
                return Err(HandshakeError::Plaintext);
            }
            let stream = Replayed { first: Some(first), stream };
            TlsAcceptor::from(self.server.clone()).accept(stream).await.map_err(explain)
        })
        .await?;
        let (node_id, binding) = (peer_of(stream.get_ref().1)?, binding_of(stream.get_ref().1)?);
        Ok((TlsStream::Server(stream), node_id, binding))
    }
}

async fn in_time<T>(handshake: impl Future<Output = Result<T, HandshakeError>>) -> Result<T, HandshakeError> {
    tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await.unwrap_or(Err(HandshakeError::TooSlow))
}

fn explain(error: io::Error) -> HandshakeError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => HandshakeError::Plaintext,
        Some(inner) => HandshakeError::Failed(inner.clone()),
        None => HandshakeError::Broken(error),
    }
}

/// Who is at the other end of a finished handshake.
fn peer_of(connection: &CommonState) -> Result<NodeId, HandshakeError> {
    // rustls refuses another protocol than ours, but takes none at all for agreement.
    if connection.alpn_protocol() != Some(ALPN) {
        return Err(HandshakeError::Failed(Error::NoApplicationProtocol));
    }
    match connection.peer_certificates() {
        Some([only]) => node_id_of(only).map_err(HandshakeError::Failed),
        Some(_) | None => Err(HandshakeError::Failed(Error::NoCertificatesPresented)),
    }
}

/// What both ends of a finished handshake know and nobody else.
fn binding_of<Data>(connection: &ConnectionCommon<Data>) -> Result<Binding, HandshakeError> {
    let exported = connection.export_keying_material([0; 32], EXPORTER_LABEL, None);
    exported.map(Binding).map_err(HandshakeError::Failed)
}

/// The id of whoever has the private key to this certificate.
fn node_id_of(certificate: &CertificateDer<'_>) -> Result<NodeId, Error> {
    let public_key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
    let raw = public_key.strip_prefix(ED25519_PREFIX).filter(|raw| raw.len() == 32);
    let raw = raw.ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
    Ok(NodeId(Sha256::digest(raw).into()))
}

/// Takes any Ed25519 certificate, and leaves it to the handshake's signature to prove that its
/// sender has the key.
#[derive(Debug)]
struct PossessionOfKey {
    provider: Arc<CryptoProvider>,
}

impl PossessionOfKey {
    fn check(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), Error> {
        if !intermediates.is_empty() {
            return Err(Error::InvalidCertificate(CertificateError::BadEncoding));
        }
        node_id_of(certificate).map(|_| ())
    }

    fn verify(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }
}

impl ServerCertVerifier for PossessionOfKey {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity, intermediates).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for PossessionOfKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity, intermediates).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// A stream of which the first byte was looked at, and is read again.
#[derive(Debug)]
pub(crate) struct Replayed<S> {
    first: Option<u8>,
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Replayed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() > 0
            && let Some(first) = self.first.take()
        {
            buf.put_slice(&[first]);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Replayed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;
