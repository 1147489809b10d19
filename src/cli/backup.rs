//! `muttd backup` and `muttd restore`: an archive of a running appliance's configuration, whether one is whole, and putting it
//! into a data directory that no process uses.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::json;

use super::api::{Api, ApiArgs};
use crate::admin::{Manifest, restore as restore_into, verify_backup};
use crate::clock::Clock;

/// Arguments of `muttd backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    #[command(flatten)]
    api: ApiArgs,
    #[command(subcommand)]
    command: BackupCommand,
}

#[derive(Debug, Subcommand)]
enum BackupCommand {
    /// Take a backup of a running appliance.
    Create {
        /// Where it is written; it must not be there yet.
        file: PathBuf,
        /// With secrets.toml and the appliance's own TLS key: keep the file as safe as those.
        #[arg(long)]
        secrets: bool,
        /// With the event audit.
        #[arg(long)]
        audit: bool,
        /// Why, for the change log.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Check that a backup is whole and its change log as it was written.
    Verify {
        /// The backup.
        file: PathBuf,
    },
}

/// Arguments of `muttd restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The backup.
    file: PathBuf,
    /// Data directory of the appliance, which must be stopped.
    #[arg(long, value_name = "DIR", env = "MUTTD_DATA")]
    data: PathBuf,
    /// Replace what is there; it is kept in a folder beside.
    #[arg(long)]
    force: bool,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
}

/// Takes or checks a backup.
pub async fn run(args: BackupArgs) -> anyhow::Result<ExitCode> {
    let manifest = match args.command {
        BackupCommand::Create { file, secrets, audit, reason } => {
            let api = Api::new(&args.api)?;
            let path = format!("/backup?secrets={secrets}&audit={audit}");
            let given = Some(reason.as_str()).filter(|reason| !reason.is_empty());
            api.download(&path, given, &file).await?;
            verified(file).await.context("the backup was written and cannot be used")?
        }
        BackupCommand::Verify { file } => verified(file).await?,
    };
    tell(&manifest, args.api.json, None);
    Ok(ExitCode::SUCCESS)
}

/// Restores a backup.
pub async fn restore(args: RestoreArgs) -> anyhow::Result<ExitCode> {
    let (file, data, force) = (args.file, args.data, args.force);
    let restoring = tokio::task::spawn_blocking(move || restore_into(&file, &data, force, &Clock::system()));
    let restored = restoring.await??;
    tell(&restored.manifest, args.json, restored.replaced.as_deref());
    Ok(ExitCode::SUCCESS)
}

async fn verified(file: PathBuf) -> anyhow::Result<Manifest> {
    Ok(tokio::task::spawn_blocking(move || verify_backup(&file, &Clock::system())).await??)
}

fn tell(manifest: &Manifest, as_json: bool, replaced: Option<&Path>) {
    if as_json {
        println!("{:#}", json!({"manifest": manifest, "replaced": replaced}));
        return;
    }
    let with = |what: bool| if what { "with" } else { "without" };
    println!(
        "backup of {} by muttd {}, {} secrets, {} the event audit: {} files, whole",
        manifest.created_at,
        manifest.version,
        with(manifest.secrets),
        with(manifest.audit),
        manifest.files.len(),
    );
    if let Some(replaced) = replaced {
        println!("what was there before is in {}", replaced.display());
    }
}
