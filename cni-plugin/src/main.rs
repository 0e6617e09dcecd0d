//! The program `flannel`: called by container runtimes, by the CNI protocol. Under another name it is another plugin.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::{env, io};

fn main() -> ExitCode {
    cni_plugin::run(
        env::args_os().next(),
        |name| env::var_os(name),
        io::stdin().lock(),
        io::stdout().lock(),
        io::stderr().lock(),
        &ipam::operations::Operations::default(),
    )
}
