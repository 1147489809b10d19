//! The one-time set-up link: a way in when nobody knows the password.
//!
//! Whoever can write the data directory may make one. `setup-token` there holds only the token's hash and its end; the
//! file goes with the first use, so a crash in between leaves either a link that still works or none.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use subtle::ConstantTimeEq;

use super::passwords::{check_new, digest, hex, random};
use super::{Actor, Admin, AdminError};
use crate::model::Timestamp;

/// How long a link may be used.
const LINK_LIFE: Duration = Duration::from_secs(3_600);

/// Its file in the data directory.
const FILE_NAME: &str = "setup-token";

/// Makes a one-time token for `/setup?token=...` in a data directory; an earlier one stops working. The appliance need
/// not run, and need not be told.
pub async fn issue_setup_token(data_dir: &Path, now: Timestamp) -> Result<String, AdminError> {
    let token = hex(&random::<16>()?);
    let text = format!("{} {}\n", hex(&digest(&token)), now.plus(LINK_LIFE).as_micros());
    let path = data_dir.join(FILE_NAME);
    blocking(move || write_private(&path, &text)).await?.map_err(|error| {
        AdminError::Unavailable(format!("the set-up link cannot be kept in the data directory: {error}"))
    })?;
    Ok(token)
}

impl Admin {
    /// Whether a token could be used now.
    pub async fn setup_token_is_valid(&self, token: &str) -> Result<bool, AdminError> {
        let (path, now, token) = (self.token_path(), self.parts.clock.now(), digest(token));
        blocking(move || token_fits(&path, &token, now)).await
    }

    /// Sets the password of `admin` with a one-time token, which is used up by it.
    pub async fn redeem_setup_token(
        &self,
        token: &str,
        new_password: String,
        correlation_id: &str,
    ) -> Result<(), AdminError> {
        check_new("new_password", &new_password)?;
        let (path, now, token) = (self.token_path(), self.parts.clock.now(), digest(token));
        // Removing the file is what uses the token up: of two requests at once only one succeeds in it.
        let used = blocking(move || token_fits(&path, &token, now) && fs::remove_file(&path).is_ok()).await?;
        if !used {
            return Err(AdminError::BadSetupToken);
        }
        let actor = Actor::new("setup", correlation_id);
        self.make_first_user(new_password, &actor, "password set with a one-time link").await
    }

    fn token_path(&self) -> PathBuf {
        self.parts.data_dir.join(FILE_NAME)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, AdminError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| AdminError::Unavailable("the data directory cannot be read".to_owned()))
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let fresh = path.with_extension("new");
    let _ = fs::remove_file(&fresh);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    // Made by root for an appliance that runs as a user of its own: the owner of the directory must be able to read it.
    if let Some(directory) = path.parent() {
        let owner = fs::metadata(directory)?;
        fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

fn token_fits(path: &Path, token: &[u8; 32], now: Timestamp) -> bool {
    let Ok(text) = fs::read_to_string(path) else { return false };
    let Some((kept, end)) = text.trim().split_once(' ') else { return false };
    let in_time = end.parse::<i64>().is_ok_and(|end| now.as_micros() < end);
    let same: bool = kept.as_bytes().ct_eq(hex(token).as_bytes()).into();
    same && in_time
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::testing::TestAdmin;

    #[tokio::test]
    async fn a_link_works_once_and_within_its_hour() {
        let test = TestAdmin::new().await;
        let redeem =
            async |token: &str| test.admin.redeem_setup_token(token, "a long enough password".into(), "c").await;
        let issue = async || issue_setup_token(&test.admin.parts.data_dir, test.clock.now()).await.expect("issues");
        let token = issue().await;
        assert!(matches!(redeem("guess").await, Err(AdminError::BadSetupToken)));
        assert!(test.admin.setup_token_is_valid(&token).await.expect("works"));
        redeem(&token).await.expect("works once");
        assert!(matches!(redeem(&token).await, Err(AdminError::BadSetupToken)));
        let late = issue().await;
        test.clock.advance(LINK_LIFE);
        assert!(matches!(redeem(&late).await, Err(AdminError::BadSetupToken)));
    }
}
