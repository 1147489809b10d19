//! The units that are shipped are what systemd takes for units: `systemd-analyze verify` has nothing to say about them.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// The units, with the program of this build in the place of the installed one, which need not be there.
fn units() -> TempDir {
    let folder = TempDir::new().expect("a temporary directory");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    for entry in std::fs::read_dir(shipped).expect("the units are there") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("a unit is text");
        let text = text.replace("/usr/bin/muttd", env!("CARGO_BIN_EXE_muttd"));
        std::fs::write(folder.path().join(path.file_name().expect("a name")), text).expect("it is written");
    }
    folder
}

/// What systemd says of every unit in a folder; nothing if they are right.
fn verified(folder: &Path) -> String {
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no"]);
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        command.arg(entry.expect("an entry").path());
    }
    let output = command.output().expect("systemd-analyze is there: package systemd");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    if output.status.success() { said } else { format!("{said} ({})", output.status) }
}

#[test]
fn systemd_has_nothing_to_say_about_the_units() {
    let folder = units();
    assert_eq!(verified(folder.path()), "");
    // It would say so: a misspelt setting, and a program that is not there.
    let unit = folder.path().join("muttd-retention.service");
    let text = std::fs::read_to_string(&unit).expect("the unit is there");
    for (right, wrong) in [("NoNewPrivileges", "NoNewPriviliges"), (env!("CARGO_BIN_EXE_muttd"), "/nowhere/muttd")] {
        std::fs::write(&unit, text.replace(right, wrong)).expect("it is written");
        assert!(verified(folder.path()).contains(wrong), "{wrong} is not noticed");
    }
}
