//! Tokens of a service account that end when a test wants it. The API server itself gives none for less than ten minutes.

use anyhow::{Context, Result, anyhow};
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};

/// A token (RFC 7519) with these claims, signed by the key in `pem` (PKCS #8, P-256).
pub(super) fn sign(claims: &Value, pem: &str) -> Result<String> {
    let body: String = pem
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    let key = BASE64_STANDARD.decode(body).context("the key is no PEM")?;
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key, &random)
        .map_err(|reason| anyhow!("the key cannot be used: {reason}"))?;
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({"alg": "ES256"})), part(claims));
    let signature = key
        .sign(&random, signed.as_bytes())
        .map_err(|_| anyhow!("the system gives no random numbers"))?;
    let signature = BASE64_URL_SAFE_NO_PAD.encode(signature);
    Ok(format!("{signed}.{signature}"))
}
