//! `taglog witness import`: creates a watch list from files that name images.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use clap::Args;
use serde::Serialize;
use serde_json::json;
use taglog_proto::name::{Repository, Tag};

use crate::commands::{
    context::{Failure, Format, Global, Report, exit},
    session,
    source_options::SourceOptions,
    verify_output::excluded_json,
};
use taglog_image_sources::{self as sources, Excluded, FoundImage, LeftOut, Place, ScanResult};

/// Make a watch list from the files that name images
#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  taglog witness import -f compose.yaml -f Dockerfile >> witness.toml
  taglog witness import -f deploy/
  helm template ./chart | taglog witness import -f -

The output is a part of a configuration: the [[watch]] tables of witness.toml. An image without a tag
counts as 'latest'. A name that the files alone do not determine, such as one with a variable without a
default, is left out with a note, and the exit code is 2.

{}\n\n{}", crate::commands::source_options::FILE_KINDS, crate::commands::context::EXIT_CODES))]
pub struct ImportArgs {
    /// A file, a directory, or '-' for standard input; may be repeated
    #[arg(short, long = "file", required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    sources: SourceOptions,
}

/// Prints the watch list: the `[[watch]]` part of `witness.toml`.
pub fn run(global: &Global, args: &ImportArgs) -> Result<Report, Failure> {
    let policy = session::policy(global)?;
    let found = sources::read_with(&args.files, &args.sources.options(&policy)?).map_err(Failure::usage)?;
    let notes = args.sources.notes(&policy, &found.skipped);
    let list = WatchList::new(found);
    let output = match global.output {
        Format::Json => list.json(),
        Format::Text => list.toml().map_err(Failure::failed)?,
    };
    let exit = if list.left_out.is_empty() { exit::OK } else { exit::USAGE };
    // Of JSON, nobody can put a part into witness.toml.
    let part = list.is_part().filter(|_| global.output == Format::Text);
    Ok(Report { output, notes: list.notes().into_iter().chain(part).chain(notes).collect(), exit })
}

/// The images to watch, and the names that were left out.
struct WatchList {
    watches: BTreeMap<Repository, NamedTags>,
    left_out: Vec<LeftOut>,
    excluded: Vec<Excluded>,
    /// Images without a tag, which there is no need to watch.
    digest_only: Vec<LeftOut>,
}

/// The tags of one repository, and where they are named.
#[derive(Default)]
struct NamedTags {
    tags: BTreeSet<Tag>,
    from: BTreeSet<Place>,
}

/// A `[[watch]]` table of `witness.toml`.
#[derive(Serialize)]
struct WatchTable {
    repository: String,
    tags: Vec<String>,
}

#[derive(Serialize)]
struct WatchTables {
    watch: [WatchTable; 1],
}

impl WatchList {
    fn new(found: ScanResult) -> WatchList {
        let (left_out, excluded) = (found.left_out, found.excluded);
        let mut list = WatchList { watches: BTreeMap::new(), left_out, excluded, digest_only: Vec::new() };
        found.images.into_iter().for_each(|image| list.add(image));
        list
    }

    fn add(&mut self, found: FoundImage) {
        match found.image() {
            Ok(image) => {
                let watch = self.watches.entry(image.repository).or_default();
                watch.tags.insert(image.tag);
                watch.from.insert(found.place);
            }
            Err(digest_only) => {
                self.digest_only.push(LeftOut { place: found.place, reason: digest_only.to_string() });
            }
        }
    }

    fn toml(&self) -> Result<String, toml::ser::Error> {
        let tables = self.watches.iter().map(|(repository, watch)| watch.toml(repository));
        Ok(tables.collect::<Result<Vec<_>, _>>()?.join("\n"))
    }

    fn json(&self) -> String {
        let place = |place: &Place| format!("{}:{}", place.file, place.line);
        let watch = self.watches.iter().map(|(repository, watch)| {
            let from: Vec<String> = watch.from.iter().map(place).collect();
            let WatchTable { repository, tags } = watch.table(repository);
            json!({ "repository": repository, "tags": tags, "from": from })
        });
        let left_out = self
            .left_out
            .iter()
            .chain(&self.digest_only)
            .map(|LeftOut { place, reason }| json!({ "file": place.file, "line": place.line, "reason": reason }));
        let excluded = self.excluded.iter().map(excluded_json);
        format!(
            "{}\n",
            json!({ "watch": Vec::from_iter(watch), "leftOut": Vec::from_iter(left_out), "excluded": Vec::from_iter(excluded) })
        )
    }

    fn notes(&self) -> Vec<String> {
        let nothing =
            self.watches.is_empty().then(|| "nothing to watch: these files name no image with a tag".to_owned());
        let left_out = self.left_out.iter().chain(&self.digest_only);
        let left_out = left_out.map(|LeftOut { place, reason }| format!("{place}: left out: {reason}"));
        let excluded = self.excluded.iter();
        let excluded = excluded.map(|Excluded { place, what, reason }| format!("{place}: excluded: {what}: {reason}"));
        left_out.chain(excluded).chain(nothing).collect()
    }

    /// What to do with the tables.
    fn is_part(&self) -> Option<String> {
        let part = "this is a part of a configuration: put it into witness.toml, below the key and the logs";
        (!self.watches.is_empty()).then(|| part.to_owned())
    }
}

impl NamedTags {
    fn toml(&self, repository: &Repository) -> Result<String, toml::ser::Error> {
        let from: Vec<String> = self.from.iter().map(Place::to_string).collect();
        let tables = toml::to_string(&WatchTables { watch: [self.table(repository)] })?;
        Ok(format!("# from {}\n{tables}", from.join(", ")))
    }

    fn table(&self, repository: &Repository) -> WatchTable {
        WatchTable { repository: repository.to_string(), tags: self.tags.iter().map(Tag::to_string).collect() }
    }
}
