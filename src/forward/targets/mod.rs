//! Every kind of target, one file each. A new kind is a file and a line in [`KINDS`].

mod alertmanager;
mod discord;
mod gotify;
mod mail;
mod moogsoft;
mod moogsoft_cloud;
mod ntfy;
mod pagerduty;
mod posting;
mod rfc5424;
mod servicenow;
mod slack;
mod smtp;
mod splunk_hec;
mod syslog;
mod teams;
mod template;
mod text;
mod webhook;
mod wire;

use super::TargetKind;

/// The kinds there are, as `kind` names them in the configuration.
pub const KINDS: &[TargetKind] = &[
    TargetKind::of::<moogsoft::Options>("moogsoft", "Moogsoft on-premises, webhook LAM"),
    TargetKind::of::<moogsoft_cloud::Options>("moogsoft_cloud", "Moogsoft Cloud, Dell APEX AIOps"),
    TargetKind::of::<webhook::Options>("webhook", "Any HTTP receiver, by a template"),
    TargetKind::of::<smtp::Options>("smtp", "E-mail"),
    TargetKind::of::<syslog::Options>("syslog", "Syslog relay, RFC 5424 over TCP or TLS"),
    TargetKind::of::<slack::SlackOptions>("slack", "Slack, incoming webhook"),
    TargetKind::of::<slack::MattermostOptions>("mattermost", "Mattermost, incoming webhook"),
    TargetKind::of::<teams::Options>("teams", "Microsoft Teams, workflow"),
    TargetKind::of::<discord::Options>("discord", "Discord, webhook"),
    TargetKind::of::<pagerduty::Options>("pagerduty", "PagerDuty, Events API v2"),
    TargetKind::of::<alertmanager::Options>("alertmanager", "Prometheus Alertmanager, API v2"),
    TargetKind::of::<ntfy::Options>("ntfy", "ntfy, topic"),
    TargetKind::of::<gotify::Options>("gotify", "Gotify, application"),
    TargetKind::of::<servicenow::Options>("servicenow", "ServiceNow Event Management"),
    TargetKind::of::<splunk_hec::Options>("splunk_hec", "Splunk, HTTP Event Collector"),
];

#[cfg(test)]
mod fixtures;
