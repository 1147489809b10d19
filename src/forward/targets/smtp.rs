//! E-mail by SMTP, one mail for each alert or one digest for those that were gathered.
//!
//! Implicit TLS, STARTTLS or, for a relay on the same machine or network, none; a password never crosses a network in
//! clear. A recipient that the server refuses for good keeps nobody else from the mail. Each delivery has its own
//! connection: mails are few, and servers close idle ones.

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use lettre::message::Mailbox;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Response;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::mail::{Letterhead, compose};
use super::syslog::check_server;
use super::text::{clip, one_line};
use super::wire::{Line, Lines, Security, Stream};
use crate::clock::Clock;
use crate::forward::{DeliveryError, FailureReason, KindOptions, Receipt, Secret, Target, TargetParts};
use crate::model::{Alert, TargetName};

/// Alerts in one digest.
const MOST: usize = 200;
/// Recipients of a mail.
const MOST_RECIPIENTS: usize = 50;
/// Bytes that a server may say in one connection: more is not SMTP.
const MOST_HEARD: usize = 256 << 10;
/// UTF-16 units of an answer that are kept.
const SHOWN: usize = 500;
/// How long a good-bye may take; the mail is delivered by then.
const GOOD_BYE: Duration = Duration::from_millis(500);

/// How the connection is encrypted.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Tls {
    /// From the first byte (port 465).
    Implicit,
    /// After STARTTLS, which the server must offer (port 587).
    Starttls,
    /// Not at all (port 25).
    None,
}

/// What the configuration says of a mail server and of those it writes to.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Options {
    /// Its name or address.
    server: String,
    /// Its port; 465, 587 or 25 if left out.
    port: Option<u16>,
    /// How the connection is encrypted.
    tls: Tls,
    /// For AUTH PLAIN or LOGIN, with `secret` as the password.
    user: String,
    /// The sender.
    from: String,
    /// The recipients.
    to: Vec<String>,
    /// Before each subject.
    subject_prefix: String,
    /// Whether mails have an HTML part.
    html: bool,
    /// How we introduce ourselves; the sender's domain if empty.
    hello: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            server: String::new(),
            port: None,
            tls: Tls::Starttls,
            user: String::new(),
            from: String::new(),
            to: Vec::new(),
            subject_prefix: "[muttd]".to_owned(),
            html: true,
            hello: String::new(),
        }
    }
}

impl KindOptions for Options {
    fn check(&self) -> Result<(), String> {
        check_server(&self.server)?;
        if self.port == Some(0) {
            return Err("`port` must be 1 to 65535".to_owned());
        }
        mailbox("from", &self.from)?;
        if !(1..=MOST_RECIPIENTS).contains(&self.to.len()) {
            return Err(format!("`to` must name 1 to {MOST_RECIPIENTS} recipients"));
        }
        self.to.iter().try_for_each(|text| mailbox("to", text).map(drop))?;
        if self.subject_prefix.chars().count() > 50 || self.subject_prefix.chars().any(char::is_control) {
            return Err("`subject_prefix` must have at most 50 characters and no control characters".to_owned());
        }
        let in_name = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
        if self.hello.len() > 253 || !self.hello.chars().all(in_name) {
            return Err("`hello` must be a host name".to_owned());
        }
        if !self.user.is_empty() && self.tls == Tls::None && !is_this_machine(&self.server) {
            return Err(
                "`tls` must be \"starttls\" or \"implicit\" with a `user`: the password would be sent in clear"
                    .to_owned(),
            );
        }
        Ok(())
    }

    fn needs_secret(&self) -> bool {
        !self.user.is_empty()
    }

    fn build(self, parts: TargetParts) -> Result<Arc<dyn Target>, String> {
        let (security, usual_port) = match self.tls {
            Tls::Implicit => (Security::Tls, 465),
            Tls::Starttls => (Security::Clear, 587),
            Tls::None => (Security::Clear, 25),
        };
        let host = self.server.trim_start_matches('[').trim_end_matches(']').to_owned();
        let upgrade = (self.tls == Tls::Starttls).then(|| {
            TlsParameters::new(host.clone())
                .map_err(|error| format!("the system's certificate authorities cannot be used: {error}"))
        });
        let line =
            Line { host, port: self.port.unwrap_or(usual_port), security, guard: parts.guard, timeout: parts.timeout };
        let from = mailbox("from", &self.from)?;
        let to: Result<Vec<Mailbox>, String> = self.to.iter().map(|text| mailbox("to", text)).collect();
        let hello = if self.hello.is_empty() { from.email.domain().to_owned() } else { self.hello };
        let target = parts.name.to_string();
        Ok(Arc::new(Smtp {
            name: parts.name,
            lines: Lines::new(line, 0, Duration::ZERO),
            timeout: parts.timeout,
            upgrade,
            user: self.user,
            hello: ClientId::Domain(hello),
            head: Letterhead { target, from, to: to?, subject_prefix: self.subject_prefix, html: self.html },
            clock: parts.clock,
        }))
    }
}

/// Reads `Name <user@host>`; ASCII only, so that every server can take it.
fn mailbox(key: &str, text: &str) -> Result<Mailbox, String> {
    let told = || format!("`{key}`: `{}` is no mail address such as noc@example.org", one_line(&clip(text, 100)));
    if text.len() > 320 || text.chars().any(char::is_control) {
        return Err(told());
    }
    let mailbox: Mailbox = text.parse().map_err(|_| told())?;
    if mailbox.email.user().is_ascii() && mailbox.email.domain().is_ascii() { Ok(mailbox) } else { Err(told()) }
}

fn is_this_machine(server: &str) -> bool {
    let server = server.trim_start_matches('[').trim_end_matches(']');
    server.eq_ignore_ascii_case("localhost")
        || server.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

struct Smtp {
    name: TargetName,
    lines: Lines,
    timeout: Duration,
    /// For STARTTLS: how to encrypt, or why that cannot be.
    upgrade: Option<Result<TlsParameters, String>>,
    user: String,
    hello: ClientId,
    head: Letterhead,
    clock: Clock,
}

impl Smtp {
    /// Connected, encrypted and known to the server.
    async fn session(&self, key: Option<&Secret>) -> Result<AsyncSmtpConnection, DeliveryError> {
        let stream = Bounded { stream: self.lines.connect().await?, left: MOST_HEARD };
        let opened = AsyncSmtpConnection::connect_with_transport(Box::new(stream), &self.hello).await;
        let mut session = opened.map_err(|error| later(&error))?;
        if let Some(tls) = &self.upgrade {
            let tls = tls.as_ref().map_err(|why| DeliveryError::retry(FailureReason::Internal, why))?;
            session.starttls(tls.clone(), &self.hello).await.map_err(|error| later(&error))?;
        }
        if !self.user.is_empty() {
            let password = key.map_or("", Secret::reveal).to_owned();
            let credentials = Credentials::new(self.user.clone(), password);
            session.auth(DEFAULT_MECHANISMS, &credentials).await.map_err(|error| unknown_user(&error))?;
        }
        Ok(session)
    }

    async fn send(&self, mail: &[u8], key: Option<&Secret>) -> Result<Receipt, DeliveryError> {
        let mut session = self.session(key).await?;
        let from = Some(self.head.from.email.clone());
        session.command(Mail::new(from, Vec::new())).await.map_err(|error| verdict(&error))?;
        let mut refused = Vec::new();
        for recipient in &self.head.to {
            match session.command(Rcpt::new(recipient.email.clone(), Vec::new())).await {
                Ok(_) => {}
                Err(error) if error.is_permanent() => refused.push((recipient, error)),
                // Greylisting and full mailboxes pass; those that were named before get the mail then, too.
                Err(error) => return Err(verdict(&error)),
            }
        }
        if let Some((_, error)) = refused.first()
            && refused.len() == self.head.to.len()
        {
            return Err(verdict(error));
        }
        session.command(Data).await.map_err(|error| verdict(&error))?;
        let response = session.message(mail).await.map_err(|error| verdict(&error))?;
        // The mail is the server's by now, whatever it says to a good-bye.
        let _ = tokio::time::timeout(GOOD_BYE, session.quit()).await;
        Ok(Receipt::new(receipt(&response, &refused)))
    }

    async fn in_time<T>(&self, call: impl Future<Output = Result<T, DeliveryError>>) -> Result<T, DeliveryError> {
        tokio::time::timeout(self.timeout, call).await.unwrap_or_else(|_| {
            let answer = format!("the server did not finish within {} s", self.timeout.as_secs());
            Err(DeliveryError::retry(FailureReason::Timeout, answer))
        })
    }
}

#[async_trait]
impl Target for Smtp {
    fn name(&self) -> &TargetName {
        &self.name
    }

    fn address(&self) -> String {
        self.lines.address("smtp")
    }

    fn most(&self) -> usize {
        MOST
    }

    fn ready(&self) -> Result<(), String> {
        match &self.upgrade {
            Some(Err(why)) => Err(why.clone()),
            Some(Ok(_)) | None => self.lines.ready(),
        }
    }

    async fn deliver(&self, alerts: &[Alert], key: Option<&Secret>) -> Result<Receipt, DeliveryError> {
        let mail = compose(alerts, &self.head, self.clock.now()).map_err(DeliveryError::refused)?;
        self.in_time(self.send(&mail, key)).await
    }

    async fn probe(&self, key: Option<&Secret>) -> Result<(), DeliveryError> {
        self.in_time(async {
            let mut session = self.session(key).await?;
            let _ = tokio::time::timeout(GOOD_BYE, session.quit()).await;
            Ok(())
        })
        .await
    }
}

fn receipt(response: &Response, refused: &[(&Mailbox, Error)]) -> String {
    let said = response.message().collect::<Vec<_>>().join(" ");
    let mut text = format!("{} {said}", response.code());
    for (recipient, error) in refused {
        text.push_str(&format!("; {} was refused: {error}", recipient.email));
    }
    clip(&one_line(&text), SHOWN)
}

fn in_words(error: &Error) -> String {
    clip(&one_line(&error.to_string()), SHOWN)
}

/// What an answer to a mail means: 4xx later, 5xx never, and the codes about passwords are about the key.
fn verdict(error: &Error) -> DeliveryError {
    let code = error.status().map(u16::from);
    match code {
        Some(530 | 534 | 535 | 538) => DeliveryError::Credentials { answer: in_words(error) },
        Some(500..=599) => DeliveryError::refused(in_words(error)),
        _ => later(error),
    }
}

/// Before the mail nothing is said about it: whatever fails passes.
fn later(error: &Error) -> DeliveryError {
    let reason = if error.status().is_some() { FailureReason::ServerError } else { FailureReason::Connection };
    DeliveryError::retry(reason, in_words(error))
}

/// The answer to a password: a temporary one is about the server, a permanent one about the key.
fn unknown_user(error: &Error) -> DeliveryError {
    if error.is_permanent() { DeliveryError::Credentials { answer: in_words(error) } } else { later(error) }
}

/// A stream that ends a connection in which too much is said: the library reads lines of any length.
struct Bounded {
    stream: Box<dyn Stream>,
    left: usize,
}

impl fmt::Debug for Bounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bounded").field("left", &self.left).finish_non_exhaustive()
    }
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let heard = buffer.filled().len() - before;
        match self.left.checked_sub(heard) {
            Some(left) => self.left = left,
            None => return Poll::Ready(Err(std::io::Error::other("the server says too much"))),
        }
        read
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl AsyncTokioStream for Bounded {
    fn peer_addr(&self) -> std::io::Result<SocketAddr> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests;
