//! All tags of a repository, page by page.

use std::collections::HashSet;

use governor::DefaultDirectRateLimiter;
use reqwest::{
    Method, StatusCode, Url,
    header::{HeaderMap, LINK},
};
use serde::Deserialize;
use taglog_proto::name::Tag;

use super::{
    Shared,
    error::RegistryError,
    target::Target,
    transport::{self, Question, away, not_a_registry, refuse_html},
};

/// How many tags are asked for at once; registries give fewer or more as they like.
pub(super) const TAGS_ON_A_PAGE: usize = 1000;
/// The longest page that is read, in bytes. A thousand of the longest tags are 130 kB, but some registries give
/// all tags at once, and some add a description of every manifest.
const LONGEST_PAGE: usize = 4 * 1024 * 1024;

/// The tags of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TagList {
    /// Each tag once, in the registry's order.
    pub tags: Vec<Tag>,
    /// How many names the registry listed that no tag can have. They are left out.
    pub malformed: usize,
}

impl Shared {
    /// All tags of the target's repository, if there are `most` of them or fewer.
    pub(super) async fn tags(
        &self,
        target: &Target,
        most: usize,
        limiter: Option<&DefaultDirectRateLimiter>,
    ) -> Result<TagList, RegistryError> {
        let mut found = Found::default();
        let mut url = self.url(target)?;
        let mut fruitless = 0;
        for _ in 0..=most {
            if let Some(limiter) = limiter {
                limiter.until_ready().await;
            }
            let (names, next) = self.within_timeout(target, self.page(target, url.clone())).await?;
            let new = found.add(target, &names, most)?;
            let Some(next) = next else {
                return Ok(found.list);
            };
            // A registry that filters its pages may have an empty one in the middle.
            fruitless = if new { 0 } else { fruitless + 1 };
            if next == url || fruitless == 2 {
                break;
            }
            url = next;
        }
        Err(not_a_registry(target, "its list of tags goes on without further tags"))
    }

    /// One page: the names on it, and where the next one is.
    async fn page(&self, target: &Target, url: Url) -> Result<(Vec<String>, Option<Url>), RegistryError> {
        let answer = self.request(target, Question { method: Method::GET, url, headers: HeaderMap::new() }).await?;
        if answer.status() != StatusCode::OK {
            return Err(answer.refusal(target));
        }
        refuse_html(target, answer.headers())?;
        let next = next_page(target, answer.response.url(), answer.headers())?;
        let body = transport::read_body(target, answer.response, LONGEST_PAGE).await?;
        let page: Page = transport::json_object(&body)
            .ok_or_else(|| not_a_registry(target, "the body is not a list of tags in JSON"))?;
        Ok((page.tags.unwrap_or_default(), next))
    }
}

#[derive(Deserialize)]
struct Page {
    /// Some registries say null for an empty list; but the field must be there, which serde asks for only where
    /// the function is named.
    #[serde(deserialize_with = "Option::deserialize")]
    tags: Option<Vec<String>>,
}

#[derive(Default)]
struct Found {
    list: TagList,
    seen: HashSet<Tag>,
}

impl Found {
    /// Takes over the names of one page; says whether any of them is a new tag.
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

/// Where the page after the one at `from` is. It must be on the same host (scheme, host and port), since
/// another host has no say about these tags.
fn next_page(target: &Target, from: &Url, headers: &HeaderMap) -> Result<Option<Url>, RegistryError> {
    let unreadable = || not_a_registry(target, "its Link header, which leads to further tags, cannot be read");
    for header in headers.get_all(LINK) {
        let text = header.to_str().map_err(|_| unreadable())?;
        let Some(address) = next_link(text).ok_or_else(unreadable)? else {
            continue;
        };
        let next = transport::resolve(from, address).ok_or_else(unreadable)?;
        if next.origin() != from.origin() {
            return Err(away(target, &next, "the next page of a list must be on the same host"));
        }
        return Ok(Some(next));
    }
    Ok(None)
}

/// The address that a `Link` header (RFC 8288 section 3) gives for `rel="next"`: `Some(None)` where it gives none,
/// `None` where the header is malformed.
fn next_link(header: &str) -> Option<Option<&str>> {
    let mut rest = header.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let (address, parameters) = rest.strip_prefix('<')?.split_once('>')?;
        rest = parameters.trim_start();
        let mut is_next = None;
        while let Some(text) = rest.strip_prefix(';') {
            let (name, value, after) = parameter(text)?;
            if name.eq_ignore_ascii_case("rel") {
                // Of several, the first counts.
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

/// Name, value and what comes after, of `name=value`, `name="value"` or `name` alone.
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

/// Where the first quote is that no backslash escapes.
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
    fn links() {
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
