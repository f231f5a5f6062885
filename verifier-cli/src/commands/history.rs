//! `taglog history`: every digest that a tag has pointed to.

use clap::Args;
use serde_json::json;

use super::{
    context::{Failure, Format, Global, Report, exit},
    output,
    session::{Session, now, parse_reference},
};
use taglog_log_client::lookup::look_up;

/// Show every digest a tag has ever pointed to, who saw it and when, newest last
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taglog history busybox:1.36.1
  taglog history --output json registry.example/team/app:v1

Exit code 1 says that nothing is logged for the tag.")]
pub struct HistoryArgs {
    /// The image: repository:tag
    image: String,
}

/// Looks the image up in the log; the registry is not asked.
pub async fn run(global: &Global, args: HistoryArgs) -> Result<Report, Failure> {
    let (image, _) = parse_reference(&args.image)?;
    let session = Session::open(global)?;
    let (client, log) = (session.client()?, &session.trust.log);
    let remembered = session.memory.load(log).map_err(Failure::usage)?;
    let looked = look_up(&client, &session.trust, std::slice::from_ref(&image), remembered.as_ref())
        .await
        .map_err(|error| session.failure(error))?;
    if let Some(newest) = looked.newest() {
        session.memory.advance(log, remembered.as_ref(), newest).map_err(Failure::usage)?;
    }
    let (Some(part), Some(report)) = (looked.oldest(), looked.report(&image)) else {
        return Err(Failure::failed("the log did not answer"));
    };
    let known = !report.witnesses.is_empty();
    let output = match global.output {
        Format::Json => {
            let body = json!({
                "image": image.to_string(),
                "repositoryCovered": report.repository_covered,
                "history": output::history_json(report),
                "log": output::log_json(part, now()),
            });
            format!("{body}\n")
        }
        Format::Text if known => {
            format!("{image}\n{}{}", output::history_lines(report, "  "), output::log_lines(part, now()))
        }
        Format::Text if report.repository_covered => format!("{image}: nothing is logged for this tag\n"),
        Format::Text => format!("{image}: nothing is logged for this repository\n"),
    };
    Ok(Report { output, notes: Vec::new(), exit: if known { exit::OK } else { exit::VERDICT } })
}
