//! `muttd setup-link`: a way into the web UI for whoever may write the data directory.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::admin::issue_setup_token;
use crate::clock::Clock;

/// Arguments of `muttd setup-link`.
#[derive(Debug, Args)]
pub struct SetupLinkArgs {
    /// Data directory of the appliance, which may be running.
    #[arg(long, value_name = "DIR", env = "MUTTD_DATA")]
    data: PathBuf,
    /// Address of the web UI as the browser will reach it.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8090")]
    url: String,
}

/// Prints the link.
pub async fn run(args: SetupLinkArgs) -> anyhow::Result<ExitCode> {
    let token = issue_setup_token(&args.data, Clock::system().now()).await?;
    println!("Open this within an hour to set the password of `admin`; it works once:");
    println!("  {}/setup?token={token}", args.url.trim_end_matches('/'));
    Ok(ExitCode::SUCCESS)
}
