//! Calls a PDS with a session that idiolectd keeps alive (docs/store-format.md):
//!
//!     echo com.atproto.server.getSession | cargo run /run/idiolectd/clients DID
//!
//! calls the method of each line of standard input, and prints what it answers. The clients' view is read for every
//! request, and nothing is refreshed.

use base64::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{EcdsaKeyPair, ECDSA_P256_SHA256_FIXED_SIGNING};
use serde_json::{json, Value};
use std::error::Error;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How long a rotation may take, and how long to wait between two looks at the record.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

fn b64(data: impl AsRef<[u8]>) -> String {
    base64::encode_config(data, URL_SAFE_NO_PAD)
}

/// How a token is named to the daemon.
fn token_hash(token: &str) -> String {
    b64(ring::digest::digest(&ring::digest::SHA256, token.as_bytes()))
}

/// Where the record of a DID lies in the view.
fn file_name(did: &str) -> String {
    let mut parts = did.splitn(3, ':');
    let mut next = || parts.next().unwrap_or_default();
    let (scheme, method, rest) = (next(), next(), next());
    format!("{scheme}_{method}_{}.json", rest.replace('_', "~5F").replace(':', "~3A"))
}

/// What a client needs of a record.
struct Record {
    pds_url: String,
    access_jwt: String,
    jwk: Option<Value>,
    standing: Option<(String, String)>,
}

impl Record {
    fn parse(text: &str, did: &str) -> Result<Record> {
        let value: Value = serde_json::from_str(text)?;
        let text = |name: &str| value[name].as_str().filter(|text| !text.is_empty()).map(String::from);
        if text("did").as_deref() != Some(did) {
            return Err(format!("no record of {did}").into());
        }
        let jwk = text("dpopPrivateKeyJwk").map(|jwk| serde_json::from_str(&jwk)).transpose()?;
        Ok(Record {
            pds_url: text("pdsUrl").or_else(|| text("pds_url")).ok_or("no pdsUrl")?,
            access_jwt: text("accessJwt").ok_or("no accessJwt")?,
            jwk,
            standing: text("state").map(|state| (state, text("cause").unwrap_or_default())),
        })
    }
}

/// One account's session, in a view.
struct Session {
    view: PathBuf,
    did: String,
    nonce: Option<String>,
    http: ureq::Agent,
    random: SystemRandom,
}

struct Answer {
    status: u16,
    body: String,
    is_refused: bool,
}

impl Session {
    fn new(view: &Path, did: &str) -> Session {
        // The token must not go where a redirect leads.
        let http = ureq::AgentBuilder::new().redirects(0).build();
        Session { view: view.into(), did: did.into(), nonce: None, http, random: SystemRandom::new() }
    }

    fn read(&self) -> Result<Record> {
        Record::parse(&std::fs::read_to_string(self.view.join(file_name(&self.did)))?, &self.did)
    }

    /// Sends a request to the session's PDS; a refused one once more with a newer token.
    fn call(&mut self, method: &str, path: &str, body: Option<&str>) -> Result<Answer> {
        let first = self.read()?;
        let answer = self.send(&first, method, path, body)?;
        if !answer.is_refused {
            return Ok(answer);
        }
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let record = self.read()?;
            if record.access_jwt != first.access_jwt {
                return self.send(&record, method, path, body);
            }
            match record.standing {
                Some((state, cause)) if state == "relogin_required" || state == "suspended" => {
                    return Err(format!("{}: {state}, {cause}", self.did).into());
                }
                _ => sleep(PAUSE),
            }
        }
        let note = format!("{}~{}", self.did, token_hash(&first.access_jwt));
        let _ = std::fs::File::create(self.view.join("refused").join(note)); // the daemon looks at it, if we may ask
        Ok(answer)
    }

    fn send(&mut self, record: &Record, method: &str, path: &str, body: Option<&str>) -> Result<Answer> {
        let url = format!("{}{path}", record.pds_url.trim_end_matches('/'));
        let mut may_repeat = true;
        loop {
            let mut request = self.http.request(method, &url);
            request = match &record.jwk {
                None => request.set("Authorization", &format!("Bearer {}", record.access_jwt)),
                Some(jwk) => request
                    .set("Authorization", &format!("DPoP {}", record.access_jwt))
                    .set("DPoP", &self.proof(jwk, &record.access_jwt, method, &url)?),
            };
            let done = match body {
                None => request.call(),
                Some(body) => request.set("Content-Type", "application/json").send_string(body),
            };
            let response = match done {
                Ok(response) | Err(ureq::Error::Status(_, response)) => response,
                Err(error) => return Err(error.into()),
            };
            if let Some(nonce) = response.header("DPoP-Nonce") {
                self.nonce = Some(nonce.into());
            }
            let status = response.status();
            let body = response.into_string()?;
            let failure: Value = match status {
                400 | 401 => serde_json::from_str(&body).unwrap_or_default(),
                _ => Value::Null,
            };
            if failure["error"] == "use_dpop_nonce" && std::mem::take(&mut may_repeat) {
                continue;
            }
            let is_refused = status == 401 || failure["error"] == "ExpiredToken";
            return Ok(Answer { status, body, is_refused });
        }
    }

    /// A DPoP proof (RFC 9449, section 4.2).
    fn proof(&self, jwk: &Value, access_jwt: &str, method: &str, url: &str) -> Result<String> {
        let part = |name: &str| -> Result<Vec<u8>> {
            let text = jwk[name].as_str().ok_or("no key of P-256")?;
            Ok(base64::decode_config(text, URL_SAFE_NO_PAD)?)
        };
        let public = [vec![4], part("x")?, part("y")?].concat();
        let key = EcdsaKeyPair::from_private_key_and_public_key(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            &part("d")?,
            &public,
        )
        .map_err(|error| error.to_string())?;
        let mut jti = [0; 16];
        self.random.fill(&mut jti).map_err(|_| "no random bytes")?;
        let header = json!({"typ": "dpop+jwt", "alg": "ES256",
            "jwk": {"kty": jwk["kty"], "crv": jwk["crv"], "x": jwk["x"], "y": jwk["y"]}});
        let mut claims = json!({"jti": b64(jti), "htm": method, "htu": url.split(['?', '#']).next(),
            "iat": SystemTime::UNIX_EPOCH.elapsed()?.as_secs(), "ath": token_hash(access_jwt)});
        if let Some(nonce) = &self.nonce {
            claims["nonce"] = json!(nonce);
        }
        let signed = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let signature = key.sign(&self.random, signed.as_bytes()).map_err(|_| "can't sign")?;
        Ok(format!("{signed}.{}", b64(signature)))
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, view, did] = arguments.as_slice() else { return Err("session VIEW DID".into()) };
    let mut session = Session::new(Path::new(view), did);
    for line in std::io::stdin().lock().lines() {
        let answer = session.call("GET", &format!("/xrpc/{}", line?), None)?;
        if answer.status != 200 {
            return Err(format!("{}: {}", answer.status, answer.body).into());
        }
        println!("{}", answer.body);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares this reader with the vectors of the format: VECTORS=docs/vectors.json cargo test
    #[test]
    fn vectors() {
        let text = std::fs::read_to_string(std::env::var("VECTORS").unwrap()).unwrap();
        let vectors: Value = serde_json::from_str(&text).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_string();
        let list = |name: &str| vectors[name].as_array().unwrap().clone();
        for it in list("dids") {
            assert_eq!(file_name(&text(&it["did"])), text(&it["fileName"]));
        }
        for (token, hash) in vectors["tokenHashes"].as_object().unwrap() {
            assert_eq!(token_hash(token), text(hash));
        }
        for it in list("records") {
            let found = Record::parse(&text(&it["record"]), &text(&it["read"]["did"])).unwrap();
            assert_eq!(found.pds_url, text(&it["read"]["pdsUrl"]));
            assert_eq!(found.access_jwt, text(&it["read"]["accessJwt"]));
        }
        for it in list("noRecords") {
            if it["inView"] != json!(true) {
                let found = Record::parse(&text(&it["record"]), &text(&vectors["dids"][0]["did"]));
                assert!(found.is_err(), "{}", it["what"]);
            }
        }
    }
}
