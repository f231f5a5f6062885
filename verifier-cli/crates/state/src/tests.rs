use std::{fs, path::PathBuf};

use proptest::prelude::*;
use taglog_base::directory_lock::LockFile;

use super::*;

const FILE: StateFile = StateFile {
    version: 3,
    tables:
        "CREATE TABLE item (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT; CREATE INDEX by_text ON item (text);
        CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT) STRICT;",
    integrity: IntegrityCheck::Quick,
    busy: Duration::from_secs(5),
};

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Home {
        Home(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("state.sqlite")
    }

    /// A closed file with this many items.
    fn with_items(count: i64) -> Home {
        let home = Home::new();
        let connection = FILE.open(&home.path()).unwrap();
        let transaction = connection.unchecked_transaction().unwrap();
        for id in 0..count {
            let text = format!("{id:05} {}", "x".repeat(100));
            transaction.execute("INSERT INTO item VALUES (?1, ?2)", (id, text)).unwrap();
        }
        transaction.commit().unwrap();
        drop(connection);
        home
    }

    fn sql(&self, sql: &str) {
        Connection::open(self.path()).unwrap().execute_batch(sql).unwrap();
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.path()).unwrap()
    }

    fn error(&self) -> OpenError {
        FILE.open(&self.path()).map(|_| ()).unwrap_err()
    }
}

fn count(connection: &Connection) -> i64 {
    connection.query_row("SELECT count(*) FROM item", [], |row| row.get(0)).unwrap()
}

fn pragma<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> T {
    connection.pragma_query_value(None, name, |row| row.get(0)).unwrap()
}

fn is_damaged(error: &OpenError) -> bool {
    matches!(error, OpenError::Damaged { .. })
}

#[test]
fn a_new_file_has_tables_version_and_settings() {
    let home = Home::new();
    for name in ["new", "existing"] {
        for connection in [FILE.open(&home.path()).unwrap(), FILE.connect(&home.path()).unwrap()] {
            assert_eq!(count(&connection), 0, "{name}");
            assert_eq!(pragma::<i64>(&connection, "user_version"), 3, "{name}");
            assert_eq!(pragma::<String>(&connection, "journal_mode"), "wal", "{name}");
            assert_eq!(pragma::<i64>(&connection, "synchronous"), 2, "{name}");
            assert_eq!(pragma::<i64>(&connection, "foreign_keys"), 1, "{name}");
            assert_eq!(pragma::<i64>(&connection, "busy_timeout"), 5000, "{name}");
        }
    }
}

#[test]
fn a_new_file_is_filled_once_and_together_with_its_tables() {
    let home = Home::new();
    let fails = |_: &Connection| Err(rusqlite::Error::InvalidQuery);
    let error = FILE.open_or_create(&home.path(), fails).map(|_| ()).unwrap_err();
    assert!(matches!(error, OpenError::Sqlite { .. }), "{error}");
    for _ in 0..2 {
        let fill = |connection: &Connection| connection.execute("INSERT INTO item VALUES (1, 'x')", []).map(drop);
        assert_eq!(count(&FILE.open_or_create(&home.path(), fill).unwrap()), 1);
    }
}

#[test]
fn a_file_that_another_connection_has_made_meanwhile_is_not_made_again() {
    let home = Home::new();
    let fill = |connection: &Connection| connection.execute("INSERT INTO item VALUES (1, 'x')", []).map(drop);
    let begin = || FILE.begin(&home.path(), OpenFlags::default()).unwrap();
    let (first, second) = (begin(), begin());
    assert!(is_empty(&first).unwrap() && is_empty(&second).unwrap());
    FILE.create(&first, fill).unwrap();
    FILE.create(&second, fill).unwrap();
    assert_eq!(count(&second), 1);
}

#[test]
fn a_file_of_this_version_is_opened_and_kept() {
    let home = Home::with_items(1000);
    for integrity in [IntegrityCheck::Full, IntegrityCheck::Quick, IntegrityCheck::ByContent] {
        let file = StateFile { integrity, ..FILE };
        assert_eq!(count(&file.open(&home.path()).unwrap()), 1000);
        assert_eq!(count(&file.open_existing(&home.path()).unwrap()), 1000);
        assert_eq!(count(&file.open_read_only(&home.path()).unwrap()), 1000);
    }
}

/// Files of programs before this crate: the same tables, made statement by statement, not yet in WAL mode or already.
#[test]
fn a_file_that_was_made_in_another_way_is_opened() {
    for mode in ["DELETE", "WAL"] {
        let home = Home::new();
        let tables = FILE.tables;
        home.sql(&format!("PRAGMA journal_mode = {mode}; BEGIN; {tables} PRAGMA user_version = 3; COMMIT;"));
        let connection = FILE.open(&home.path()).unwrap();
        assert_eq!(pragma::<String>(&connection, "journal_mode"), "wal", "{mode}");
    }
}

#[test]
fn a_newer_version_is_refused_and_left_alone() {
    let home = Home::with_items(10);
    home.sql("PRAGMA user_version = 4; PRAGMA journal_mode = DELETE; DROP TABLE item;");
    let before = home.bytes();
    for opened in [FILE.open(&home.path()), FILE.open_existing(&home.path()), FILE.open_read_only(&home.path())] {
        let error = opened.unwrap_err();
        assert!(matches!(error, OpenError::NewerVersion { version: 4, known: 3, .. }), "{error}");
        assert!(error.to_string().contains("newer version of taglog"), "{error}");
    }
    assert_eq!(home.bytes(), before);
}

#[test]
fn an_sqlite_file_with_other_tables_is_refused_and_left_alone() {
    for sql in [
        "CREATE TABLE other (x)",
        "PRAGMA user_version = 3; CREATE TABLE other (x)",
        "PRAGMA user_version = 3; CREATE TABLE item (x)",
        "PRAGMA user_version = 1; CREATE TABLE item (x); CREATE TABLE counted (x)",
        "PRAGMA user_version = -3; CREATE TABLE item (x); CREATE TABLE counted (x)",
    ] {
        let home = Home::new();
        home.sql(sql);
        let before = home.bytes();
        let error = home.error();
        assert!(matches!(error, OpenError::OtherFile { .. }), "{sql}: {error}");
        assert_eq!(home.bytes(), before, "{sql}");
    }
}

#[test]
fn only_an_empty_file_is_made_into_a_new_one() {
    let home = Home::new();
    let missing = FILE.open_existing(&home.path()).unwrap_err();
    assert!(matches!(missing, OpenError::Sqlite { .. }), "{missing}");
    assert!(FILE.open_read_only(&home.path()).is_err() && FILE.connect(&home.path()).is_err());
    assert!(!home.path().exists(), "only `open` makes files");
    fs::write(home.path(), "").unwrap();
    for opened in [FILE.open_existing(&home.path()), FILE.open_read_only(&home.path())] {
        let error = opened.unwrap_err();
        assert!(error.to_string().contains("is damaged: it has no tables"), "{error}");
    }
    FILE.open(&home.path()).unwrap();
}

#[test]
fn what_is_no_database_is_damaged() {
    let home = Home::new();
    for text in ["short", &"some text that is longer than the header of a database. ".repeat(200)] {
        fs::write(home.path(), text).unwrap();
        let error = home.error();
        assert!(is_damaged(&error), "{error}");
        assert_eq!(home.bytes(), text.as_bytes());
    }
}

#[test]
fn damage_is_found_at_the_header_at_the_end_and_in_between() {
    let whole = Home::with_items(1000).bytes();
    type Damage<'a> = (&'a str, &'a dyn Fn(&mut Vec<u8>));
    let damages: [Damage<'_>; 5] = [
        ("header", &|bytes| bytes[..100].fill(0xa5)),
        ("first page", &|bytes| bytes[..4096].fill(0xa5)),
        ("a page of a table", &|bytes| bytes[40_960..45_056].fill(0xa5)),
        ("cut in the middle of a page", &|bytes| bytes.truncate(bytes.len() / 2 + 100)),
        ("cut between pages", &|bytes| bytes.truncate(bytes.len() / 8192 * 4096)),
    ];
    for (name, damage) in damages {
        let home = Home::new();
        let mut bytes = whole.clone();
        damage(&mut bytes);
        fs::write(home.path(), &bytes).unwrap();
        let error = home.error();
        assert!(is_damaged(&error), "{name}: {error}");
    }
}

/// The full check finds an index entry that is not its row's; the quick one only counts entries.
#[test]
fn the_full_check_compares_indexes_with_their_tables() {
    let home = Home::with_items(10);
    let set_index = |sql: &str| {
        home.sql(&format!(
            "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = '{sql}' WHERE name = 'by_text'"
        ));
    };
    // For a while, SQLite takes the index for one that has none of the rows, and does not change it with them.
    set_index("CREATE INDEX by_text ON item (text) WHERE id < 0");
    home.sql("UPDATE item SET text = 'other' WHERE id = 3");
    set_index("CREATE INDEX by_text ON item (text)");
    FILE.open(&home.path()).expect("a quick check compares no entry of an index");
    let full = StateFile { integrity: IntegrityCheck::Full, ..FILE };
    assert!(is_damaged(&full.open(&home.path()).unwrap_err()));
}

#[test]
fn what_a_crash_left_in_the_write_ahead_log_is_there() {
    let (home, copy) = (Home::new(), Home::new());
    let connection = FILE.open(&home.path()).unwrap();
    connection.execute("INSERT INTO item VALUES (1, 'committed')", []).unwrap();
    connection.execute_batch("BEGIN; INSERT INTO item VALUES (2, 'not committed')").unwrap();
    // As a crash leaves them: neither closed nor copied into the database.
    let beside = |home: &Home, suffix: &str| PathBuf::from(format!("{}{suffix}", home.path().display()));
    for suffix in ["", "-wal"] {
        fs::copy(beside(&home, suffix), beside(&copy, suffix)).unwrap();
    }
    assert!(fs::metadata(beside(&copy, "-wal")).unwrap().len() > 0);
    assert_eq!(count(&FILE.open_read_only(&copy.path()).unwrap()), 1);
    assert_eq!(count(&FILE.open(&copy.path()).unwrap()), 1);
}

#[test]
fn a_full_file_and_a_bad_value_are_told_apart_from_other_failures() {
    let home = Home::with_items(100);
    let connection = FILE.open(&home.path()).unwrap();
    connection.pragma_update(None, "max_page_count", 1).unwrap();
    let insert = "INSERT INTO item SELECT id + 1000, text FROM item";
    let kind = |error: rusqlite::Error| FailureKind::of(&error);
    assert_eq!(kind(connection.execute(insert, []).unwrap_err()), FailureKind::Full);
    assert_eq!(kind(connection.execute("INSERT INTO nothing VALUES (1)", []).unwrap_err()), FailureKind::Other);
    let text_as_number = connection.query_row("SELECT text FROM item", [], |row| row.get::<_, i64>(0));
    assert_eq!(kind(text_as_number.unwrap_err()), FailureKind::Damaged);
}

#[test]
fn a_lock_that_is_held_is_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let lock = LockFile { name: "lock", program: "test", remedy: "wait for it" };
    let _held = lock.acquire(directory.path()).unwrap();
    assert!(OpenError::from(lock.acquire(directory.path()).unwrap_err()).is_in_use());
    assert!(!OpenError::Full { path: PathBuf::new() }.is_in_use());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever bytes are changed or cut off, opening ends, and says something of this file or gives a usable connection.
    #[test]
    fn any_damage_ends_in_an_error_or_a_connection(
        at in 0_usize..120_000, length in 1_usize..5000, value: u8, cut in 0_usize..120_000, cuts: bool,
    ) {
        let home = Home::with_items(500);
        let mut bytes = home.bytes();
        let at = at % bytes.len();
        let end = bytes.len().min(at + length);
        bytes[at..end].fill(value);
        if cuts {
            bytes.truncate(cut % bytes.len());
        }
        fs::write(home.path(), &bytes).unwrap();
        match FILE.open(&home.path()) {
            Ok(connection) => {
                connection.query_row("SELECT count(*), max(text) FROM item NOT INDEXED", [], |_| Ok(())).unwrap();
            }
            Err(error) => prop_assert!(error.to_string().contains("state.sqlite"), "{error}"),
        }
    }
}
