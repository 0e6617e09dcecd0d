//! The program `flanneld`: flags in, exit status out.

#![forbid(unsafe_code)]

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use flanneld::app::{self, Settings};
use flanneld::args::{Args, Invocation};
use flanneld::cleanup::Cleanup;
use flanneld::doctor::Doctor;
use flanneld::install::{Install, InstallError, Uninstall};
use flanneld::logging::{self, Repeated};
use flanneld::status::command::{PlanCommand, Status};
use flanneld::store::etcd::{EtcdConfig, EtcdStore, Secret};
use flanneld::store::kube::{KubeAccess, KubeConfig, KubeStore, NodeName};
use flanneld::store::{LeaseStore, StoreError};
use flanneld::trace::TraceCommand;
use tokio::runtime::Runtime;
use tracing::{error, info, warn};

/// The daemon could not do its work.
const FAILED: u8 = 1;
/// The flags are wrong; starting again with the same ones does not help.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let words: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    // Whatever is not the name of a command is a flag of the daemon, as with flannel.
    match words.first().map(String::as_str) {
        Some("install-cni") => return command(&words, |install: Install, tell| install.run(tell)),
        Some("uninstall-cni") => {
            return command(&words, |uninstall: Uninstall, tell| uninstall.run(tell));
        }
        Some("cleanup") => return cleanup(&words),
        Some("status") => return question(&words, Status::run),
        Some("plan") => return question(&words, PlanCommand::run),
        Some("doctor") => return question(&words, Doctor::run),
        Some("trace") => return question(&words, TraceCommand::run),
        _ => {}
    }
    let invocation = match Invocation::read(words, variables) {
        Ok(invocation) => invocation,
        Err(error) => return misused(&error),
    };
    if invocation.args.version {
        // flannel prints it there, and scripts read it there.
        eprintln!("v{} (Loden)", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    let args = &invocation.args;
    let repeated = logging::start(args.verbosity, args.log_format);
    run(invocation, repeated)
}

/// Runs a command: what it does goes to standard output, a sentence a line.
fn command<C: Parser>(
    words: &[String],
    run: impl FnOnce(C, &mut dyn FnMut(String)) -> Result<(), InstallError>,
) -> ExitCode {
    let command = match C::try_parse_from(words) {
        Ok(command) => command,
        Err(error) => return misused(&error),
    };
    let mut out = std::io::stdout();
    // What is done is done, also when nobody listens any more.
    let mut tell = |sentence: String| drop(writeln!(out, "{sentence}"));
    match run(command, &mut tell) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(FAILED)
        }
    }
}

/// Runs a command that only looks; what it finds decides the exit status.
fn question<C: Parser>(words: &[String], run: impl FnOnce(&C) -> u8) -> ExitCode {
    match C::try_parse_from(words) {
        Ok(command) => ExitCode::from(run(&command)),
        Err(error) => misused(&error),
    }
}

fn cleanup(words: &[String]) -> ExitCode {
    let cleanup = match Cleanup::try_parse_from(words) {
        Ok(cleanup) => cleanup,
        Err(error) => return misused(&error),
    };
    let mut out = std::io::stdout();
    let mut tell = |sentence: String| drop(writeln!(out, "{sentence}"));
    match cleanup.run(&mut tell) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(if error.is_not_allowed() {
                USAGE
            } else {
                FAILED
            })
        }
    }
}

/// Shows what clap has to say: help that was asked for, or what is wrong with the flags.
fn misused(error: &clap::Error) -> ExitCode {
    // Nobody is there to be told when the terminal is gone.
    let _ = error.print();
    if error.use_stderr() {
        ExitCode::from(USAGE)
    } else {
        ExitCode::SUCCESS
    }
}

fn run(invocation: Invocation, repeated: Repeated) -> ExitCode {
    info!("Loden flanneld {}", env!("CARGO_PKG_VERSION"));
    for warning in &invocation.warnings {
        warn!("{warning}");
    }
    let args = &invocation.args;
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            error!("the system gives no threads or file descriptors: {error}");
            return ExitCode::from(FAILED);
        }
    };
    runtime.spawn(repeated.sum_up());
    let settings = Settings::from_args(args);
    if args.kube_subnet_mgr {
        let store = kube_config(args).and_then(KubeStore::new);
        serve(&runtime, settings, store)
    } else {
        serve(&runtime, settings, EtcdStore::new(etcd_config(args)))
    }
}

fn serve<S: LeaseStore>(
    runtime: &Runtime,
    settings: Settings,
    store: Result<S, StoreError>,
) -> ExitCode {
    let store = match store {
        Ok(store) => store,
        Err(error) => {
            error!("{error}");
            return ExitCode::from(USAGE);
        }
    };
    match runtime.block_on(app::run(settings, store)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error}");
            ExitCode::from(FAILED)
        }
    }
}

fn kube_config(args: &Args) -> Result<KubeConfig, StoreError> {
    let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    Ok(KubeConfig {
        access: KubeAccess {
            api_url: given(&args.kube_api_url),
            kubeconfig: given(&args.kubeconfig_file).map(PathBuf::from),
            node: NodeName::from_variables(|name| std::env::var(name).ok())?,
        },
        net_conf: args.net_config_path.clone(),
        prefix: args.kube_annotation_prefix.clone(),
        set_condition: args.set_node_network_unavailable,
    })
}

fn etcd_config(args: &Args) -> EtcdConfig {
    let file = |text: &str| Some(PathBuf::from(text)).filter(|path| !path.as_os_str().is_empty());
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    EtcdConfig {
        endpoints: args.etcd_endpoints.clone(),
        prefix: args.etcd_prefix.clone(),
        ca_file: file(&args.etcd_cafile),
        cert_file: file(&args.etcd_certfile),
        key_file: file(&args.etcd_keyfile),
        username: text(&args.etcd_username),
        password: text(&args.etcd_password).map(Secret::new),
        renew_margin: Duration::from_secs(60 * u64::from(args.subnet_lease_renew_margin)),
        ..EtcdConfig::default()
    }
}
