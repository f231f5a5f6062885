//! The list of a repository's tags, with pagination.

use std::collections::HashSet;

use governor::DefaultDirectRateLimiter;
use reqwest::{
    Method, StatusCode, Url,
    header::{HeaderMap, LINK},
};
use serde::Deserialize;
use taglog_proto::name::Tag;

use super::{
    client::RegistryClient,
    error::RegistryError,
    target::Target,
    transport::{self, RegistryRequest, not_a_registry, redirected_away, refuse_html},
};

/// The largest page, in bytes. A thousand of the longest tags are 130 kB, but some registries return all tags in one page,
/// and some add a description of every manifest.
const MAX_TAG_PAGE: usize = 4 * 1024 * 1024;

/// The tags of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TagList {
    /// Each tag once, in the order of the registry.
    pub tags: Vec<Tag>,
    /// How many listed names are not valid tags. They are left out.
    pub malformed: usize,
}

impl RegistryClient {
    /// All tags of the target's repository, if there are `most` of them or fewer.
    pub(super) async fn tags(
        &self,
        target: &Target,
        most: usize,
        limiter: Option<&DefaultDirectRateLimiter>,
    ) -> Result<TagList, RegistryError> {
        let mut found = TagCollector::default();
        let mut url = self.url(target)?;
        let mut pages_without_new_tags = 0;
        for _ in 0..=most {
            if let Some(limiter) = limiter {
                limiter.until_ready().await;
            }
            let (names, next) = self.within_timeout(target, self.page(target, url.clone())).await?;
            let new = found.add(target, &names, most)?;
            let Some(next) = next else {
                return Ok(found.list);
            };
            // A registry that filters its pages may return an empty page in the middle.
            pages_without_new_tags = if new { 0 } else { pages_without_new_tags + 1 };
            if next == url || pages_without_new_tags == 2 {
                break;
            }
            url = next;
        }
        Err(not_a_registry(target, "its list of tags goes on without further tags"))
    }

    /// The names on one page, and the address of the next page.
    async fn page(&self, target: &Target, url: Url) -> Result<(Vec<String>, Option<Url>), RegistryError> {
        let answer =
            self.request(target, RegistryRequest { method: Method::GET, url, headers: HeaderMap::new() }).await?;
        if answer.status() != StatusCode::OK {
            return Err(answer.refusal(target));
        }
        refuse_html(target, answer.headers())?;
        let next = next_page(target, answer.response.url(), answer.headers())?;
        let body = transport::read_body(target, answer.response, MAX_TAG_PAGE).await?;
        let page: TagPage = transport::json_object(&body)
            .ok_or_else(|| not_a_registry(target, "the body is not a list of tags in JSON"))?;
        Ok((page.tags.unwrap_or_default(), next))
    }
}

#[derive(Deserialize)]
struct TagPage {
    /// Some registries send null for an empty list. The field itself is required; serde checks this only with an explicit
    /// `deserialize_with`.
    #[serde(deserialize_with = "Option::deserialize")]
    tags: Option<Vec<String>>,
}

#[derive(Default)]
struct TagCollector {
    list: TagList,
    seen: HashSet<Tag>,
}

impl TagCollector {
    /// Adds the names of one page; returns whether any of them is a new tag.
    fn add(&mut self, target: &Target, names: &[String], most: usize) -> Result<bool, RegistryError> {
        let before = self.list.tags.len();
        for name in names {
            let Ok(tag) = Tag::parse(name) else {
                self.list.malformed += 1;
                continue;
            };
            if !self.seen.insert(tag.clone()) {
                continue;
            }
            if self.list.tags.len() == most {
                return Err(RegistryError::TooManyTags { target: target.to_string(), most });
            }
            self.list.tags.push(tag);
        }
        Ok(self.list.tags.len() > before)
    }
}

/// The address of the page after `from`. It must have the same origin (scheme, host and port), since another host has no
/// authority over these tags.
fn next_page(target: &Target, from: &Url, headers: &HeaderMap) -> Result<Option<Url>, RegistryError> {
    let unreadable = || not_a_registry(target, "its Link header, which leads to further tags, cannot be read");
    for header in headers.get_all(LINK) {
        let text = header.to_str().map_err(|_| unreadable())?;
        let Some(address) = next_link(text).ok_or_else(unreadable)? else {
            continue;
        };
        let next = transport::resolve_url(from, address).ok_or_else(unreadable)?;
        if next.origin() != from.origin() {
            return Err(redirected_away(target, &next, "the next page of a list must be on the same host"));
        }
        return Ok(Some(next));
    }
    Ok(None)
}

/// The target of `rel="next"` in a `Link` header (RFC 8288 section 3): `Some(None)` where there is none, `None` where the
/// header is malformed.
fn next_link(header: &str) -> Option<Option<&str>> {
    let mut rest = header.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let (address, parameters) = rest.strip_prefix('<')?.split_once('>')?;
        rest = parameters.trim_start();
        let mut is_next = None;
        while let Some(text) = rest.strip_prefix(';') {
            let (name, value, after) = parameter(text)?;
            if name.eq_ignore_ascii_case("rel") {
                // Of several `rel` parameters the first counts (RFC 8288 section 3.3).
                is_next.get_or_insert(value.split_ascii_whitespace().any(|rel| rel.eq_ignore_ascii_case("next")));
            }
            rest = after.trim_start();
        }
        if !rest.is_empty() && !rest.starts_with(',') {
            return None;
        }
        if is_next == Some(true) {
            return Some(Some(address));
        }
        rest = rest.trim_start_matches([' ', '\t', ',']);
    }
    Some(None)
}

/// Name, value and rest of `name=value`, `name="value"` or `name` alone.
fn parameter(text: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = text.split_at(text.find(['=', ';', ',']).unwrap_or(text.len()));
    let Some(value) = rest.strip_prefix('=').map(str::trim_start) else {
        return Some((name.trim(), "", rest));
    };
    let (value, rest) = match value.strip_prefix('"') {
        Some(quoted) => {
            let end = closing_quote(quoted)?;
            (&quoted[..end], &quoted[end + 1..])
        }
        None => value.split_at(value.find([';', ',']).unwrap_or(value.len())),
    };
    Some((name.trim(), value.trim(), rest))
}

/// The position of the first unescaped quote.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_links_are_parsed() {
        for (header, next) in [
            ("", None),
            (" , ", None),
            (r#"</v2/a/tags/list?last=b&n=2>; rel="next""#, Some("/v2/a/tags/list?last=b&n=2")),
            ("<a>;rel=next", Some("a")),
            ("<a> ; Rel = NEXT ; x", Some("a")),
            (r#"<a>; title="x\", y; rel=prev"; rel="last next""#, Some("a")),
            (r#"<a,b;c>; rel="prev", <d>; rel="next""#, Some("d")),
            ("<a>; rel=prev; rel=next, <b>", None),
            (r#"<a>; rel="nextone""#, None),
            (r#"<a>; title="rel=next""#, None),
            ("<a>;;rel=next", Some("a")),
            ("<>; rel=next", Some("")),
        ] {
            assert_eq!(next_link(header), Some(next), "{header}");
        }
        for header in ["a; rel=next", "<a; rel=next", r#"<a>; rel="next"#, "<a> rel=next", r#"<a>; rel="next" b"#] {
            assert_eq!(next_link(header), None, "{header}");
        }
    }
}
