//! The HTTP form of every request: method, path and JSON body, both ways.
//!
//! ```text
//! GET  /v1/status                          Status
//! GET  /v1/peers                           Peers
//! GET  /v1/routes                          Routes           ?to=library-1
//! GET  /v1/links                           Links
//! POST /v1/pings                           Ping             {to, path}
//! POST /v1/traces                          Trace            {to}
//! GET  /v1/netcheck                        Netcheck
//! GET  /v1/clients                         ClientLs
//! POST /v1/clients                         ClientAdd        {name, key}
//! POST /v1/clients/removals                ClientRemove     {name}
//! GET  /v1/members                         MemberLs
//! POST /v1/members/invites                 MemberInvite     {role, valid_s}
//! POST /v1/members/revocations             MemberRevoke     {name, reason}
//! GET  /v1/orgs                            OrgLs
//! POST /v1/orgs/invites                    OrgInvite        {sell, credit, …}
//! GET  /v1/agreements                      AgreementLs
//! POST /v1/agreements                      OrgAccept        {agreement}
//! GET  /v1/offers                          OfferLs
//! GET  /v1/recipes                         RecipeLs
//! POST /v1/orders                          Order            {recipe, …}
//! GET  /v1/services                        Ps
//! GET  /v1/services/{name}                 Show
//! GET  /v1/names/{name}                    Resolve
//! PUT  /v1/services/{name}/state           SetState         {state}
//! GET  /v1/services/{name}/logs            Logs             ?follow=true&bytes=65536
//! GET  /v1/usage                           UsageLs          ?name=crm-db
//! POST /v1/usage                           UsageNow         {name}
//! GET  /v1/invoices                        InvoiceLs
//! GET  /v1/invoices/{number}               InvoiceShow
//! GET  /v1/invoices/{number}/verdict       InvoiceVerify
//! GET  /v1/ledger/heads                    LedgerHeads
//! GET  /v1/ledger/verdict                  LedgerVerify
//! ```
//! The response is always a list of [lines](crate::line). Its status is 200 once the first event
//! or the reply is known; an error that comes first gives [`ErrorKind::http_status`]. Leaves
//! sockets and HTTP itself to the shells. Invariant: `from_http` of `to_http` is the same request.

use std::collections::BTreeMap;
use std::fmt;

use mesh_base::name::Name;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{ApiError, ErrorKind};
use crate::request::{BODY_LEN_MAX, DesiredState, Request};

/// How many bytes of a log a caller gets that does not say.
pub const LOG_BYTES_DEFAULT: u64 = 64 * 1024;

/// The three methods that the API uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Asks, changes nothing.
    Get,
    /// Makes something.
    Post,
    /// Says what something shall be.
    Put,
}

impl Method {
    /// Returns the word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }
}

/// The HTTP form of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// The method.
    pub method: Method,
    /// Path and query, percent-encoded.
    pub target: String,
    /// JSON, or empty.
    pub body: String,
}

/// The body of `PUT /v1/services/{name}/state`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateBody {
    state: DesiredState,
}

/// Writes a request in its HTTP form.
pub fn to_http(request: &Request) -> HttpRequest {
    match request {
        Request::Status => get("/v1/status"),
        Request::Peers => get("/v1/peers"),
        Request::Routes { to: None } => get("/v1/routes"),
        Request::Routes { to: Some(to) } => get(&format!("/v1/routes?to={}", escape(to))),
        Request::Links => get("/v1/links"),
        Request::Ping { .. } => post("/v1/pings", request),
        Request::Trace { .. } => post("/v1/traces", request),
        Request::Netcheck => get("/v1/netcheck"),
        Request::ClientLs => get("/v1/clients"),
        Request::ClientAdd { .. } => post("/v1/clients", request),
        Request::ClientRemove { .. } => post("/v1/clients/removals", request),
        Request::MemberLs => get("/v1/members"),
        Request::MemberInvite { .. } => post("/v1/members/invites", request),
        Request::MemberRevoke { .. } => post("/v1/members/revocations", request),
        Request::OrgLs => get("/v1/orgs"),
        Request::OrgInvite { .. } => post("/v1/orgs/invites", request),
        Request::AgreementLs => get("/v1/agreements"),
        Request::OrgAccept { .. } => post("/v1/agreements", request),
        Request::OfferLs => get("/v1/offers"),
        Request::RecipeLs => get("/v1/recipes"),
        Request::Order(_) => post("/v1/orders", request),
        Request::Ps => get("/v1/services"),
        Request::Show { name } => get(&format!("/v1/services/{name}")),
        Request::Resolve { name } => get(&format!("/v1/names/{}", escape(name))),
        Request::SetState { name, state } => HttpRequest {
            method: Method::Put,
            target: format!("/v1/services/{name}/state"),
            body: json(&StateBody { state: *state }),
        },
        Request::Logs {
            name,
            follow,
            bytes,
        } => get(&format!(
            "/v1/services/{name}/logs?follow={follow}&bytes={bytes}"
        )),
        Request::UsageLs { name: None } => get("/v1/usage"),
        Request::UsageLs { name: Some(name) } => get(&format!("/v1/usage?name={name}")),
        Request::UsageNow { .. } => post("/v1/usage", request),
        Request::InvoiceLs => get("/v1/invoices"),
        Request::InvoiceShow { number } => get(&format!("/v1/invoices/{}", escape(number))),
        Request::InvoiceVerify { number } => {
            get(&format!("/v1/invoices/{}/verdict", escape(number)))
        }
        Request::LedgerHeads => get("/v1/ledger/heads"),
        Request::LedgerVerify => get("/v1/ledger/verdict"),
    }
}

/// Reads a request from its HTTP form. `target` is path and query as they were sent.
pub fn from_http(method: &str, target: &str, body: &[u8]) -> Result<Request, ApiError> {
    if BODY_LEN_MAX < body.len() {
        return Err(usage(format!(
            "the body is longer than {BODY_LEN_MAX} bytes"
        )));
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let parts = path
        .strip_prefix("/v1/")
        .map(|rest| {
            rest.split('/')
                .map(unescape)
                .collect::<Result<Vec<String>, ApiError>>()
        })
        .transpose()?
        .unwrap_or_default();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let query = Query::of(query)?;
    let found = match method {
        "GET" => read_get(&parts, &query)?,
        "POST" => read_post(&parts, body)?,
        "PUT" => read_put(&parts, body)?,
        _ => None,
    };
    found.ok_or_else(|| no_route(method, path))
}

fn read_get(parts: &[&str], query: &Query) -> Result<Option<Request>, ApiError> {
    Ok(Some(match parts {
        ["status"] => Request::Status,
        ["peers"] => Request::Peers,
        ["routes"] => Request::Routes {
            to: query.0.get("to").cloned(),
        },
        ["links"] => Request::Links,
        ["netcheck"] => Request::Netcheck,
        ["clients"] => Request::ClientLs,
        ["members"] => Request::MemberLs,
        ["orgs"] => Request::OrgLs,
        ["agreements"] => Request::AgreementLs,
        ["offers"] => Request::OfferLs,
        ["recipes"] => Request::RecipeLs,
        ["services"] => Request::Ps,
        ["services", service] => Request::Show {
            name: name(service)?,
        },
        ["names", name] => Request::Resolve {
            name: (*name).to_owned(),
        },
        ["services", service, "logs"] => Request::Logs {
            name: name(service)?,
            follow: query.read("follow")?.unwrap_or(false),
            bytes: query.read("bytes")?.unwrap_or(LOG_BYTES_DEFAULT),
        },
        ["usage"] => Request::UsageLs {
            name: query.0.get("name").map(|text| name(text)).transpose()?,
        },
        ["invoices"] => Request::InvoiceLs,
        ["invoices", number] => Request::InvoiceShow {
            number: (*number).to_owned(),
        },
        ["invoices", number, "verdict"] => Request::InvoiceVerify {
            number: (*number).to_owned(),
        },
        ["ledger", "heads"] => Request::LedgerHeads,
        ["ledger", "verdict"] => Request::LedgerVerify,
        _ => return Ok(None),
    }))
}

fn read_post(parts: &[&str], body: &[u8]) -> Result<Option<Request>, ApiError> {
    let tag = match parts {
        ["pings"] => "ping",
        ["traces"] => "trace",
        ["clients"] => "client_add",
        ["clients", "removals"] => "client_remove",
        ["members", "invites"] => "member_invite",
        ["members", "revocations"] => "member_revoke",
        ["orgs", "invites"] => "org_invite",
        ["agreements"] => "org_accept",
        ["orders"] => "order",
        ["usage"] => "usage_now",
        _ => return Ok(None),
    };
    let mut reader = serde_json::Deserializer::from_slice(body);
    let request = Tagged(tag).deserialize(&mut reader);
    request
        .and_then(|request| reader.end().map(|()| Some(request)))
        .map_err(|problem| wrong_body(&problem))
}

/// Reads a body as the request that its path names.
///
/// The tag is put in front while the body is read: a tree of JSON values in between would take up
/// to eighty times the body.
struct Tagged(&'static str);

impl<'de> DeserializeSeed<'de> for Tagged {
    type Value = Request;

    fn deserialize<D: Deserializer<'de>>(self, body: D) -> Result<Request, D::Error> {
        body.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Tagged {
    type Value = Request;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, rest: A) -> Result<Request, A::Error> {
        let fields = Fields {
            tag: Some(self.0),
            rest,
        };
        Request::deserialize(MapAccessDeserializer::new(fields))
    }
}

/// The fields of a body, the tag first.
struct Fields<A> {
    tag: Option<&'static str>,
    rest: A,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Fields<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        match self.tag {
            Some(_) => seed.deserialize("request".into_deserializer()).map(Some),
            None => self.rest.next_key_seed(seed),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        match self.tag.take() {
            Some(tag) => seed.deserialize(tag.into_deserializer()),
            None => self.rest.next_value_seed(seed),
        }
    }
}

fn read_put(parts: &[&str], body: &[u8]) -> Result<Option<Request>, ApiError> {
    let ["services", service, "state"] = parts else {
        return Ok(None);
    };
    let StateBody { state } = read_json(body)?;
    Ok(Some(Request::SetState {
        name: name(service)?,
        state,
    }))
}

fn get(target: &str) -> HttpRequest {
    HttpRequest {
        method: Method::Get,
        target: target.to_owned(),
        body: String::new(),
    }
}

/// The path says what is asked, so the tag is left out of the body.
fn post(target: &str, request: &Request) -> HttpRequest {
    // Proof: a request has no map whose keys are not text.
    let mut value = serde_json::to_value(request).expect("API types can be written as JSON");
    if let Some(fields) = value.as_object_mut() {
        fields.remove("request");
    }
    HttpRequest {
        method: Method::Post,
        target: target.to_owned(),
        body: json(&value),
    }
}

fn json(value: &impl Serialize) -> String {
    // Proof: only called with structs and values whose keys are text.
    serde_json::to_string(value).expect("API types can be written as JSON")
}

fn read_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|problem| wrong_body(&problem))
}

fn name(text: &str) -> Result<Name, ApiError> {
    text.parse().map_err(|problem: mesh_base::name::NotAName| {
        ApiError::new(
            ErrorKind::Usage,
            problem.to_string(),
            "`meshctl ps` lists the services by name",
        )
    })
}

fn usage(cause: String) -> ApiError {
    ApiError::new(
        ErrorKind::Usage,
        cause,
        "see `meshctl --help` for what a request may say",
    )
}

fn wrong_body(problem: &serde_json::Error) -> ApiError {
    usage(format!("cannot read the request's body: {problem}"))
}

fn no_route(method: &str, path: &str) -> ApiError {
    let path: String = path.chars().take(100).collect();
    let method: String = method.chars().take(10).collect();
    ApiError::new(
        ErrorKind::NotFound,
        format!("the API has no {method} {path}"),
        "use the same version of meshctl and meshnode",
    )
}

/// The pairs of a query.
struct Query(BTreeMap<String, String>);

impl Query {
    fn of(text: &str) -> Result<Self, ApiError> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, "true"));
            Ok((unescape(key)?, unescape(value)?))
        });
        pairs.collect::<Result<_, ApiError>>().map(Self)
    }

    fn read<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, ApiError> {
        let Some(text) = self.0.get(key) else {
            return Ok(None);
        };
        let wrong = |_| usage(format!("\"{text}\" is not a value of \"{key}\""));
        text.parse().map(Some).map_err(wrong)
    }
}

/// Percent-encodes everything but the unreserved characters (RFC 3986, 2.3).
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

fn unescape(text: &str) -> Result<String, ApiError> {
    let wrong = || usage("the path is not percent-encoded UTF-8".to_owned());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2).ok_or_else(wrong)?;
        let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
        rest = tail;
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::WireguardKey;
    use crate::request::{OrderRequest, Sale};
    use mesh_base::certificate::Role;

    fn crm() -> Name {
        "crm-db".parse().unwrap()
    }

    fn order() -> OrderRequest {
        OrderRequest {
            name: Some(crm()),
            parameters: BTreeMap::from([("database".into(), "crm \"é\"".into())]),
            node: Some("library-1".parse().unwrap()),
            org: Some("library".parse().unwrap()),
            memory_mib: Some(512),
            cpu_millis: Some(500),
            disk_mib: Some(1024),
            price_cap: Some("0.12EUR/month".parse().unwrap()),
            allow: ["mesh", "org:library"]
                .map(|one| one.parse().unwrap())
                .into(),
            plan_only: true,
            plan: Some("abc".into()),
            ..OrderRequest::of("postgres".parse().unwrap())
        }
    }

    /// Writes a request, compares its first line, reads it back.
    #[track_caller]
    fn check(request: Request, line: &str) {
        let http = to_http(&request);
        assert_eq!(format!("{} {}", http.method.as_str(), http.target), line);
        let back = from_http(http.method.as_str(), &http.target, http.body.as_bytes());
        assert_eq!(back.unwrap(), request);
    }

    #[test]
    fn every_request_survives_the_way_there_and_back() {
        check(Request::Status, "GET /v1/status");
        check(Request::Peers, "GET /v1/peers");
        check(Request::Routes { to: None }, "GET /v1/routes");
        let to = || "library-1.library".to_owned();
        check(
            Request::Routes { to: Some(to()) },
            "GET /v1/routes?to=library-1.library",
        );
        check(Request::Links, "GET /v1/links");
        check(
            Request::Ping {
                to: to(),
                path: true,
            },
            "POST /v1/pings",
        );
        check(Request::Trace { to: to() }, "POST /v1/traces");
        check(Request::MemberLs, "GET /v1/members");
        check(
            Request::MemberRevoke {
                name: "bakery-2".parse().unwrap(),
                reason: "sold".to_owned(),
            },
            "POST /v1/members/revocations",
        );
        check(
            Request::MemberInvite {
                role: Role::Node,
                valid_s: 60,
            },
            "POST /v1/members/invites",
        );
        let name = || "phone".parse().unwrap();
        check(Request::Netcheck, "GET /v1/netcheck");
        check(Request::ClientLs, "GET /v1/clients");
        let key = WireguardKey([7; 32]);
        check(Request::ClientAdd { name: name(), key }, "POST /v1/clients");
        check(
            Request::ClientRemove { name: name() },
            "POST /v1/clients/removals",
        );
        check(Request::OrgLs, "GET /v1/orgs");
        let sale = Sale {
            recipe: "postgres".parse().unwrap(),
            price: "0.12EUR/month".parse().unwrap(),
        };
        check(
            Request::OrgInvite {
                sell: vec![sale],
                credit: "10EUR".parse().unwrap(),
                valid_s: 60,
                settlement_days: 14,
            },
            "POST /v1/orgs/invites",
        );
        check(Request::AgreementLs, "GET /v1/agreements");
        check(
            Request::OrgAccept {
                agreement: "a".into(),
            },
            "POST /v1/agreements",
        );
        check(Request::OfferLs, "GET /v1/offers");
        check(Request::RecipeLs, "GET /v1/recipes");
        check(Request::Order(Box::new(order())), "POST /v1/orders");
        check(
            Request::Order(Box::new(OrderRequest::of("postgres".parse().unwrap()))),
            "POST /v1/orders",
        );
    }

    #[test]
    fn every_request_about_what_was_ordered_survives_too() {
        check(Request::Ps, "GET /v1/services");
        check(Request::Show { name: crm() }, "GET /v1/services/crm-db");
        check(
            Request::SetState {
                name: crm(),
                state: DesiredState::Destroyed,
            },
            "PUT /v1/services/crm-db/state",
        );
        check(
            Request::Logs {
                name: crm(),
                follow: true,
                bytes: 9,
            },
            "GET /v1/services/crm-db/logs?follow=true&bytes=9",
        );
        check(
            Request::Resolve {
                name: "fd73::7".into(),
            },
            "GET /v1/names/fd73%3A%3A7",
        );
        check(Request::UsageLs { name: None }, "GET /v1/usage");
        check(
            Request::UsageLs { name: Some(crm()) },
            "GET /v1/usage?name=crm-db",
        );
        check(Request::UsageNow { name: None }, "POST /v1/usage");
        check(Request::UsageNow { name: Some(crm()) }, "POST /v1/usage");
        check(Request::InvoiceLs, "GET /v1/invoices");
        check(
            Request::InvoiceShow {
                number: "2026/11 é".into(),
            },
            "GET /v1/invoices/2026%2F11%20%C3%A9",
        );
        check(
            Request::InvoiceVerify {
                number: "library-2026-11-1".into(),
            },
            "GET /v1/invoices/library-2026-11-1/verdict",
        );
        check(Request::LedgerHeads, "GET /v1/ledger/heads");
        check(Request::LedgerVerify, "GET /v1/ledger/verdict");
    }

    #[track_caller]
    fn check_refused(method: &str, target: &str, body: &str, kind: ErrorKind) {
        assert_eq!(
            from_http(method, target, body.as_bytes()).unwrap_err().kind,
            kind
        );
    }

    #[test]
    fn what_is_not_a_request_is_refused_with_its_kind() {
        check_refused("GET", "/", "", ErrorKind::NotFound);
        check_refused("GET", "/v1/", "", ErrorKind::NotFound);
        check_refused("GET", "/v1/orders", "", ErrorKind::NotFound);
        check_refused("DELETE", "/v1/status", "", ErrorKind::NotFound);
        check_refused("GET", "/v1/services/%2", "", ErrorKind::Usage);
        check_refused("GET", "/v1/services/%ff", "", ErrorKind::Usage);
        check_refused("GET", "/v1/services/No", "", ErrorKind::Usage);
        check_refused("GET", "/v1/services/a/logs?bytes=x", "", ErrorKind::Usage);
        check_refused("POST", "/v1/orders", "", ErrorKind::Usage);
        check_refused("POST", "/v1/orders", "{}", ErrorKind::Usage);
        check_refused(
            "POST",
            "/v1/orders",
            r#"{"recipe":"a","wish":1}"#,
            ErrorKind::Usage,
        );
        check_refused(
            "PUT",
            "/v1/services/a/state",
            r#"{"state":"gone"}"#,
            ErrorKind::Usage,
        );
        let long = " ".repeat(BODY_LEN_MAX + 1);
        check_refused("POST", "/v1/orders", &long, ErrorKind::Usage);
    }

    #[test]
    fn order_may_leave_out_everything_but_the_recipe() {
        let read = from_http("POST", "/v1/orders", br#"{"recipe":"postgres"}"#).unwrap();
        let expect = OrderRequest::of("postgres".parse().unwrap());
        assert_eq!(read, Request::Order(Box::new(expect)));
    }

    #[test]
    fn body_of_an_order_is_what_a_person_would_write() {
        let request = Request::Order(Box::new(OrderRequest {
            plan_only: true,
            ..OrderRequest::of("postgres".parse().unwrap())
        }));
        let body: serde_json::Value = serde_json::from_str(&to_http(&request).body).unwrap();
        assert_eq!(body["recipe"], "postgres");
        assert_eq!(body["plan_only"], true);
        assert!(body.get("request").is_none());
    }
}
