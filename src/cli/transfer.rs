//! `muttd export` and `muttd import`: the configuration of a running appliance as one file.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use reqwest::Method;
use serde_json::Value;

use super::api::{Api, ApiArgs};
use crate::config::transfer;

/// How a document is written.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Form {
    /// With comments, to be kept under version control.
    Toml,
    /// For programs.
    Json,
}

/// Arguments of `muttd export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// Where to write it; standard output if it is not given.
    file: Option<PathBuf>,
    /// How to write it; `--json` means json too.
    #[arg(long, value_enum, default_value = "toml")]
    format: Form,
}

/// Arguments of `muttd import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// The file, TOML or JSON; `-` for standard input.
    file: PathBuf,
    /// Only show what would be changed.
    #[arg(long)]
    dry_run: bool,
    /// Remove what is there and not in the file, in those parts that the file has.
    #[arg(long)]
    prune: bool,
    /// Why, for the change log.
    #[arg(long)]
    reason: Option<String>,
}

/// Writes what is configured.
pub async fn export(args: ExportArgs) -> anyhow::Result<ExitCode> {
    let document = Api::new(&args.api)?.ask(Method::GET, "/export", None).await?;
    let text = match args.format {
        Form::Toml if !args.api.json => transfer::to_toml(&document),
        _ => format!("{document:#}\n"),
    };
    match &args.file {
        Some(file) => {
            std::fs::write(file, text).with_context(|| format!("`{}` cannot be written", file.display()))?;
        }
        None => std::io::stdout().write_all(text.as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes the configuration what the file says.
pub async fn import(args: ImportArgs) -> anyhow::Result<ExitCode> {
    let document = transfer::read(&read(&args.file)?)?;
    let path = format!("/import?dry_run={}&prune={}", args.dry_run, args.prune);
    let api = Api::new(&args.api)?;
    let answer = api.send(Method::POST, &path, Some(&document), args.reason.as_deref()).await?;
    let text = if args.api.json { format!("{answer:#}\n") } else { in_words(&answer) };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> anyhow::Result<String> {
    if file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("standard input cannot be read")?;
        return Ok(text);
    }
    std::fs::read_to_string(file).with_context(|| format!("`{}` cannot be read", file.display()))
}

/// The changes as a difference: a line for each member that is another one afterwards.
fn in_words(answer: &Value) -> String {
    let mut text = String::new();
    for change in answer["changes"].as_array().into_iter().flatten() {
        let of = |name: &str| change[name].as_str().unwrap_or_default();
        text.push_str(format!("{} {} {}", of("operation"), of("table_name"), of("record_id")).trim_end());
        text.push('\n');
        let (old, new) = (&change["old_values"], &change["new_values"]);
        let names = old.as_object().into_iter().chain(new.as_object()).flat_map(|members| members.keys());
        let mut shown: Vec<&String> = Vec::new();
        for name in names.filter(|name| old.get(*name) != new.get(*name)) {
            if !shown.contains(&name) {
                shown.push(name);
            }
        }
        for name in shown {
            for (sign, values) in [('-', old), ('+', new)] {
                if let Some(value) = values.get(name).filter(|value| !value.is_null()) {
                    text.push_str(&format!("  {sign} {name} = {value}\n"));
                }
            }
        }
    }
    let would = if answer["dry_run"] == true { "would be " } else { "" };
    text.push_str(&format!(
        "{} {would}created, {} {would}updated, {} {would}deleted\n",
        answer["created"], answer["updated"], answer["deleted"]
    ));
    text
}
