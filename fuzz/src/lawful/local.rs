//! Requests as programs send them, and lines with which a node answers.

use mesh_api::error::{ApiError, ErrorKind};
use mesh_api::event::{Event, Stage};
use mesh_api::line::Line;
use mesh_api::reply::Reply;

use super::hours_later;

const REQUESTS: &[(&str, &str)] = &[
    ("status", "GET /v1/status\n"),
    ("show", "GET /v1/services/crm-db\n"),
    (
        "logs",
        "GET /v1/services/crm-db/logs?follow=true&bytes=65536\n",
    ),
    ("usage", "GET /v1/usage?name=crm-db\n"),
    ("invoice", "GET /v1/invoices/2026-11%2Fbakery%2F1/verdict\n"),
    ("resolve", "GET /v1/names/crm-db.bakery\n"),
    ("heads", "GET /v1/ledger/heads\n"),
    (
        "invite",
        "POST /v1/members/invites\n{\"role\":\"node\",\"valid_s\":3600}",
    ),
    (
        "offer",
        "POST /v1/orgs/invites\n{\"sell\":[{\"recipe\":\"postgres\",\"price\":{\"per_month\":\
         {\"micros\":120000,\"currency\":\"EUR\"}}}],\"credit\":{\"micros\":10000000,\
         \"currency\":\"EUR\"},\"valid_s\":60,\"settlement_days\":14}",
    ),
    (
        "accept",
        "POST /v1/agreements\n{\"agreement\":\"mesh1abc\"}",
    ),
    (
        "order",
        "POST /v1/orders\n{\"recipe\":\"postgres\",\"name\":\"crm-db\",\"parameters\":\
         {\"database\":\"crm \\\"\\u00e9\\\"\"},\"node\":null,\"memory_mib\":512,\
         \"plan_only\":true,\"plan\":\"abc\"}",
    ),
    (
        "order-guests",
        "POST /v1/orders\n{\"recipe\":\"postgres\",\"allow\":[\"mesh\",\"org:library\"]}",
    ),
    (
        "state",
        "PUT /v1/services/crm-db/state\n{\"state\":\"stopped\"}",
    ),
    ("usage-now", "POST /v1/usage\n{\"name\":null}"),
];

/// Returns requests of each shape.
pub fn api_requests() -> Vec<(&'static str, Vec<u8>)> {
    REQUESTS
        .iter()
        .map(|(name, text)| (*name, text.as_bytes().to_vec()))
        .collect()
}

/// Returns lines of each kind.
pub fn api_lines() -> Vec<(&'static str, Vec<u8>)> {
    let lines = [
        (
            "step",
            Line::Event(Event::Step {
                step: Stage::Granted,
                detail: "library-1 (0.12 EUR/month)".to_owned(),
                elapsed_ms: 12,
            }),
        ),
        (
            "log",
            Line::Event(Event::Log {
                text: "a\u{fffd}\n\"b\"".to_owned(),
            }),
        ),
        (
            "error",
            Line::Error(ApiError::new(
                ErrorKind::NotFound,
                "no service",
                "see `meshctl ps`",
            )),
        ),
        (
            "offer",
            Line::last(Ok(Reply::OrgInvite {
                agreement: "mesh1abc".to_owned(),
                expires_at: hours_later(1),
            })),
        ),
        ("peers", Line::last(Ok(Reply::Peers { peers: Vec::new() }))),
    ];
    lines
        .map(|(name, line)| (name, line.to_text().into_bytes()))
        .into()
}
