//! A peer over TLS that says what a test wants.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use peer_to_peer::wire::{FrameDecoder, Hello, Instance, Message};
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned};

/// One that is connected to a node, and has said who it is.
pub(crate) struct TlsPeer {
    stream: StreamOwned<ClientConnection, TcpStream>,
    decoder: FrameDecoder,
    buffer: BytesMut,
}

impl TlsPeer {
    /// Connects as somebody new, and answers whom the node takes it for.
    pub(crate) fn connect(to: &str, features: &[&str]) -> (Self, String) {
        let (config, id) = client_config();
        let name = ServerName::try_from("p2p.invalid").unwrap();
        let client = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = StreamOwned::new(client, TcpStream::connect(to).unwrap());
        let mut peer = Self { stream, decoder: FrameDecoder::encrypted(), buffer: BytesMut::new() };
        peer.say(&Message::Hello(Hello {
            version: 1,
            agent: "tls-peer".into(),
            node_id: None,
            instance: Instance(7),
            listen_port: 0,
            your_addr: None,
            features: features.iter().map(|feature| (*feature).to_owned()).collect(),
        }));
        (peer, id)
    }

    /// The node's end of the connection, by which it calls this peer.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.stream.sock.local_addr().unwrap()
    }

    /// Where the node has closed the connection, the next [`TlsPeer::hear`] tells.
    pub(crate) fn say(&mut self, message: &Message) {
        let mut out = BytesMut::new();
        message.encode(&mut out);
        let _ = self.stream.write_all(&out).and_then(|()| self.stream.flush());
    }

    /// What has arrived meanwhile, if anything has; an error where the connection is closed.
    pub(crate) fn try_hear(&mut self) -> Result<Option<Message>, ()> {
        self.stream.sock.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        let heard = self.hear_next();
        self.stream.sock.set_read_timeout(None).unwrap();
        match heard {
            Ok(message) => Ok(Some(message)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
            Err(_) => Err(()),
        }
    }

    /// The next message; `None` where the connection is closed.
    pub(crate) fn hear(&mut self) -> Option<Message> {
        self.hear_next().ok()
    }

    fn hear_next(&mut self) -> io::Result<Message> {
        loop {
            match self.decoder.decode(&mut self.buffer) {
                Ok(Some(Ok(message))) => return Ok(message),
                Ok(Some(Err(_))) => {}
                Ok(None) => {
                    let mut read = [0; 65_536];
                    match self.stream.read(&mut read)? {
                        0 => return Err(ErrorKind::UnexpectedEof.into()),
                        bytes => self.buffer.extend_from_slice(&read[..bytes]),
                    }
                }
                Err(_) => return Err(ErrorKind::InvalidData.into()),
            }
        }
    }
}

/// What it takes to shake hands as somebody new, and who that is.
fn client_config() -> (ClientConfig, String) {
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let certificate = CertificateParams::default().self_signed(&key).unwrap().der().clone();
    let id = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(key.public_key_raw()));
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_client_auth_cert(vec![certificate], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    config.alpn_protocols = vec![b"p2p/1".to_vec()];
    (config, id)
}

/// Does not care who is there.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
