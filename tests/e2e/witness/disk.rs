//! Full disks and damaged files: no signed entry is lost, and what cannot be stored is not signed.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use taglog_proto::{name::Digest, time::Timestamp};
use taglog_tests::{
    Status,
    hostile_registry::{ManifestResponse, manifest_of_size},
};

use taglog_tests::agent_fixture::{
    AgentFixture, digest_of, forwarder::Forwarder, logged, pending, wait_for_agent, watch,
};

const KIB: usize = 1 << 10;

/// A fixture whose log can be cut off, and several tags.
struct SpoolFixture {
    fixture: AgentFixture,
    forwarder: Forwarder,
    images: Vec<String>,
}

impl SpoolFixture {
    /// With the log cut off.
    fn new(settings: &[(&str, &str)], tags: usize) -> SpoolFixture {
        let fixture = AgentFixture::new();
        let forwarder = Forwarder::to(&fixture.server.url);
        forwarder.cut();
        fixture.agent.trust("trust", &fixture.server.vkey, &forwarder.url);
        let images: Vec<String> = (0..tags).map(|number| format!("team/app:{number}")).collect();
        fixture.configure(
            settings,
            &[watch(&fixture.registry, &images.iter().map(String::as_str).collect::<Vec<_>>(), "")],
        );
        SpoolFixture { fixture, forwarder, images }
    }

    /// Moves all tags to large manifests.
    fn set(&self, content: &str) {
        for image in &self.images {
            self.fixture.registry.set(image, ManifestResponse::Serves(large(content)));
        }
    }

    fn names(&self) -> Vec<String> {
        self.images.iter().map(|image| self.fixture.registry.name(image)).collect()
    }

    /// What of the tags is signed: image, digest, time.
    fn signed(&self, status: &Status) -> Vec<(String, String, Timestamp)> {
        let row = |name: String| {
            let tag = status.tag(&name);
            let (seen, observed) = (tag["seen"].as_str()?.to_owned(), tag["observed"].as_str()?.parse().unwrap());
            Some((name, seen, observed))
        };
        self.names().into_iter().filter_map(row).collect()
    }

    /// Checks that the log has each of these, dated as it was signed.
    fn has_arrived(&self, signed: &[(String, String, Timestamp)]) {
        for (name, seen, observed) in signed {
            wait_for_agent(&self.fixture.agent, &format!("{seen} of {name}, dated {observed}, in the log"), || {
                logged(&self.fixture.server, name).contains(&(seen.clone(), *observed)).then_some(())
            });
        }
    }

    /// Waits until the log has exactly these large contents of every tag.
    fn wait_logged(&self, contents: &[&str]) {
        let want: Vec<String> = contents.iter().map(|content| digest_of_large(content)).collect();
        for name in self.names() {
            let has = wait_for_agent(&self.fixture.agent, &format!("{contents:?} of {name} in the log"), || {
                let has: Vec<String> = logged(&self.fixture.server, &name).into_iter().map(|(seen, _)| seen).collect();
                (has.len() >= want.len()).then_some(has)
            });
            assert_eq!(has, want, "{name}");
        }
    }

    fn wait_alarm(&mut self, kind: &str) -> Status {
        self.fixture.agent.wait_until(&format!("the alarm {kind}"), |status| status.alarms().contains(&kind))
    }

    fn wait_calm(&mut self) {
        let server = &self.fixture.server;
        let calm = |status: &Status| status.alarms().is_empty() && pending(status, server) == 0;
        self.fixture.agent.wait_until("the end of the alarm, and delivery", calm);
    }
}

fn large(content: &str) -> Vec<u8> {
    manifest_of_size(content, 200 * KIB)
}

fn digest_of_large(content: &str) -> String {
    Digest::sha256(&large(content)).to_string()
}

/// The log is unreachable for so long that the spool reaches its limit.
#[test]
fn a_spool_at_its_limit_signs_nothing_more_and_loses_nothing() {
    // An entry takes over half a kilobyte, with what is remembered of its tag.
    let mut disk = SpoolFixture::new(&[("spool-limit-mib", "1"), ("gone-looks", "2"), ("interval", "\"5s\"")], 2500);
    for image in &disk.images {
        disk.fixture.registry.set(image, ManifestResponse::serves("one"));
    }
    disk.fixture.start();
    let status = disk.wait_alarm("spool");
    assert_eq!(status.exit_code(), 3);
    let signed = disk.signed(&status);
    assert!(!signed.is_empty() && signed.len() < disk.images.len(), "{} signed", signed.len());

    disk.forwarder.turn_to(&disk.fixture.server.url);
    disk.wait_calm();
    disk.has_arrived(&signed);
    let one = digest_of("one");
    let names = disk.names();
    disk.fixture
        .agent
        .wait_until("everything to be signed", |status| names.iter().all(|name| status.seen(name) == Some(&*one)));
    disk.wait_calm();
    for name in &names {
        let has: Vec<String> = logged(&disk.fixture.server, name).into_iter().map(|(seen, _)| seen).collect();
        assert_eq!(has, std::slice::from_ref(&one), "{name}");
    }
}

/// Manifests are wanted, entries are needed: where there is no room for both, the entries are kept.
#[test]
fn large_manifests_do_not_displace_entries() {
    let mut disk = SpoolFixture::new(&[("spool-limit-mib", "1"), ("gone-looks", "2")], 12);
    for (number, image) in disk.images.iter().enumerate() {
        disk.fixture.registry.set(image, ManifestResponse::Serves(large(&number.to_string())));
    }
    disk.fixture.start();
    let names = disk.names();
    let want: Vec<String> = (0..names.len()).map(|number| digest_of_large(&number.to_string())).collect();
    let status = disk.fixture.agent.wait_until("all of them to be signed", |status| {
        names.iter().zip(&want).all(|(name, digest)| status.seen(name) == Some(&**digest))
    });
    assert_eq!(status.alarms(), [""; 0]);
    disk.forwarder.turn_to(&disk.fixture.server.url);
    disk.wait_calm();
}

/// A small file system of its own. Dropping this unmounts it.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where this user may not mount anything.
    fn mount(path: PathBuf, kib: usize) -> Option<SmallDisk> {
        std::fs::create_dir_all(&path).unwrap();
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "tmpfs"]).arg(&path).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(SmallDisk(path))
    }

    /// Takes all that is free.
    fn fill(&self) {
        let mut ballast = std::fs::File::options().append(true).create(true).open(self.ballast()).unwrap();
        while ballast.write_all(&[0; KIB]).is_ok() {}
    }

    fn empty(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the agent may still hold files open.
        drop(Command::new("umount").arg("--lazy").arg(&self.0).status());
    }
}

#[test]
fn a_full_disk_is_named_and_loses_nothing() {
    let mut disk = SpoolFixture::new(&[("gone-looks", "2")], 3);
    let Some(small) = SmallDisk::mount(disk.fixture.agent.path("state"), 4 * KIB) else {
        println!("skipped: this user may not mount a file system");
        return;
    };
    disk.set("one");
    disk.fixture.start();
    let names = disk.names();
    let all_seen = |content: &'static str| {
        let (names, want) = (names.clone(), digest_of_large(content));
        move |status: &Status| names.iter().all(|name| status.seen(name) == Some(&*want))
    };
    let status = disk.fixture.agent.wait_until("the first reports", all_seen("one"));
    let signed = disk.signed(&status);

    small.fill();
    disk.set("two");
    let status = disk.wait_alarm("spool");
    assert_eq!(status.exit_code(), 3);
    let images: Vec<&str> = disk.images.iter().map(String::as_str).collect();
    disk.fixture.wait_polls(&images, 3);

    small.empty();
    disk.fixture.agent.wait_until("the second reports", all_seen("two"));
    disk.forwarder.turn_to(&disk.fixture.server.url);
    disk.has_arrived(&signed);
    disk.wait_logged(&["one", "two"]);
    disk.wait_calm();
}

/// Overwrites the pages that this chooses, by number and content; at least one.
fn overwrite(file: &Path, chosen: impl Fn(usize, &[u8]) -> bool) {
    let mut bytes = std::fs::read(file).unwrap();
    let page = match u16::from_be_bytes([bytes[16], bytes[17]]) {
        1 => 1 << 16,
        size => usize::from(size),
    };
    let mut count = 0;
    for (number, content) in bytes.chunks_mut(page).enumerate() {
        if chosen(number, content) {
            content.fill(0xa5);
            count += 1;
        }
    }
    assert!(count > 0, "nothing to damage");
    std::fs::write(file, bytes).unwrap();
}

fn holds_an_entry(page: &[u8]) -> bool {
    page.windows(19).any(|window| window == b"taglog/observation@")
}

fn damage(chosen: impl Fn(usize, &[u8]) -> bool) {
    let mut disk = SpoolFixture::new(&[("gone-looks", "2")], 8);
    for image in &disk.images {
        disk.fixture.registry.set(image, ManifestResponse::serves("one"));
    }
    disk.fixture.start();
    let (names, one) = (disk.names(), digest_of("one"));
    let all_seen = |status: &Status| names.iter().all(|name| status.seen(name) == Some(&*one));
    let status = disk.fixture.agent.wait_until("the first reports", all_seen);
    assert!(pending(&status, &disk.fixture.server) >= 8, "{status:?}");
    let signed = disk.signed(&status);
    disk.fixture.agent.terminate();
    overwrite(&disk.fixture.agent.path("state/spool.sqlite"), chosen);

    disk.fixture.start();
    let status = disk.wait_alarm("spool-damaged");
    assert_eq!(status.exit_code(), 3);
    let message = status.alarm("spool-damaged").unwrap().to_string();
    let aside = std::fs::read_dir(disk.fixture.agent.path("state")).unwrap().map(|entry| entry.unwrap().path());
    let aside: Vec<PathBuf> = aside.filter(|path| path.to_string_lossy().contains("damaged")).collect();
    assert!(aside.iter().any(|path| message.contains(path.to_str().unwrap())), "{message} does not name {aside:?}");

    disk.forwarder.turn_to(&disk.fixture.server.url);
    disk.has_arrived(&signed);
    for image in &disk.images {
        disk.fixture.wait_logged(image, &["one"]);
        disk.fixture.registry.set(image, ManifestResponse::serves("two"));
    }
    for image in &disk.images {
        disk.fixture.wait_logged(image, &["one", "two"]);
    }
    // It stays until a person has seen it.
    assert!(disk.fixture.agent.status().alarms().contains(&"spool-damaged"));
    let acknowledged = disk.fixture.agent.command("status").arg("--acknowledge").status().unwrap();
    assert!(acknowledged.code().is_some());
    disk.wait_calm();
}

#[test]
fn undelivered_entries_are_recovered_from_a_spool_without_its_first_page() {
    damage(|number, _| number == 0);
}

#[test]
fn entries_are_recovered_from_a_spool_with_nothing_else_left() {
    damage(|_, page| !holds_an_entry(page));
}

/// A database that is none at all, and holds nothing: it is set aside, and the agent begins anew.
#[test]
fn an_unreadable_spool_is_set_aside() {
    let mut disk = SpoolFixture::new(&[], 1);
    disk.forwarder.turn_to(&disk.fixture.server.url);
    disk.fixture.registry.set(&disk.images[0], ManifestResponse::serves("one"));
    std::fs::create_dir_all(disk.fixture.agent.path("state")).unwrap();
    disk.fixture.agent.write("state/spool.sqlite", &"no database ".repeat(1000));
    disk.fixture.start();
    disk.wait_alarm("spool-damaged");
    disk.fixture.wait_logged(&disk.images[0], &["one"]);
}
