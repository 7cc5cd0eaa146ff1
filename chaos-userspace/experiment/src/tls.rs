//! TLS for requests that murphy makes itself: to services of experiments, to collectors of spans.

use std::sync::Arc;

use ureq::tls::{RootCerts, TlsConfig};

/// The system's certificates, and the provider of cryptography that is built without a build system of its own.
pub(crate) fn config(verify: bool) -> TlsConfig {
    TlsConfig::builder()
        .root_certs(RootCerts::PlatformVerifier)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .disable_verification(!verify)
        .build()
}
