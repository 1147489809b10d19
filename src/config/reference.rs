//! `docs/CONFIG.md`, made from the table of keys. Pure: it reads nothing but the table.

use std::fmt::Write as _;

use super::keys::{KEYS, Key};

/// What stands above the tables.
const INTRODUCTION: &str = "# Configuration

A value comes from the first of these that has one:

1. the settings kept by the appliance: keys of `[dynamic]` that were set with `muttd config set`, over the API
   (`PUT /api/v2/config/KEY`) or on the page *Settings*; `muttd config reset` takes one away again;
2. the environment: the variable of the key, then for some keys the variables that MUTT 2.x had (*also* below);
3. the file: `DIR/muttd.toml` when it is there, or the one given by `--config`;
4. the built-in default.

`muttd config list` shows every key with its value and where that comes from.

`muttd serve --data DIR` checks everything before it uses anything: an unknown key, a value out of range or two values
that contradict each other stop the start with a message that names them. `SIGHUP` reads file and environment again; what
cannot be used then changes nothing and is told in the log. A kept setting that this version cannot use is ignored and
told in the log, by `muttd config list` and on the page.

*Acts* says when a changed value takes effect: at once (within 100 ms of a change or `SIGHUP`; no event, alert or
connection is lost by it), or after a restart. A changed address moves that listener only, and its open connections
stay.

These must fit each other: `alerter_queue_warn_threshold` is not above `alerter_queue_shed_threshold`, and
`moog_retry_base_ms` not above `moog_retry_cap_seconds`.

```toml
[syslog]
udp_listen = \"0.0.0.0:514\"
tcp_listen = \"0.0.0.0:514\"

[snmp]
listen = \"0.0.0.0:162\"
communities = [\"our-community\"]

[moog]
webhook_url = \"https://moog.example.net/events/webhook_mutt\"

[dynamic]
unhandled_threshold = 50
```

This page is made from the table in `src/config/keys.rs` by `muttd config-reference`.
";

/// The reference page, as Markdown.
pub fn reference() -> String {
    let mut page = String::from(INTRODUCTION);
    let mut section = "";
    for key in KEYS {
        if key.section != section {
            section = key.section;
            let head =
                "| key | environment | value | default | read by | acts | meaning |\n|---|---|---|---|---|---|---|";
            // Writing into a text cannot fail.
            let _ = write!(page, "\n## [{section}]\n\n{head}\n");
        }
        page.push_str(&line(key));
    }
    page.push_str(&super::targets::reference());
    page
}

fn line(key: &Key) -> String {
    let quoted = |text: &str| if text.is_empty() { String::new() } else { format!("`{text}`") };
    let aliases: Vec<String> = key.aliases.iter().map(|alias| format!("`{alias}`")).collect();
    let also = if aliases.is_empty() { String::new() } else { format!("; also {}", aliases.join(", ")) };
    let unit = if key.unit.is_empty() { String::new() } else { format!(" {}", key.unit) };
    let acts = if key.live { "at once" } else { "after a restart" };
    format!(
        "| `{}` | `{}`{also} | {}{unit} | {} | {} | {acts} | {} |\n",
        key.name,
        key.env,
        key.kind.range(),
        quoted(key.default),
        key.reader,
        key.help
    )
}
