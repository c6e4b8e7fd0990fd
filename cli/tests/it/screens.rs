//! What people see: every screen as text, data on stdout and talk on stderr.

use mesh_api::Request;
use mesh_api::request::OrderRequest;

use crate::node::{Node, Ran};
use crate::words::{self, URL};

/// Runs a command against the played node and compares both streams.
#[track_caller]
fn check(line: &str, stdout: &str, stderr: &str) {
    let ran = Node::playing(words::well).run(line);
    assert_eq!(ran.stdout, stdout, "stdout of {line}");
    assert_eq!(ran.stderr, stderr, "stderr of {line}");
    assert_eq!(ran.code, 0);
}

#[test]
fn order_ticks_off_its_steps_and_prints_where_the_service_is() {
    check(
        "order postgres --name crm-db",
        "  postgresql://crm:…@[fd73::7]:5432/crm     [fd73::7]:5432\n",
        "  ✔ planned: library-1 (0.12 EUR/month, 3 ms)   ✔ reserved   ✔ awarded   \
         ✔ software ready   \
         ✔ started   ✔ promises hold     1.4 s   (safe: 3 copies)\n\
         hint: with its password: meshctl show crm-db --field url\n",
    );
}

#[test]
fn quiet_order_prints_data_only() {
    check(
        "order postgres -q",
        "  postgresql://crm:…@[fd73::7]:5432/crm     [fd73::7]:5432\n",
        "",
    );
}

#[test]
fn plan_shows_candidates_and_refusals() {
    let stdout = "NODE       ORG      PRICE           RTT   REASON\n\
                  library-1  library  0.12 EUR/month  3 ms  cheapest\n\
                  refused:\n  attic  128 MiB free\n";
    let stderr = "hint: carry it out: meshctl order postgres --name crm-db --plan-token p-7\n";
    check("plan postgres --name crm-db", stdout, stderr);
    check("order postgres --name crm-db --plan", stdout, stderr);
}

#[test]
fn every_option_of_an_order_reaches_the_node() {
    let node = Node::playing(words::well);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "a b\n").unwrap();
    let mut command = node.command(
        "order postgres --name crm-db -s database=crm --set motto=a=b --node library-1 \
         --org library --memory 1G --cpu 0.5 --disk 2G --max-price 0.2EUR/month --plan-token p-7 \
         --allow mesh --allow org:attic",
    );
    command
        .arg("--set-file")
        .arg(format!("password={}", file.display()));
    assert_eq!(Ran::of(command).code, 0);
    let pairs = [("database", "crm"), ("motto", "a=b"), ("password", "a b")];
    let expect = OrderRequest {
        name: Some("crm-db".parse().unwrap()),
        parameters: pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        node: Some("library-1".parse().unwrap()),
        org: Some("library".parse().unwrap()),
        memory_mib: Some(1024),
        cpu_millis: Some(500),
        disk_mib: Some(2048),
        price_cap: Some("0.2EUR/month".parse().unwrap()),
        allow: ["mesh", "org:attic"].map(|one| one.parse().unwrap()).into(),
        plan_only: false,
        plan: Some("p-7".into()),
        ..OrderRequest::of("postgres".parse().unwrap())
    };
    assert_eq!(node.asked(), [Request::Order(Box::new(expect))]);
}

#[test]
fn ps_lists_ours_and_what_runs_here() {
    let url = "postgresql://crm:…@[fd73::7]:5432/crm";
    let screen = format!(
        "\
NAME    RECIPE    STATE  NODE       ORG      PRICE           DNS NAME                     URL
crm-db  postgres  ready  library-1  library  0.12 EUR/month  crm-db.bakery.mesh.internal  {url}

running here for others and ourselves
NAME  RECIPE  STATE    CUSTOMER  MEMORY   RESTARTS  SINCE                 ADDRESS
wiki  wiki    stopped  library   512 MiB  0         2026-11-23T06:00:00Z  fd73::8
"
    );
    check("ps", &screen, "");
    check("ls", &screen, "");
}

#[test]
fn show_tells_everything_and_hides_passwords() {
    let order = "07".repeat(32);
    let screen = format!(
        "\
name         crm-db
recipe       postgres
state        ready: every promise holds
node         library-1 (library)
price        0.12 EUR/month, 0.000046 EUR so far
ordered      2026-11-23T06:00:00Z
ready        2026-11-23T06:00:00Z
order        {order}
safety       safe: 3 copies (bakery-1, bakery-2, library-1)
address      fd73::7
allowed      bakery, library
dns name     crm-db.bakery.mesh.internal
host         fd73::7
overlay_url  postgresql://crm:…@[fd73::7]:5432/crm
password     …
port         5432
url          postgresql://crm:…@[fd73::7]:5432/crm
user         crm

attempts
  1  attic      2026-11-23T06:00:00Z  refused: memory is full
  2  library-1  2026-11-23T06:00:00Z  granted
"
    );
    check("show crm-db", &screen, "");
    let open = screen
        .replace("password     …", "password     s3cret")
        .replace(":…@", ":s3cret@");
    check("show crm-db --reveal", &open, "");
}

#[test]
fn one_field_is_printed_as_it_is() {
    check("show crm-db --field url", &format!("{URL}\n"), "");
    check("show crm-db -f password", "s3cret\n", "");
    check("show crm-db --field node --json", "library-1\n", "");
}

#[test]
fn state_changes_say_what_is_now_true() {
    check(
        "stop crm-db",
        "crm-db is stopped\n",
        "  ✔ stopped     312 ms\nhint: to undo it: meshctl start crm-db\n",
    );
    check(
        "start crm-db",
        "crm-db is running\n",
        "  ✔ started     312 ms\n",
    );
    check(
        "destroy crm-db --yes",
        "crm-db is destroyed\n",
        "  ✔ destroyed     312 ms\n",
    );
}

#[test]
fn logs_are_passed_on_as_they_come() {
    check("logs crm-db", "starting\nlistening\n", "");
    check("logs -f crm-db --bytes 10", "starting\nlistening\n", "");
}

#[test]
fn invites_are_data_and_the_next_step_is_talk() {
    check(
        "member invite --role node",
        "mesh-invite-abc\n",
        "hint: on the new machine: meshnode join INVITE && meshnode start   \
         (once, until 2026-11-23T06:00:00Z)\n",
    );
    check(
        "org invite --sell postgres=0.12EUR/month --credit 10EUR",
        "mesh-agreement-abc\n",
        "hint: at the other organisation: meshctl org accept AGREEMENT   \
         (until 2026-11-23T06:00:00Z)\n",
    );
}

#[test]
fn agreements_show_their_terms() {
    let screen = "\
SELLER   BUYER   SELLS                    CREDIT     OWED          SETTLED IN  SINCE
library  bakery  postgres 0.12 EUR/month  10.00 EUR  0.000046 EUR  14 d        2026-11-23T06:00:00Z
";
    check("agreement ls", screen, "");
    check(
        "org accept mesh-agreement-abc",
        screen,
        "hint: try: meshctl order postgres\n",
    );
}

#[test]
fn members_and_organisations_are_listed() {
    let ran = Node::playing(words::well).run("member ls");
    assert!(ran.stdout.starts_with(
        "NAME      ROLE    CONNECTED  VALID UNTIL           KEY\n\
         bakery-1  master  yes        2026-11-23T06:00:00Z  "
    ));
    assert_eq!(ran.stderr, "invites open: 1\n");
    let ran = Node::playing(words::well).run("org ls");
    assert!(ran.stdout.starts_with(
        "NAME     RELATION     NODES  KEY\n\
         bakery   ours         2      "
    ));
    assert!(ran.stdout.contains("\nlibrary  sells to us  2      "));
}

#[test]
fn offers_and_recipes_are_listed() {
    check(
        "offer ls",
        "\
RECIPE    NODE       ORG      PRICE           MEMORY FREE  CORES FREE  DISK FREE  CONNECTED
postgres  library-1  library  0.12 EUR/month  6 GiB        3.5         19.5 GiB   yes
",
        "",
    );
    check(
        "recipe ls",
        "\
NAME      MEMORY   CORES  DISK   CACHED  PARAMETERS                    SUMMARY
postgres  256 MiB  0.5    1 GiB  yes     database=app password owner!  \
PostgreSQL 15, a relational database
",
        "",
    );
}

#[test]
fn usage_is_listed_in_three_ways() {
    let screen = "\
NAME    PROVIDER  CUSTOMER  NODE       SEQ  UNTIL                 SPAN    CPU    MEMORY  DISK    \
IN       OUT    COST
crm-db  library   bakery    library-1  3    2026-11-23T07:00:00Z  60 min  1.2 s  48 MiB  60 MiB  \
2.0 KiB  900 B  0.000167 EUR
";
    check("usage", screen, "");
    check("usage ls crm-db", screen, "");
    check("usage --now crm-db", screen, "");
    let node = Node::playing(words::well);
    node.run("usage --now crm-db");
    assert_eq!(
        node.asked(),
        [Request::UsageNow {
            name: Some("crm-db".parse().unwrap())
        }]
    );
}

#[test]
fn invoice_shows_its_lines_and_verifies() {
    let screen = format!(
        "\
invoice   library-2026-11 (draft, revision 2)
provider  library
customer  bakery
month     2026-11
issued    2026-11-23T06:00:00Z
digest    {}

NAME    RECIPE    NODE       FROM                  UNTIL                 USAGE  PRICE           \
AMOUNT
crm-db  postgres  library-1  2026-11-23T06:00:00Z  2026-11-23T07:00:00Z  1..3   0.12 EUR/month  \
0.000167 EUR

total  0.000167 EUR
",
        "06".repeat(32)
    );
    check("invoice show library-2026-11", &screen, "");
    check("invoice show", &screen, "");
    check(
        "invoice ls",
        "\
NUMBER           PROVIDER  CUSTOMER  MONTH    STATE  LINES  TOTAL
library-2026-11  library   bakery    2026-11  draft  1      0.000167 EUR
",
        "",
    );
    check(
        "invoice verify",
        "  ✔  signatures  4 of 4 match\n  ✔  total       0.000167 EUR from 3 statements\n\
         library-2026-11 holds\n",
        "",
    );
}

#[test]
fn ledger_heads_and_verdict_are_shown() {
    check(
        "ledger heads",
        "\
DOCUMENT                   SEQ  RECORDS  HEAD
outbox bakery-1 → library  7    4        0123456789ab
",
        "",
    );
    check(
        "ledger verify",
        "  ✔  signatures  4 of 4 match\n  ✔  total       0.000167 EUR from 3 statements\n\
         ledger holds\n",
        "",
    );
}

#[test]
fn status_starts_with_the_network_and_ends_with_health() {
    let ran = Node::playing(words::well).run("status");
    let key = ran
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("key       "))
        .unwrap();
    let url = "postgresql://crm:…@[fd73::7]:5432/crm";
    let expect = format!(
        "\
network   bakery
node      bakery-1 (bakery, master)
address   fd6d::1
key       {key}
up        3 min, version 0.1.0
leader    bakery-1 (term 1); this node votes
services  reached by overlay address, SOCKS proxy 127.0.0.1:1080, `meshnode shell`
names     3 answered at 127.0.0.153:53; at the usual port
router    UDP 203.0.113.7:41641 leads to 41641 here; mapped by 192.168.1.1 (pcp)
ledger    1 documents, 4 records, journal at 42

peers
  NAME       ORG      CONNECTED  LINK  BY              RTT   SILENT  ENDPOINT         ADDRESS
  library-1  library  yes        up    stream: no udp  3 ms  850 ms  192.0.2.7:51820  fd6d::2

services ordered
  NAME    RECIPE    STATE  NODE       ORG      PRICE           DNS NAME                     URL
  crm-db  postgres  ready  library-1  library  0.12 EUR/month  crm-db.bakery.mesh.internal  {url}

refused
  2  foreign-org

packets dropped
  7  denied

health
  ok    clock     within 1 s of every peer
  warn  root key  it lies on this machine
                  hint: move it offline
"
    );
    assert_eq!(ran.stdout, expect);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
}

#[test]
fn node_is_found_at_the_end_of_a_long_path() {
    let ran = Node::far_away(words::well).run("show crm-db --field url");
    assert_eq!((ran.code, ran.stdout), (0, format!("{URL}\n")));
}
