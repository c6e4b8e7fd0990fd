//! The written form of a recipe and the way from it to [`crate::recipe::Recipe`].
//!
//! Decides keys, defaults and ranges; unknown keys are errors. Every fault carries the line.

use std::collections::BTreeMap;

use mesh_base::digest::Digest;
use serde::Deserialize;
use toml::Spanned;

use crate::parameter::{Format, Kind, Parameter};
use crate::promise;
use crate::recipe::{
    Command, Debian, Limits, PromiseSpec, RECIPE_LEN_MAX, ReadyFile, Recipe, SUPPLIED, Signal,
    Source, Stop, Tree, User,
};
use crate::sparing::{self, Fault};
use crate::template::{Template, TemplateError, is_value_name};

/// Why a text is not a recipe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// Not TOML, a key that does not exist, or a value of another type.
    #[error("line {line}: {message}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// What the reader said.
        message: String,
    },
    /// A text with holes is malformed.
    #[error("line {line}: {source}")]
    Template {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        source: TemplateError,
    },
    /// A hole names something that has no value there.
    #[error("line {line}: \"{name}\" has no value here{}", hint(.nearest))]
    NoValue {
        /// Counted from 1.
        line: usize,
        /// The name.
        name: String,
        /// The nearest name that has one.
        nearest: Option<String>,
    },
    /// A value is outside what is accepted.
    #[error("line {line}: {key} must be {expected}")]
    Value {
        /// Counted from 1.
        line: usize,
        /// Which key.
        key: String,
        /// What is accepted, in words.
        expected: &'static str,
    },
    /// The text is longer than any recipe.
    #[error("a recipe has at most {max} bytes, this text has {len}")]
    Long {
        /// Bytes that came.
        len: usize,
        /// Bytes that may come.
        max: usize,
    },
    /// The text is hardly anything but marks.
    #[error("a recipe has words between its marks, this text has {pieces} pieces in {len} bytes")]
    Dense {
        /// Bytes that came.
        len: usize,
        /// Brackets, dots, words, spaces and strings in them.
        pieces: usize,
    },
}

fn hint(nearest: &Option<String>) -> String {
    nearest
        .as_ref()
        .map(|name| format!("; did you mean \"{name}\"?"))
        .unwrap_or_default()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireRecipe {
    name: Spanned<String>,
    title: String,
    version: String,
    description: String,
    runbook: String,
    data: Spanned<String>,
    run: Spanned<Vec<Spanned<String>>>,
    source: WireSource,
    #[serde(default)]
    tree: WireTree,
    user: WireUser,
    #[serde(default)]
    prepare: Vec<WireCommand>,
    #[serde(default)]
    files: BTreeMap<Spanned<String>, Spanned<String>>,
    #[serde(default)]
    env: BTreeMap<String, Spanned<String>>,
    ready: Option<WireReady>,
    #[serde(default)]
    init: Vec<WireCommand>,
    stop: WireStop,
    #[serde(default)]
    ports: BTreeMap<Spanned<String>, Spanned<u16>>,
    limits: WireLimits,
    #[serde(default)]
    parameters: BTreeMap<Spanned<String>, WireParameter>,
    #[serde(default)]
    publishes: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    promises: BTreeMap<String, WirePromise>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSource {
    kind: WireSourceKind,
    suite: Spanned<String>,
    packages: Spanned<Vec<Spanned<String>>>,
    #[serde(default)]
    without: Vec<Spanned<String>>,
    #[serde(default)]
    drop: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum WireSourceKind {
    Debian,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct WireTree {
    folders: Vec<Spanned<String>>,
    links: BTreeMap<Spanned<String>, String>,
    passwd: Vec<String>,
    group: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireUser {
    uid: Spanned<u32>,
    gid: Spanned<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireCommand {
    argv: Spanned<Vec<Spanned<String>>>,
    stdin: Option<Spanned<String>>,
    #[serde(default = "a_minute")]
    timeout_ms: u32,
}

fn a_minute() -> u32 {
    60_000
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireReady {
    file: Spanned<String>,
    contains: String,
    #[serde(default = "a_minute")]
    timeout_ms: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireStop {
    signal: WireSignal,
    grace_ms: u32,
}

#[derive(Deserialize)]
enum WireSignal {
    #[serde(rename = "SIGTERM")]
    Term,
    #[serde(rename = "SIGINT")]
    Interrupt,
    #[serde(rename = "SIGQUIT")]
    Quit,
    #[serde(rename = "SIGHUP")]
    Hangup,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireLimits {
    memory_mib: Spanned<u32>,
    cpu_millis: Spanned<u32>,
    pids: Spanned<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireParameter {
    title: String,
    kind: Spanned<WireKind>,
    format: Option<Spanned<WireFormat>>,
    default: Option<Spanned<String>>,
    min: Option<i64>,
    max: Option<i64>,
    #[serde(default)]
    refused: Vec<String>,
    generate: Option<Spanned<usize>>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum WireKind {
    String,
    Integer,
    Secret,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum WireFormat {
    Identifier,
    Word,
    Line,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WirePromise {
    argv: Spanned<Vec<Spanned<String>>>,
    stdin: Option<Spanned<String>>,
    kind: WirePromiseKind,
    period_ms: Spanned<u32>,
    timeout_ms: u32,
    fails: Spanned<u8>,
    window: Spanned<u8>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum WirePromiseKind {
    Sense,
    Test,
    Anomaly,
}

/// Reads a recipe.
pub(crate) fn parse(text: &str) -> Result<Recipe, RecipeError> {
    let (len, max) = (text.len(), RECIPE_LEN_MAX);
    if max < len {
        return Err(RecipeError::Long { len, max });
    }
    let wire = sparing::read(text).map_err(|fault| match fault {
        Fault::Syntax { line, message } => RecipeError::Syntax { line, message },
        Fault::Dense { pieces } => RecipeError::Dense { len, pieces },
    })?;
    Reader { text }.recipe(wire)
}

/// Knows the text, so that every fault can say its line.
struct Reader<'a> {
    text: &'a str,
}

/// Which values the holes of a text may name.
struct Names(Vec<String>);

impl Reader<'_> {
    fn line(&self, at: usize) -> usize {
        sparing::line(self.text, at)
    }

    fn fault<T>(&self, at: &Spanned<T>, key: &str, expected: &'static str) -> RecipeError {
        RecipeError::Value {
            line: self.line(at.span().start),
            key: key.to_owned(),
            expected,
        }
    }

    fn recipe(&self, wire: WireRecipe) -> Result<Recipe, RecipeError> {
        let name = wire.name.get_ref().parse().map_err(|_| {
            self.fault(
                &wire.name,
                "name",
                "1 to 40 lower-case letters, digits and inner hyphens",
            )
        })?;
        let data = self.path(&wire.data, "data")?;
        let parameters = self.parameters(wire.parameters)?;
        let ports = self.ports(wire.ports)?;
        let mut recipe = Recipe {
            digest: Digest::of(self.text.replace("\r\n", "\n").as_bytes()),
            name,
            title: wire.title,
            version: wire.version,
            description: wire.description,
            runbook: wire.runbook,
            source: self.source(wire.source)?,
            tree: self.tree(wire.tree)?,
            user: self.user(&wire.user)?,
            data,
            prepare: Vec::new(),
            files: BTreeMap::new(),
            run: Vec::new(),
            env: BTreeMap::new(),
            ready: None,
            init: Vec::new(),
            stop: stop(wire.stop),
            ports,
            limits: self.limits(&wire.limits)?,
            parameters,
            publishes: BTreeMap::new(),
            promises: BTreeMap::new(),
        };
        let inside = names(&recipe, &SUPPLIED);
        let outside = names(&recipe, &["host"]);
        recipe.prepare = self.commands(wire.prepare, &Names(Vec::new()))?;
        recipe.run = self.argv(wire.run, &inside)?;
        recipe.env = self.texts(wire.env, &inside)?;
        recipe.init = self.commands(wire.init, &inside)?;
        recipe.files = self.files(wire.files, &recipe.data, &inside)?;
        recipe.ready = wire.ready.map(|ready| self.ready(ready)).transpose()?;
        recipe.promises = self.promises(wire.promises, &inside)?;
        recipe.publishes = self.texts(wire.publishes, &outside)?;
        Ok(recipe)
    }

    fn path(&self, path: &Spanned<String>, key: &str) -> Result<String, RecipeError> {
        let text = path.get_ref();
        let plain = text.strip_prefix('/').is_some_and(is_relative);
        if !plain {
            return Err(self.fault(path, key, "an absolute path without . and .. parts"));
        }
        Ok(text.clone())
    }

    fn relative(&self, path: &Spanned<String>, key: &str) -> Result<String, RecipeError> {
        if !is_relative(path.get_ref()) {
            return Err(self.fault(
                path,
                key,
                "a path relative to the root, without . and .. parts",
            ));
        }
        Ok(path.get_ref().clone())
    }

    fn source(&self, wire: WireSource) -> Result<Source, RecipeError> {
        let WireSourceKind::Debian = wire.kind;
        if wire.packages.get_ref().is_empty() {
            return Err(self.fault(&wire.packages, "packages", "at least one package"));
        }
        let suite = self.word(wire.suite, "suite")?;
        let pattern = |name| self.word(name, "a package");
        let package = |name: Spanned<String>| {
            if name.get_ref().contains('*') {
                return Err(self.fault(&name, "a package", "one name, without *"));
            }
            pattern(name)
        };
        Ok(Source::Debian(Debian {
            suite,
            packages: wire
                .packages
                .into_inner()
                .into_iter()
                .map(package)
                .collect::<Result<_, _>>()?,
            without: wire
                .without
                .into_iter()
                .map(pattern)
                .collect::<Result<_, _>>()?,
            drop: wire
                .drop
                .iter()
                .map(|path| self.relative(path, "drop"))
                .collect::<Result<_, _>>()?,
        }))
    }

    /// Package names and suites become arguments of apt: nothing that it could read as an option.
    fn word(&self, word: Spanned<String>, key: &str) -> Result<String, RecipeError> {
        let text = word.get_ref();
        let plain = text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text.chars().all(|c| {
                c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | '*')
            });
        if !plain {
            return Err(self.fault(
                &word,
                key,
                "lower-case letters, digits, plus, minus and dots",
            ));
        }
        Ok(word.into_inner())
    }

    fn tree(&self, wire: WireTree) -> Result<Tree, RecipeError> {
        let folders = wire
            .folders
            .iter()
            .map(|path| self.relative(path, "folders"));
        let links = wire.links.into_iter();
        Ok(Tree {
            folders: folders.collect::<Result<_, _>>()?,
            links: links
                .map(|(path, target)| Ok((self.relative(&path, "links")?, target)))
                .collect::<Result<_, _>>()?,
            passwd: wire.passwd,
            group: wire.group,
        })
    }

    fn user(&self, wire: &WireUser) -> Result<User, RecipeError> {
        for (key, id) in [("uid", &wire.uid), ("gid", &wire.gid)] {
            if !(1..=65_533).contains(id.get_ref()) {
                return Err(self.fault(id, key, "from 1 to 65533"));
            }
        }
        Ok(User {
            uid: *wire.uid.get_ref(),
            gid: *wire.gid.get_ref(),
        })
    }

    fn limits(&self, wire: &WireLimits) -> Result<Limits, RecipeError> {
        let all = [
            ("memory_mib", &wire.memory_mib),
            ("cpu_millis", &wire.cpu_millis),
            ("pids", &wire.pids),
        ];
        for (key, limit) in all {
            if *limit.get_ref() == 0 {
                return Err(self.fault(limit, key, "more than 0"));
            }
        }
        Ok(Limits {
            memory_mib: *wire.memory_mib.get_ref(),
            cpu_millis: *wire.cpu_millis.get_ref(),
            pids: *wire.pids.get_ref(),
        })
    }

    fn ports(
        &self,
        wire: BTreeMap<Spanned<String>, Spanned<u16>>,
    ) -> Result<BTreeMap<String, u16>, RecipeError> {
        let mut ports = BTreeMap::new();
        for (name, port) in wire {
            if !is_value_name(name.get_ref()) {
                return Err(self.fault(&name, "a port's name", "lower-case letters and digits"));
            }
            if *port.get_ref() == 0 {
                return Err(self.fault(&port, "a port", "from 1 to 65535"));
            }
            ports.insert(name.into_inner(), port.into_inner());
        }
        Ok(ports)
    }

    fn parameters(
        &self,
        wire: BTreeMap<Spanned<String>, WireParameter>,
    ) -> Result<BTreeMap<String, Parameter>, RecipeError> {
        let mut parameters = BTreeMap::new();
        for (name, parameter) in wire {
            let text = name.get_ref();
            if !is_value_name(text)
                || SUPPLIED.contains(&text.as_str())
                || text == "host"
                || text == "port"
                || text.starts_with("port_")
            {
                let expected = "a name of lower-case letters, digits and underscores that is not \
                                supplied already";
                return Err(self.fault(&name, "a parameter's name", expected));
            }
            let parameter = self.parameter(parameter)?;
            parameters.insert(name.into_inner(), parameter);
        }
        Ok(parameters)
    }

    fn parameter(&self, wire: WireParameter) -> Result<Parameter, RecipeError> {
        let kind = match (wire.kind.get_ref(), &wire.format) {
            (WireKind::String, Some(format)) => Kind::Text(match format.get_ref() {
                WireFormat::Identifier => Format::Identifier,
                WireFormat::Word => Format::Word,
                WireFormat::Line => Format::Line,
            }),
            (WireKind::String, None) => Kind::Text(Format::Word),
            (WireKind::Integer, None) => Kind::Integer,
            (WireKind::Secret, None) => Kind::Secret,
            (_, Some(format)) => {
                return Err(self.fault(format, "format", "left out unless the kind is string"));
            }
        };
        let (least, most) = if kind == Kind::Integer {
            (0, i64::MAX)
        } else {
            (1, 200)
        };
        if let Some(generate) = &wire.generate
            && (kind != Kind::Secret || !(16..=200).contains(generate.get_ref()))
        {
            return Err(self.fault(generate, "generate", "16 to 200, and only for a secret"));
        }
        let defaults = Names(vec!["name".to_owned(), "name_stem".to_owned()]);
        Ok(Parameter {
            title: wire.title,
            kind,
            default: wire
                .default
                .map(|text| self.template(text, &defaults))
                .transpose()?,
            min: wire.min.unwrap_or(least),
            max: wire.max.unwrap_or(most),
            refused: wire.refused,
            generate: wire.generate.map(Spanned::into_inner),
        })
    }

    fn template(&self, text: Spanned<String>, names: &Names) -> Result<Template, RecipeError> {
        let line = self.line(text.span().start);
        let template = Template::parse(text.get_ref())
            .map_err(|source| RecipeError::Template { line, source })?;
        for name in template.names() {
            if !names.0.iter().any(|known| known == name) {
                let nearest = crate::parameter::nearest(name, names.0.iter());
                return Err(RecipeError::NoValue {
                    line,
                    name: name.to_owned(),
                    nearest,
                });
            }
        }
        Ok(template)
    }

    fn texts(
        &self,
        wire: BTreeMap<String, Spanned<String>>,
        names: &Names,
    ) -> Result<BTreeMap<String, Template>, RecipeError> {
        wire.into_iter()
            .map(|(key, text)| Ok((key, self.template(text, names)?)))
            .collect()
    }

    fn files(
        &self,
        wire: BTreeMap<Spanned<String>, Spanned<String>>,
        data: &str,
        names: &Names,
    ) -> Result<BTreeMap<String, Template>, RecipeError> {
        let mut files = BTreeMap::new();
        for (path, text) in wire {
            let inside = self.path(&path, "a file's path")?;
            if !inside
                .strip_prefix(data)
                .is_some_and(|rest| rest.starts_with('/'))
            {
                return Err(self.fault(&path, "a file's path", "inside the data folder"));
            }
            files.insert(inside, self.template(text, names)?);
        }
        Ok(files)
    }

    fn argv(
        &self,
        wire: Spanned<Vec<Spanned<String>>>,
        names: &Names,
    ) -> Result<Vec<Template>, RecipeError> {
        let program = wire
            .get_ref()
            .first()
            .map(|program| program.get_ref().as_str());
        if !program.is_some_and(|program| program.starts_with('/')) {
            return Err(self.fault(&wire, "the program", "an absolute path"));
        }
        wire.into_inner()
            .into_iter()
            .map(|text| self.template(text, names))
            .collect()
    }

    fn command(&self, wire: WireCommand, names: &Names) -> Result<Command, RecipeError> {
        Ok(Command {
            argv: self.argv(wire.argv, names)?,
            stdin: wire
                .stdin
                .map(|text| self.template(text, names))
                .transpose()?,
            timeout_ms: wire.timeout_ms,
        })
    }

    fn commands(&self, wire: Vec<WireCommand>, names: &Names) -> Result<Vec<Command>, RecipeError> {
        wire.into_iter()
            .map(|command| self.command(command, names))
            .collect()
    }

    fn ready(&self, wire: WireReady) -> Result<ReadyFile, RecipeError> {
        Ok(ReadyFile {
            path: self.path(&wire.file, "file")?,
            contains: wire.contains,
            timeout_ms: wire.timeout_ms,
        })
    }

    fn promises(
        &self,
        wire: BTreeMap<String, WirePromise>,
        names: &Names,
    ) -> Result<BTreeMap<String, PromiseSpec>, RecipeError> {
        wire.into_iter()
            .map(|(name, promise)| Ok((name, self.promise(promise, names)?)))
            .collect()
    }

    fn promise(&self, wire: WirePromise, names: &Names) -> Result<PromiseSpec, RecipeError> {
        let (fails, window) = (*wire.fails.get_ref(), *wire.window.get_ref());
        if !(1..=16).contains(&window) {
            return Err(self.fault(&wire.window, "window", "from 1 to 16"));
        }
        if !(1..=window).contains(&fails) {
            return Err(self.fault(&wire.fails, "fails", "from 1 to the window"));
        }
        if *wire.period_ms.get_ref() < 100 {
            return Err(self.fault(&wire.period_ms, "period_ms", "at least 100"));
        }
        let timeout_ms = wire.timeout_ms;
        let command = WireCommand {
            argv: wire.argv,
            stdin: wire.stdin,
            timeout_ms,
        };
        Ok(PromiseSpec {
            command: self.command(command, names)?,
            kind: match wire.kind {
                WirePromiseKind::Sense => promise::Kind::Sense,
                WirePromiseKind::Test => promise::Kind::Test,
                WirePromiseKind::Anomaly => promise::Kind::Anomaly,
            },
            period_ms: *wire.period_ms.get_ref(),
            fails,
            window,
        })
    }
}

fn is_relative(path: &str) -> bool {
    let parts = path.split('/');
    path.len() <= 400
        && parts
            .into_iter()
            .all(|part| !matches!(part, "" | "." | ".."))
}

fn names(recipe: &Recipe, supplied: &[&str]) -> Names {
    let parameters = recipe.parameters.keys().cloned();
    let ports = recipe.port_values().into_keys();
    Names(
        parameters
            .chain(ports)
            .chain(supplied.iter().map(|name| (*name).to_owned()))
            .collect(),
    )
}

fn stop(wire: WireStop) -> Stop {
    let signal = match wire.signal {
        WireSignal::Term => Signal::Term,
        WireSignal::Interrupt => Signal::Interrupt,
        WireSignal::Quit => Signal::Quit,
        WireSignal::Hangup => Signal::Hangup,
    };
    Stop {
        signal,
        grace_ms: wire.grace_ms,
    }
}
