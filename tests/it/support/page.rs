//! A person at the web UI, without a browser: keeps cookies, follows redirects, fills in forms.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use regex::Regex;

use super::server::encode;
use super::{Answer, Request};

/// Someone with a cookie jar.
pub struct Browser {
    address: SocketAddr,
    cookies: BTreeMap<String, String>,
}

/// A form found on a page, with the values it would send untouched.
#[derive(Debug, Clone)]
pub struct Form {
    /// Where it is sent.
    pub action: String,
    /// Its fields.
    pub fields: BTreeMap<String, String>,
}

impl Browser {
    /// A new visitor.
    pub const fn new(address: SocketAddr) -> Self {
        Self { address, cookies: BTreeMap::new() }
    }

    /// Opens a page, going where redirects lead.
    pub fn open(&mut self, path: &str) -> Answer {
        let answer = self.exchange(Request::get(self.address, path));
        self.follow(answer)
    }

    /// Sends a form; the answer is where redirects lead.
    pub fn submit(&mut self, form: &Form) -> Answer {
        let answer = self.submit_once(form);
        self.follow(answer)
    }

    /// Sends a form; the answer is the first one.
    pub fn submit_once(&mut self, form: &Form) -> Answer {
        let pairs: Vec<String> =
            form.fields.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        let request = Request::post(self.address, form.action.as_str())
            .header("Origin", format!("http://{}", self.address))
            .body("application/x-www-form-urlencoded", pairs.join("&"));
        self.exchange(request)
    }

    /// Logs in through the login page.
    pub fn log_in(&mut self, user: &str, password: &str) -> Answer {
        let page = self.open("/login").must_be(200).text();
        let form = Form::on(&page, "password").filled(&[("user", user), ("password", password)]);
        self.submit(&form)
    }

    /// The cookies it would send, for requests of another kind.
    pub fn cookie(&self) -> String {
        self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    fn exchange(&mut self, request: Request) -> Answer {
        let jar = self.cookie();
        let request = if jar.is_empty() { request } else { request.header("Cookie", jar) };
        let answer = request.expect();
        for (_, cookie) in answer.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let Some((name, value)) = cookie.split(';').next().and_then(|pair| pair.split_once('=')) else { continue };
            self.cookies.insert(name.trim().to_owned(), value.trim().to_owned());
        }
        answer
    }

    fn follow(&mut self, mut answer: Answer) -> Answer {
        for _ in 0..5 {
            let Some(place) = answer.header("location").filter(|_| (300..400).contains(&answer.status)) else { break };
            let place = place.to_owned();
            answer = self.exchange(Request::get(self.address, place));
        }
        answer
    }
}

impl Form {
    /// The form on `page` that has a field called `field`; the test fails if there is none.
    pub fn on(page: &str, field: &str) -> Self {
        let forms = pattern(r"(?is)<form\b([^>]*)>(.*?)</form>");
        let mut found = forms.captures_iter(page).map(|form| Self::read(&form[1], &form[2]));
        found
            .find(|form| form.fields.contains_key(field))
            .unwrap_or_else(|| panic!("no form with `{field}` on: {page}"))
    }

    /// The same form with these fields filled in.
    pub fn filled(mut self, values: &[(&str, &str)]) -> Self {
        for (name, value) in values {
            self.fields.insert((*name).to_owned(), (*value).to_owned());
        }
        self
    }

    fn read(attributes: &str, inside: &str) -> Self {
        let mut fields = BTreeMap::new();
        for input in pattern(r"(?is)<input\b([^>]*)>").captures_iter(inside) {
            let kind = attribute(&input[1], "type").unwrap_or_default();
            let unchecked = kind == "checkbox" && !input[1].contains("checked");
            if let Some(name) = attribute(&input[1], "name").filter(|_| !unchecked) {
                fields.insert(name, attribute(&input[1], "value").unwrap_or_default());
            }
        }
        for area in pattern(r"(?is)<textarea\b([^>]*)>(.*?)</textarea>").captures_iter(inside) {
            if let Some(name) = attribute(&area[1], "name") {
                fields.insert(name, unescape(area[2].trim()));
            }
        }
        for select in pattern(r"(?is)<select\b([^>]*)>(.*?)</select>").captures_iter(inside) {
            let Some(name) = attribute(&select[1], "name") else { continue };
            let options: Vec<(String, bool)> = pattern(r"(?is)<option\b([^>]*)>")
                .captures_iter(&select[2])
                .map(|option| (attribute(&option[1], "value").unwrap_or_default(), option[1].contains("selected")))
                .collect();
            let chosen = options.iter().find(|(_, selected)| *selected).or_else(|| options.first());
            fields.insert(name, chosen.map(|(value, _)| value.clone()).unwrap_or_default());
        }
        Self { action: attribute(attributes, "action").unwrap_or_default(), fields }
    }
}

fn attribute(attributes: &str, name: &str) -> Option<String> {
    let found = pattern(&format!(r#"(?is)(?:^|\s){name}\s*=\s*"([^"]*)""#));
    Some(unescape(&found.captures(attributes)?[1]))
}

/// Undoes what askama escapes.
/// Text of a page as it is read.
pub fn unescape(text: &str) -> String {
    let named = text.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">");
    let numbered = named.replace("&#34;", "\"").replace("&#39;", "'").replace("&#60;", "<").replace("&#62;", ">");
    numbered.replace("&#38;", "&").replace("&amp;", "&")
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern of a test is valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_with_its_values() {
        let page = r#"<form action="/search"><input name="q"></form>
            <form method="post" action="/rules"><input type="hidden" name="csrf" value="a&quot;b">
            <textarea name="match_string" rows="2">x &lt; y</textarea><input type="checkbox" name="off">
            <select name="kind"><option value="a">A<option value="b" selected>B</select></form>"#;
        let form = Form::on(page, "match_string").filled(&[("reason", "why")]);
        assert_eq!(form.action, "/rules");
        let fields: Vec<(&str, &str)> =
            form.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(fields, [("csrf", "a\"b"), ("kind", "b"), ("match_string", "x < y"), ("reason", "why")]);
    }
}
