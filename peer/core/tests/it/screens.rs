//! Every way in which the node can say no: caused here, one by one, and held to its form.
//!
//! A scan of the sources proves that the table is whole: whatever cause stands in them and is not
//! caused here fails the test, unless it is a guard against a fault of our own.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_api::request::{DesiredState, OrderRequest, Sale};
use mesh_api::{ApiError, ErrorKind, Reply, Request};
use mesh_base::certificate::Role;
use mesh_base::money::Money;
use mesh_base::name::Name;
use mesh_peer::message::JoinReply;
use mesh_peer::port::{Input, Room};

use crate::town::{Drivers, Town};
use crate::trade::agree;
use crate::{causes, clients, explain, forged, mesh, order};

/// Causes that need a fault of our own to come true; nothing that anybody asks brings them about.
const GUARDS: [&str; 4] = [
    "the order could not be written",
    "the agreement could not be written",
    "the agreement is not in the ledger",
    // Ten thousand services of one recipe.
    "no free name was found",
];

/// What was answered so far.
#[derive(Default)]
pub struct Screens(Vec<ApiError>);

impl Screens {
    /// Asks, and takes the no that must come.
    #[track_caller]
    pub fn meet(
        &mut self,
        town: &mut Town,
        node: usize,
        request: Request,
        kind: ErrorKind,
        cause: &str,
    ) {
        let call = town.ask(node, request);
        let answer = town.answer(call);
        self.take(answer, kind, cause);
    }

    #[track_caller]
    pub fn take(&mut self, answer: Result<Reply, ApiError>, kind: ErrorKind, cause: &str) {
        let error = match answer {
            Err(error) => error,
            Ok(reply) => panic!("\"{cause}\" was expected: {reply:?}"),
        };
        assert_eq!(error.kind, kind, "{error:?}");
        assert!(
            error.cause.contains(cause),
            "\"{cause}\" was expected: {error:?}"
        );
        for line in [&error.cause, &error.hint] {
            assert!(3 < line.len(), "{error:?}");
            assert!(!line.contains('\n') && !line.ends_with('.'), "{error:?}");
        }
        self.0.push(error);
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn of(change: impl FnOnce(&mut OrderRequest)) -> Request {
    let mut order = OrderRequest::of(name("postgres"));
    order.name = Some(name("other"));
    change(&mut order);
    Request::Order(Box::new(order))
}

fn state(service: &str, state: DesiredState) -> Request {
    let name = name(service);
    Request::SetState { name, state }
}

fn invite(valid_s: u64) -> Request {
    let role = Role::Node;
    Request::MemberInvite { role, valid_s }
}

fn offer(recipe: &str, price: &str, credit: &str) -> Request {
    let sale = Sale {
        recipe: name(recipe),
        price: price.parse().unwrap(),
    };
    Request::OrgInvite {
        sell: vec![sale],
        credit: credit.parse::<Money>().unwrap(),
        valid_s: 600,
        settlement_days: 14,
    }
}

fn logs(service: &str) -> Request {
    Request::Logs {
        name: name(service),
        follow: false,
        bytes: 100,
    }
}

/// Names of the mesh: one that nobody has, one that two partners share.
fn names_of_the_mesh(screens: &mut Screens) {
    let mut town = mesh();
    for _ in 0..2 {
        let twin = town.found("twin", 1);
        agree(&mut town, twin, "0.20EUR/month");
    }
    let mut meet = |asked: &str, kind, cause| {
        let name = asked.to_owned();
        screens.meet(&mut town, 0, Request::Resolve { name }, kind, cause);
    };
    meet("nothing.bakery", ErrorKind::NotFound, "nothing.bakery");
    meet("twin-1.twin", ErrorKind::Conflict, "\"twin\"");
}

/// Names that nobody knows and values that no recipe takes.
fn wrong_words(screens: &mut Screens) {
    use ErrorKind::{NotFound, Usage};
    let mut town = mesh();
    let town = &mut town;
    let number = "library-2020-01".to_owned();
    let show = Request::Show {
        name: name("nothing"),
    };
    let near = of(|order| order.recipe = name("postgrse"));
    screens.meet(town, 0, near, NotFound, "there is no recipe \"postgrse\"");
    assert!(screens.0[0].hint.contains("did you mean \"postgres\"?"));
    screens.meet(town, 0, show, NotFound, "there is no service \"nothing\"");
    screens.meet(
        town,
        0,
        state("nothing", DesiredState::Stopped),
        NotFound,
        "there is no service",
    );
    screens.meet(town, 0, logs("nothing"), NotFound, "there is no service");
    for request in [
        Request::UsageLs {
            name: Some(name("nothing")),
        },
        Request::UsageNow {
            name: Some(name("nothing")),
        },
    ] {
        screens.meet(town, 0, request, NotFound, "there is no service");
    }
    for request in [
        Request::InvoiceShow {
            number: number.clone(),
        },
        Request::InvoiceVerify { number },
    ] {
        screens.meet(town, 0, request, NotFound, "there is no invoice");
    }
    let on_node = of(|order| order.node = Some(name("castle-1")));
    screens.meet(town, 0, on_node, NotFound, "there is no node \"castle-1\"");
    let at_org = of(|order| order.org = Some(name("castle")));
    screens.meet(
        town,
        0,
        at_org,
        NotFound,
        "there is no organisation \"castle\"",
    );
    let allowing = |words: &[String]| {
        let allow = words.iter().map(|word| word.parse().unwrap());
        of(|order| order.allow = allow.collect())
    };
    let stranger = mesh_base::identity::SecretKey::from_seed([200; 32]).public();
    for who in ["org:castle".to_owned(), format!("org:{stranger}")] {
        screens.meet(
            town,
            0,
            allowing(&[who]),
            NotFound,
            "there is no organisation",
        );
    }
    let many: Vec<String> = (0..17).map(|number| format!("org:o{number}")).collect();
    let cause = "lets in at most 16 others, not 17";
    screens.meet(town, 0, allowing(&many), Usage, cause);
    for (parameter, value, cause) in [
        ("colour", "red", "has no parameter \"colour\""),
        ("database", "Not A Name", "parameter \"database\" must be"),
        (
            "database",
            "template0",
            "parameter \"database\" cannot be \"template0\"",
        ),
    ] {
        let parameters = BTreeMap::from([(parameter.to_owned(), value.to_owned())]);
        let request = of(|order| order.parameters = parameters);
        screens.meet(town, 0, request, Usage, cause);
    }
    revocations(screens, town);
}

fn revocations(screens: &mut Screens, town: &mut Town) {
    let revoke = |member: &str, reason: &str| Request::MemberRevoke {
        name: name(member),
        reason: reason.to_owned(),
    };
    let (lost, long) = ("it was lost", "x".repeat(100_000));
    screens.meet(
        town,
        0,
        revoke("bakery-9", lost),
        ErrorKind::NotFound,
        "has no member",
    );
    screens.meet(
        town,
        0,
        revoke("bakery-1", lost),
        ErrorKind::Conflict,
        "cannot revoke itself",
    );
    let cause = "the revocation could not be written";
    screens.meet(town, 0, revoke("bakery-2", &long), ErrorKind::Usage, cause);
}

/// Orders that nobody can take, names that are taken, plans that are stale.
fn orders(screens: &mut Screens) {
    use ErrorKind::{CannotPlace, Conflict};
    let mut town = Town::new();
    town.found("bakery", 0);
    screens.meet(
        &mut town,
        0,
        order("a"),
        CannotPlace,
        "no node can take a: bakery-1",
    );
    let mut town = mesh();
    let town = &mut town;
    let dear = of(|order| order.price_cap = Some("0.01EUR/month".parse().unwrap()));
    screens.meet(town, 0, dear, CannotPlace, "it costs");
    let foreign = of(|order| order.price_cap = Some("9CHF/month".parse().unwrap()));
    screens.meet(town, 0, foreign, CannotPlace, "in another currency");
    let elsewhere = of(|order| order.org = Some(name("bakery")));
    screens.meet(
        town,
        0,
        elsewhere,
        CannotPlace,
        "another organisation was asked for",
    );
    let there = of(|order| order.node = Some(name("bakery-2")));
    screens.meet(town, 0, there, CannotPlace, "another node was asked for");
    let huge = of(|order| order.memory_mib = Some(1_000_000));
    screens.meet(town, 0, huge, CannotPlace, "not enough");
    let stale = of(|order| order.plan = Some("no-such-plan".to_owned()));
    screens.meet(town, 0, stale, Conflict, "the plan that was shown is stale");
    let call = town.ask(0, order("a"));
    assert!(town.answer(call).is_ok());
    screens.meet(
        town,
        0,
        order("a"),
        Conflict,
        "bakery has a service \"a\" already",
    );
    // The library has an agreement that sells, and none that buys.
    screens.meet(
        town,
        1,
        of(|order| order.org = Some(name("bakery"))),
        CannotPlace,
        "there is no agreement",
    );
    let call = town.ask(2, order("b"));
    assert!(town.answer(call).is_ok());
    screens.meet(town, 2, order("c"), CannotPlace, "slots");
}

/// Commands that only one node may give.
fn rights(screens: &mut Screens) {
    use ErrorKind::{Conflict, NotAuthorised};
    let mut town = mesh();
    let town = &mut town;
    let revoke = Request::MemberRevoke {
        name: name("bakery-1"),
        reason: "no".to_owned(),
    };
    let accept = Request::OrgAccept {
        agreement: "mesh1".to_owned(),
    };
    let sell = offer("postgres", "1EUR/month", "1EUR");
    for request in [invite(600), sell, accept, revoke] {
        screens.meet(town, 2, request, NotAuthorised, "only its leader may");
    }
    let call = town.ask(0, order("a"));
    assert!(town.answer(call).is_ok());
    town.pass(Duration::from_secs(30));
    let cause = "a was ordered on bakery-1, and only that node's key may change it";
    screens.meet(
        town,
        2,
        state("a", DesiredState::Stopped),
        NotAuthorised,
        cause,
    );
    let call = town.ask(0, state("a", DesiredState::Destroyed));
    assert!(town.answer(call).is_ok());
    let cause = "a is being destroyed";
    screens.meet(town, 0, state("a", DesiredState::Running), Conflict, cause);
    screens.meet(town, 0, logs("a"), ErrorKind::Failure, "no such instance");
}

/// Invites and agreements that cannot be made, or not be used.
fn invites(screens: &mut Screens) {
    use ErrorKind::{Failure, NotAuthorised, NotFound, Timeout, Unreachable, Usage};
    let mut town = Town::new();
    let (bakery, library) = (town.found("bakery", 0), town.found("library", 1));
    let town = &mut town;
    screens.meet(
        town,
        bakery,
        invite(0),
        Usage,
        "1 second to 30 days, not 0 s",
    );
    screens.meet(town, bakery, invite(u64::MAX), Usage, "1 second to 30 days");
    let unknown = offer("mariadb", "1EUR/month", "1EUR");
    screens.meet(
        town,
        library,
        unknown,
        NotFound,
        "there is no recipe \"mariadb\"",
    );
    let mixed = offer("postgres", "1EUR/month", "1CHF");
    screens.meet(town, library, mixed, Usage, "use one currency");
    let call = town.ask(bakery, invite(600));
    let Ok(Reply::MemberInvite { invite: member, .. }) = town.answer(call) else {
        panic!("no invite")
    };
    let accept = |agreement: &str| Request::OrgAccept {
        agreement: agreement.to_owned(),
    };
    let cause = "this is an invite for a new member, not an agreement";
    screens.meet(town, bakery, accept(&member), Usage, cause);
    let call = town.ask(library, offer("postgres", "1EUR/month", "1EUR"));
    let Ok(Reply::OrgInvite { agreement, .. }) = town.answer(call) else {
        panic!("no offer")
    };
    let altered = |at: usize| {
        let mut letters: Vec<char> = agreement.chars().collect();
        letters[at] = if letters[at] == 'a' { 'b' } else { 'a' };
        letters.into_iter().collect::<String>()
    };
    let cut: String = agreement
        .chars()
        .take(agreement.chars().count() - 9)
        .collect();
    screens.meet(
        town,
        bakery,
        accept("hello"),
        Usage,
        "this is not an invite",
    );
    screens.meet(
        town,
        bakery,
        accept(&altered(60)),
        Usage,
        "the invite was altered",
    );
    screens.meet(town, bakery, accept(&cut), Usage, "the invite is cut off");
    // The seller's door is shut, says no, or says something else.
    town.doors_answer = false;
    let answers = [
        (
            Err("connection refused".to_owned()),
            Unreachable,
            "the seller cannot be reached",
        ),
        (
            Ok(JoinReply::Refused {
                reason: "not you".into(),
            }),
            NotAuthorised,
            "the seller refused",
        ),
        (
            Ok(membership(town, bakery)),
            Failure,
            "something else than was asked",
        ),
    ];
    for (reply, kind, cause) in answers {
        let call = town.ask(bakery, accept(&agreement));
        town.feed(bakery, Input::Knocked { call, reply });
        let answer = town.answer(call);
        screens.take(answer, kind, cause);
    }
    screens.meet(
        town,
        bakery,
        accept(&agreement),
        Timeout,
        "the seller has not answered in time",
    );
    town.pass(Duration::from_secs(700));
    screens.meet(
        town,
        bakery,
        accept(&agreement),
        Usage,
        "the invite expired",
    );
    let shut = Input::Underlay {
        control: vec!["127.0.0.1:9000".parse().unwrap()],
        wireguard: Vec::new(),
        door: Vec::new(),
    };
    town.feed(bakery, shut);
    screens.meet(
        town,
        bakery,
        invite(600),
        Failure,
        "the join door does not open",
    );
}

fn membership(town: &mut Town, host: usize) -> JoinReply {
    let secret = mesh_base::identity::SecretKey::from_seed([77; 32]);
    town.knock(host, &secret)
}

/// Drivers that fail or never answer, providers that are gone, programs that are too many.
fn patience(screens: &mut Screens) {
    use ErrorKind::{Failure, Timeout, Unreachable};
    let mut town = mesh();
    town.drivers = Drivers::Failing;
    screens.meet(
        &mut town,
        0,
        order("a"),
        Failure,
        "a could not be brought up: the disk is full",
    );
    let mut town = mesh();
    town.drivers = Drivers::Silent;
    let call = town.ask(0, order("a"));
    for _ in 0..70 {
        town.pass(Duration::from_secs(10));
    }
    let answer = town.answer(call);
    screens.take(answer, Timeout, "a has not got there in time");
    let mut town = mesh();
    town.drivers = Drivers::Silent;
    let call = town.ask(0, order("a"));
    town.ask(0, state("a", DesiredState::Destroyed));
    let answer = town.answer(call);
    let cause = "a was called off before it was ready";
    screens.take(answer, ErrorKind::Conflict, cause);
    let mut town = mesh();
    let call = town.ask(0, order("a"));
    assert!(town.answer(call).is_ok());
    // The town's drivers read no logs.
    screens.meet(&mut town, 0, logs("a"), Unreachable, "did not send its log");
    town.drivers = Drivers::Silent;
    let usage = Request::UsageNow { name: None };
    screens.meet(
        &mut town,
        0,
        usage,
        Timeout,
        "has not stated its usage in time",
    );
    let mut follow = logs("a");
    if let Request::Logs { follow, .. } = &mut follow {
        *follow = true;
    }
    for _ in 0..256 {
        town.ask(0, follow.clone());
    }
    screens.meet(&mut town, 0, follow, Failure, "too many programs wait");
}

/// A full disk refuses what begins something, and nothing else; room again takes it on.
fn full_disk(screens: &mut Screens) {
    let mut town = mesh();
    let call = town.ask(0, order("a"));
    assert!(town.answer(call).is_ok());
    town.feed(0, Input::Room(Room::Full));
    let begins = [
        order("b"),
        invite(3600),
        offer("postgres", "1EUR/month", "10EUR"),
    ];
    for request in begins {
        screens.meet(&mut town, 0, request, ErrorKind::Failure, "disk is full");
    }
    for request in [Request::Status, state("a", DesiredState::Stopped)] {
        let call = town.ask(0, request);
        assert!(town.answer(call).is_ok());
    }
    town.feed(0, Input::Room(Room::Enough));
    let call = town.ask(0, order("b"));
    assert!(town.answer(call).is_ok());
}

#[test]
fn every_failure_of_the_node_is_caused_and_says_what_to_do() {
    let mut screens = Screens::default();
    wrong_words(&mut screens);
    orders(&mut screens);
    rights(&mut screens);
    invites(&mut screens);
    patience(&mut screens);
    names_of_the_mesh(&mut screens);
    forged::all(&mut screens);
    explain::refusals(&mut screens);
    clients::refusals(&mut screens);
    full_disk(&mut screens);
    let all = causes::texts();
    assert!(20 < all.len(), "{all:?}");
    let is_guard = |cause: &&String| GUARDS.iter().any(|guard| cause.starts_with(guard));
    let missed: Vec<&String> = all
        .iter()
        .filter(|cause| !causes::was_said(cause, &screens.0) && !is_guard(cause))
        .collect();
    assert!(missed.is_empty(), "not caused by this test: {missed:#?}");
    sentences_of_others(&screens.0);
    every_kind(&screens.0);
    tell(&format!("{} refusals of the node caused", screens.0.len()));
}

/// Places whose cause is another type's sentence are the known ones, and each sentence was said or
/// is caused by a test below.
fn sentences_of_others(said: &[ApiError]) {
    let mut found = causes::elsewhere();
    for (file, word, count) in causes::ELSEWHERE {
        for _ in 0..count {
            let at = found.iter().position(|one| one.0 == file && one.1 == word);
            found.remove(at.unwrap_or_else(|| panic!("{file} says {word} less often: {found:?}")));
        }
    }
    assert!(found.is_empty(), "a new place: name its type: {found:?}");
    let mut missed = Vec::new();
    for (path, name) in causes::TYPES {
        let sentences = causes::sentences(path, name).into_iter();
        missed.extend(sentences.filter(|sentence| !causes::was_said(sentence, said)));
    }
    for (sentence, path, test) in causes::CAUSED_BELOW {
        let at = missed.iter().position(|one| one == sentence);
        missed.remove(at.unwrap_or_else(|| panic!("\"{sentence}\" is said by now")));
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains(&format!("fn {test}()")), "{path}: {test}");
    }
    assert!(missed.is_empty(), "nobody causes: {missed:#?}");
}

/// Every kind of failure was met, but for those that only a program of ours ends with.
fn every_kind(said: &[ApiError]) {
    let of_programs = [ErrorKind::Degraded, ErrorKind::PlanHasChanges];
    for kind in ErrorKind::ALL {
        let met = said.iter().any(|error| error.kind == *kind);
        assert_eq!(met, !of_programs.contains(kind), "{kind:?}");
    }
}

/// Tells the scoreboard, if there is one.
fn tell(figure: &str) {
    let Some(folder) = std::env::var_os("MESHSTEAD_BARS_DIR") else {
        return;
    };
    let path = std::path::Path::new(&folder).join("first.screens@causes.json");
    std::fs::write(path, format!("{{\"figure\": \"{figure}\", \"ok\": true}}")).unwrap();
}
