//! The real programs, driven from outside: homes on one machine or on a street of namespaces.
//!
//! Knows the programs only as a user does: their command lines, their screens, their exit codes.
//! Nothing here imports a crate of the product, so that no test can pass by sharing its mistakes.
//!
//! | room | idea |
//! |---|---|
//! | [`said`] | one command: what was typed, what it answered, how long it took |
//! | [`home`] | one machine with its node: settings, start, stop, logs |
//! | [`transcript`] | the first order from end to end, as the README tells it |
//! | [`lab`] | homes in network namespaces of their own, joined by a street that can be cut |
//! | [`cables`] | the same homes in a line, a ring, a diamond |
//! | [`nat`], [`nat_rules`] | kinds of home routers, and what they do to packets |
//! | [`nat_router`] | such routers between homes and an Internet |
//! | [`nat_mesh`] | nodes behind them, in one mesh |
//! | [`nat_look`] | what such a router does, seen from both sides of it (RFC 5780) |
//! | [`link`], [`too_big`] | what a slow, lossy, narrow line does to packets |
//! | [`mod@line`], [`tunnel`] | such a line between two namespaces |
//! | [`inside`] | work done in another namespace, by the test itself or by a program |
//! | [`pulse`] | pings whose gaps tell how long a network was broken |
//! | [`tap`] | hears every frame at a home, and looks for what must not be seen |
//! | [`ground`] | which namespaces and which user a test runs under |
//! | [`relay`] | leads a program that knows no proxy through one |
//! | [`probe`] | knocks at doors, in whatever namespace, and answers knocks |
//! | [`yard`] | routers in network namespaces, joined by cables |
//! | [`routers`] | ours, babeld and BIRD on such a yard |
//! | [`upnp`] | a home behind a router with Debian's miniupnpd |
//! | [`hand`] | a Babel router made by hand, for packets that nobody sends |
//! | [`runner`] | picks, starts, bounds and reports tests |
//! | [`hunt`], [`syscalls`] | kills a daemon, a shim or both at a chosen system call |
//! | [`processes`], [`footprint`] | what runs here, and what was left behind |
//! | [`calls`], [`plate`] | what a program did to its files, and what a power cut leaves of it |
//! | [`local_api`] | asks a node without a program in between |
//! | [`chance`] | draws from a seed |
//! | [`figures`] | what a test measured, told to the scoreboard |
//! | [`until`] | the only place that waits |

pub mod cables;
pub mod calls;
pub mod chance;
pub mod figures;
pub mod footprint;
pub mod ground;
pub mod hand;
pub mod home;
pub mod hunt;
pub mod inside;
pub mod lab;
pub mod line;
pub mod link;
pub mod local_api;
pub mod nat;
pub mod nat_look;
pub mod nat_mesh;
pub mod nat_router;
pub mod nat_rules;
pub mod plate;
pub mod probe;
pub mod processes;
pub mod pulse;
pub mod relay;
pub mod routers;
pub mod runner;
pub mod said;
pub mod syscalls;
pub mod tap;
pub mod too_big;
pub mod transcript;
pub mod tunnel;
pub mod until;
pub mod upnp;
pub mod yard;
