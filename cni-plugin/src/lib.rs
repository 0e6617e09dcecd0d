//! The CNI program `flannel` of Loden as a library.
//!
//! A call runs left to right: [`protocol`] turns environment and stdin into a request, [`request`] and [`flannel_conf`]
//! find out what attachment is meant, [`verbs`] carry it out by putting an [`attachment`] plan into the kernel
//! ([`connect`]), and [`protocol`] turns the outcome into JSON. Blocking and single-threaded: the process lives for a
//! millisecond. Work of other plugins is done by these, as separate programs ([`foreign`]).
//!
//! # The config
//!
//! That of flannel's own plugin, unchanged; `delegate.type` chooses the attachment:
//!
//! | `delegate.type` | attachment |
//! | --- | --- |
//! | absent, `bridge` | a port of the bridge `cni0` ([`attachment::bridge`]), as flannel does it |
//! | `ptp` | routed: a host route per pod and no bridge ([`attachment::routed`]) |
//! | any other | what the plugin of this name makes, found in `CNI_PATH` ([`delegated`]) |
//!
//! The first two mean the same to flannel's plugin and the reference plugins, so a config written for one works with the
//! other. The pod gets the routes of `ipam.routes` and one to each flannel network. `delegate.isDefaultGateway` adds the
//! default route: as with flannel it is off for a bridge unless given; routed pods have it unless it is `false` (the
//! reference plugin `ptp` does not know the key and wants `{"dst": "0.0.0.0/0"}` in `ipam.routes`). `ipam.dataDir` is
//! where reservations are kept; without it, in [`ipam::pool::DEFAULT_DIRECTORY`]. They are noted a second time where the
//! reference plugin `host-local` would have them ([`mirror`]). With an `ipam.type` other than `host-local` that plugin is
//! asked for the addresses ([`addresses`]). What flannel's plugin would tell its delegate is left where it would have left
//! it ([`scratch`]), so that a node can be switched from the one plugin to the other in both directions.
//!
//! Masquerading is the daemon's: `flanneld --ip-masq` keeps static rules for the whole host and says so in subnet.env; a
//! `delegate.ipMasq` is then fulfilled by those. Only without `--ip-masq` this program has rules of its own, static too
//! ([`masquerade`]).
//!
//! # What is counted
//!
//! Each call ends by leaving its verb, its code and how long it took in [`ipam::operations`], where the daemon finds it.
//!
//! # Other names
//!
//! Started as `bridge`, `ptp`, `host-local`, `loopback` or `portmap` the program is that reference plugin ([`personas`]).

#![forbid(unsafe_code)]

pub mod addresses;
pub mod attachment;
pub mod connect;
pub mod deadline;
pub mod delegated;
pub mod flannel_conf;
pub mod foreign;
mod fresh;
pub mod inherited;
pub mod masquerade;
pub mod mirror;
pub mod personas;
pub mod protocol;
pub mod request;
pub mod sandbox;
pub mod scratch;
pub mod takedown;
pub mod verbs;

use std::cell::Cell;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::process::ExitCode;
use std::time::Instant;

use ipam::operations::{self, Operations};

use crate::deadline::Deadline;
use crate::personas::Persona;
use crate::protocol::config::STDIN_MAX;
use crate::protocol::json::Object;
use crate::protocol::result::AddResult;
use crate::protocol::{Config, Error, Invocation, Request, SpecVersion, Verb};

/// One call of the program under the name it was started by: reads the environment and perhaps stdin, and writes at most one
/// JSON document to stdout. A call of the plugin `flannel` is counted in `operations`.
pub fn run(
    program: Option<OsString>,
    environment: impl Fn(&str) -> Option<OsString>,
    stdin: impl Read,
    mut stdout: impl Write,
    mut stderr: impl Write,
    operations: &Operations,
) -> ExitCode {
    let persona = Persona::of(program.as_deref());
    let count = Count {
        operations: (persona == Persona::Flannel).then_some(operations),
        begin: Instant::now(),
        done: Cell::new(false),
    };
    let (verb, done) = match Invocation::from_environment(environment) {
        Ok(Some(call)) => {
            let mut config = Vec::new();
            let done = execute(persona, &call, stdin, &mut config, &mut stdout, &count);
            let done = done.map_err(|error| (error, Config::answer_version(&config)));
            (Some(call.request.verb()), done)
        }
        Ok(None) => {
            let versions = SpecVersion::list();
            let _ = writeln!(
                stderr,
                "{}\nCNI protocol versions supported: {versions}",
                persona.banner()
            );
            return ExitCode::SUCCESS;
        }
        Err(error) => (None, Err((error, SpecVersion::NEWEST))),
    };
    let code = done.as_ref().map_or_else(|(error, _)| error.code(), |()| 0);
    if let Err((error, version)) = &done {
        // Whoever closed stdout has only the exit status left.
        let _ = print(&mut stdout, &error.render(*version));
    }
    count.take(verb, code);
    if done.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The count of this call, taken once.
struct Count<'a> {
    /// None for a call that is not counted.
    operations: Option<&'a Operations>,
    begin: Instant,
    done: Cell<bool>,
}

impl Count<'_> {
    fn take(&self, verb: Option<Verb>, code: u32) {
        if let Some(operations) = self.operations
            && let Some(verb) = counted(verb)
            && !self.done.replace(true)
        {
            // A call that cannot be counted is as good as any other.
            let _ = operations.add(verb, code, self.begin.elapsed());
        }
    }
}

/// What a call is counted as; what only asks for the version is not.
fn counted(verb: Option<Verb>) -> Option<operations::Verb> {
    Some(match verb {
        Some(Verb::Add) => operations::Verb::Add,
        Some(Verb::Del) => operations::Verb::Del,
        Some(Verb::Check) => operations::Verb::Check,
        Some(Verb::Gc) => operations::Verb::Gc,
        Some(Verb::Status) => operations::Verb::Status,
        Some(Verb::Version) => return None,
        None => operations::Verb::Unknown,
    })
}

/// Carries a call out. What was read from stdin is left in `stdin_read`, for the version of an error document.
fn execute(
    persona: Persona,
    call: &Invocation,
    stdin: impl Read,
    stdin_read: &mut Vec<u8>,
    stdout: &mut impl Write,
    count: &Count<'_>,
) -> Result<(), Error> {
    let config = || {
        // One byte more than allowed shows that there is more.
        stdin
            .take(STDIN_MAX as u64 + 1)
            .read_to_end(stdin_read)
            .map_err(Error::Stdin)?;
        Config::parse(stdin_read, call.request.verb())
    };
    if call.request == Request::Version {
        return print(stdout, &verbs::version::version());
    }
    match persona {
        Persona::Flannel => flannel(call, config, stdout, count),
        Persona::Bridge | Persona::Ptp => personas::veth::run(persona, call, config, stdout),
        Persona::HostLocal => personas::host_local::run(call, &config()?, stdout),
        Persona::Loopback => personas::loopback::run(call, &config()?, stdout),
        Persona::Portmap => personas::portmap::run(call, &config()?, stdout),
    }
}

/// Carries a call to the plugin `flannel` out.
fn flannel(
    call: &Invocation,
    config: impl FnOnce() -> Result<Config, Error>,
    stdout: &mut impl Write,
    count: &Count<'_>,
) -> Result<(), Error> {
    match &call.request {
        Request::Add(target) => {
            let deadline = Deadline::of_add();
            let config = config()?;
            verbs::add::add(call, target, &config, deadline, |added| {
                tell(added, &config, stdout, || count.take(Some(Verb::Add), 0))
            })
        }
        Request::Check(target) => verbs::check::check(call, target, &config()?),
        Request::Del(target) => verbs::del::del(call, target, &config()?, Deadline::of_del()),
        Request::Gc => verbs::gc::gc(call, &config()?),
        Request::Status => verbs::status::status(call, &config()?),
        Request::Version => print(stdout, &verbs::version::version()),
    }
}

/// What an ADD has made, as long as it can be taken back.
trait Made {
    /// What to tell the runtime.
    fn result(&self) -> &AddResult;

    /// Takes it back.
    fn undo(self) -> Result<(), Error>;

    /// Notes that the runtime knows of it.
    fn told(&self) {}
}

/// Tells the runtime of what was made. What it was not told it cannot make use of, so then it is taken back.
///
/// `between` is done before the note that the runtime was told, which has to be the last thing that happens: a call that is
/// killed after it would leave an attachment that nobody asks for.
fn tell(
    made: impl Made,
    config: &Config,
    stdout: &mut impl Write,
    between: impl FnOnce(),
) -> Result<(), Error> {
    let told = made
        .result()
        .render(config.version)
        .and_then(|document| print(stdout, &document));
    if let Err(error) = told {
        return Err(error.after_undoing(made.undo()));
    }
    between();
    made.told();
    // The process ends now, and the kernel closes everything at once.
    std::mem::forget(made);
    Ok(())
}

fn print(stdout: &mut impl Write, document: &Object) -> Result<(), Error> {
    let mut text = serde_json::to_vec(document).map_err(|error| Error::Stdout(error.into()))?;
    text.push(b'\n');
    stdout
        .write_all(&text)
        .and_then(|()| stdout.flush())
        .map_err(Error::Stdout)
}
