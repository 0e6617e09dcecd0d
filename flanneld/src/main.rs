//! The program `flanneld`: flags in, exit status out.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use flanneld::app::{self, Settings};
use flanneld::args::{Args, Invocation};
use flanneld::logging;
use flanneld::store::etcd::{EtcdConfig, EtcdStore, Secret};
use tracing::{error, info, warn};

/// The daemon could not do its work.
const FAILED: u8 = 1;
/// The flags are wrong; starting again with the same ones does not help.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let words = std::env::args_os()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned());
    let invocation = match Invocation::read(words, variables) {
        Ok(invocation) => invocation,
        Err(error) => {
            // Nobody is there to be told when the terminal is gone.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    if invocation.args.version {
        // flannel prints it there, and scripts read it there.
        eprintln!("v{} (Loden)", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    logging::start(invocation.args.verbosity);
    run(invocation)
}

fn run(invocation: Invocation) -> ExitCode {
    info!("Loden flanneld {}", env!("CARGO_PKG_VERSION"));
    for warning in &invocation.warnings {
        warn!("{warning}");
    }
    let args = &invocation.args;
    if args.kube_subnet_mgr {
        error!(
            "--kube-subnet-mgr is not there yet in this version; leases come from etcd (--etcd-endpoints)"
        );
        return ExitCode::from(USAGE);
    }
    if args.healthz_port != 0 {
        warn!(
            "--healthz-port is not there yet in this version: nothing answers on port {}",
            args.healthz_port
        );
    }
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
    let store = match EtcdStore::new(etcd_config(args)) {
        Ok(store) => store,
        Err(error) => {
            error!("{error}");
            return ExitCode::from(USAGE);
        }
    };
    match runtime.block_on(app::run(Settings::from_args(args), store)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error}");
            ExitCode::from(FAILED)
        }
    }
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
