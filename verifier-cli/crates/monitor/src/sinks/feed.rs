//! The feed: an Atom file (RFC 4287) with the newest alerts, which is replaced atomically, for a web server to serve.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    str::FromStr as _,
};

use atom_syndication::{Category, Content, Entry, Feed as Atom, FixedDateTime, Generator, Person, Text};
use taglog_base::text::{lines, path_line};
use tempfile::NamedTempFile;

use super::SinkError;
use crate::alert::SequencedAlert;

/// A feed in a file.
#[derive(Debug)]
pub struct Feed {
    path: PathBuf,
    entries: usize,
    log: String,
}

impl Feed {
    /// A feed of at most `entries` alerts about the log with the origin `log`.
    pub fn new(path: PathBuf, entries: usize, log: &str) -> Feed {
        Feed { path, entries, log: log.to_owned() }
    }

    /// The most alerts in the feed.
    pub fn entries(&self) -> usize {
        self.entries
    }

    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Replaces the file by one with these alerts, the newest first.
    ///
    /// # Errors
    /// The old file is unchanged.
    pub fn write(&self, newest: &[SequencedAlert]) -> Result<(), SinkError> {
        let newest = &newest[..newest.len().min(self.entries)];
        let text = self.atom(newest).to_string();
        self.replace(text.as_bytes())
            .map_err(|error| SinkError::Unavailable(format!("feed {}: {error}", path_line(&self.path))))
    }

    fn replace(&self, bytes: &[u8]) -> std::io::Result<()> {
        let directory = self.path.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = NamedTempFile::new_in(directory)?;
        file.write_all(bytes)?;
        readable_by_all(file.as_file())?;
        file.as_file().sync_all()?;
        file.persist(&self.path).map_err(|error| error.error)?;
        std::fs::File::open(directory)?.sync_all()
    }

    fn atom(&self, newest: &[SequencedAlert]) -> Atom {
        Atom {
            title: Text::plain(format!("taglog alerts about {}", self.log)),
            id: format!("urn:taglog:alerts:{}", self.log),
            updated: newest.first().map_or_else(|| time("1970-01-01T00:00:00Z"), |newest| time(&newest.alert.time)),
            authors: vec![Person { name: "taglog monitor".to_owned(), ..Person::default() }],
            generator: Some(Generator { value: "taglog".to_owned(), ..Generator::default() }),
            entries: newest.iter().map(entry).collect(),
            ..Atom::default()
        }
    }
}

fn entry(sequenced: &SequencedAlert) -> Entry {
    let alert = &sequenced.alert;
    Entry {
        title: Text::plain(lines(&alert.message)),
        id: format!("urn:taglog:alert:{}", alert.id),
        updated: time(&alert.time),
        published: Some(time(&alert.time)),
        categories: vec![Category { term: alert.kind.as_str().to_owned(), ..Category::default() }],
        content: Some(Content {
            value: Some(lines(&format!("{:#}", sequenced.to_json()))),
            content_type: Some("text".to_owned()),
            ..Content::default()
        }),
        ..Entry::default()
    }
}

/// Times of alerts are in RFC 3339, which always parses.
fn time(text: &str) -> FixedDateTime {
    FixedDateTime::from_str(text).unwrap_or_default()
}

/// A web server runs as another user.
fn readable_by_all(file: &std::fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::tests::alert;

    fn feed(home: &tempfile::TempDir, entries: usize) -> Feed {
        Feed::new(home.path().join("alerts.xml"), entries, "log.example/x")
    }

    fn parsed(feed: &Feed) -> feed_rs::model::Feed {
        feed_rs::parser::parse(std::fs::read(&feed.path).unwrap().as_slice()).unwrap()
    }

    #[test]
    fn another_parser_reads_the_feed() {
        let home = tempfile::tempdir().unwrap();
        let feed = feed(&home, 2);
        let newest = [alert(3), alert(2), alert(1)];
        feed.write(&newest).unwrap();
        let read = parsed(&feed);
        assert_eq!(read.feed_type, feed_rs::model::FeedType::Atom);
        assert_eq!(read.id, "urn:taglog:alerts:log.example/x");
        assert_eq!(read.entries.len(), 2, "bounded");
        for (entry, alert) in read.entries.iter().zip(&newest) {
            assert_eq!(entry.id, format!("urn:taglog:alert:{}", alert.alert.id));
            assert_eq!(entry.title.as_ref().unwrap().content, alert.alert.message);
            assert_eq!(entry.updated.unwrap().to_rfc3339(), alert.alert.time.replace('Z', "+00:00"));
            let body = entry.content.as_ref().unwrap().body.as_ref().unwrap();
            assert_eq!(serde_json::from_str::<serde_json::Value>(body).unwrap(), alert.to_json());
            assert_eq!(entry.categories[0].term, "retag");
        }
    }

    #[test]
    fn the_feed_is_replaced_without_temporary_files_left() {
        let home = tempfile::tempdir().unwrap();
        let feed = feed(&home, 5);
        assert!(!feed.exists());
        feed.write(&[]).unwrap();
        assert!(feed.exists() && parsed(&feed).entries.is_empty());
        let mut hostile = alert(1);
        hostile.alert.message = "</title>\u{1}<script>".to_owned();
        feed.write(&[hostile]).unwrap();
        assert_eq!(parsed(&feed).entries[0].title.as_ref().unwrap().content, r"</title>\u0001<script>");
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_feed_that_cannot_be_written_is_reported_with_its_path() {
        let feed = Feed::new(PathBuf::from("/nonexistent/feed.xml"), 5, "log.example/x");
        assert!(matches!(feed.write(&[]), Err(SinkError::Unavailable(why)) if why.contains("/nonexistent/feed.xml")));
    }
}
