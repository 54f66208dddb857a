//! What is SQLite's own; what every store does is in `store_tests`.

use jiff::SignedDuration;

use super::*;
use crate::ids::RequestId;
use crate::ledger::samples::{id_at, sample};
use crate::ledger::store_tests::suite;

/// A store and the directory that it lives in.
struct Temporary {
    store: SqliteStore,
    _directory: tempfile::TempDir,
}

impl std::ops::Deref for Temporary {
    type Target = SqliteStore;
    fn deref(&self) -> &SqliteStore {
        &self.store
    }
}

fn temporary() -> Option<Temporary> {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&directory.path().join("weir.db")).unwrap();
    Some(Temporary {
        store,
        _directory: directory,
    })
}

suite!(temporary());

#[test]
fn an_error_of_the_file_names_it() {
    let home = temporary().unwrap();
    home.migrate().unwrap();
    let other = Connection::open(&home.path).unwrap();
    other.execute_batch("DROP TABLE entries").unwrap();
    let error = home.append(&[sample(1)]).unwrap_err().to_string();
    assert!(error.contains(&home.path.display().to_string()), "{error}");
}

#[test]
fn a_store_of_a_newer_weir_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weir.db");
    let store = SqliteStore::open(&path).unwrap();
    store.migrate().unwrap();
    let pen = store.pen();
    pen.connection
        .execute_batch("PRAGMA user_version = 99")
        .unwrap();
    drop(pen);
    let error = SqliteStore::open(&path).unwrap().migrate().unwrap_err();
    assert!(error.to_string().contains("schema version 99"), "{error}");
}

#[test]
fn a_file_that_is_no_database_is_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weir.db");
    std::fs::write(&path, "once upon a time there was a text file\n".repeat(50)).unwrap();
    let opened = SqliteStore::open(&path).and_then(|store| store.migrate());
    assert!(matches!(opened, Err(StoreError::Damaged(_))), "{opened:?}");
}

#[test]
fn the_file_is_readable_by_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let store = temporary().unwrap();
    store.migrate().unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&store.path), 0o600);
    assert_eq!(mode(&store.path.with_extension("db-wal")), 0o600);
}

#[test]
fn two_processes_may_write_and_migrate_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weir.db");
    std::thread::scope(|scope| {
        for writer in 0..3_u64 {
            let path = &path;
            scope.spawn(move || {
                let store = SqliteStore::open(path).unwrap();
                store.migrate().unwrap();
                for round in 0..20 {
                    // Half of the entries are every writer's.
                    let own = sample(1000 * (writer + 1) + round);
                    store.append(&[sample(round), own]).unwrap();
                }
            });
        }
    });
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(store.approximate_entries().unwrap(), 20 + 3 * 20);
}

#[test]
fn a_new_file_may_be_opened_by_many_at_once() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..50 {
        let path = directory.path().join(format!("{round}.db"));
        let together = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    together.wait();
                    SqliteStore::open(&path).unwrap();
                });
            }
        });
    }
}

#[test]
fn the_log_does_not_grow_for_ever_under_steady_writing() {
    let store = temporary().unwrap();
    store.migrate().unwrap();
    let entries: Vec<_> = (0..40_000).map(sample).collect();
    for batch in entries.chunks(1000) {
        store.append(batch).unwrap();
        store.make_durable().unwrap();
    }
    let log = std::fs::metadata(store.path.with_extension("db-wal")).unwrap();
    assert!(log.len() < 16 << 20, "{}", log.len());
}

#[test]
fn the_view_for_people_shows_names_and_times() {
    let store = temporary().unwrap();
    store.migrate().unwrap();
    store.append(&[sample(1)]).unwrap();
    let row: (String, String, i64) = store
        .pen()
        .connection
        .query_row(
            "SELECT started_at, account, cost_picos FROM ledger",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .unwrap();
    assert_eq!(row.0, "2025-03-01T00:00:01.000Z");
    assert_eq!(row.1, "acme-1");
    assert_eq!(i128::from(row.2), sample(1).cost_usd().picos());
}

#[test]
fn a_store_of_schema_2_counts_no_pieces_and_has_its_bills_still() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weir.db");
    let mut entries: Vec<_> = (0..3).map(sample).collect();
    entries[1].id = RequestId(uuid::Builder::from_custom_bytes([1; 16]).into_uuid());
    // As it was once: made a little after the request began.
    entries[2].id = id_at(entries[2].started_at + SignedDuration::from_millis(1), 2);
    {
        let store = SqliteStore::open(&path).unwrap();
        store.migrate().unwrap();
        store.append(&entries).unwrap();
        let before = "ALTER TABLE entries DROP COLUMN file_search_requests;
            ALTER TABLE entries DROP COLUMN code_interpreter_requests;
            ALTER TABLE entries DROP COLUMN images;
            ALTER TABLE entries DROP COLUMN audio_seconds;
            DROP TABLE undated;
            CREATE UNIQUE INDEX entries_by_id ON entries (id);
            PRAGMA user_version = 2";
        store.pen().connection.execute_batch(before).unwrap();
    }
    let store = SqliteStore::open(&path).unwrap();
    store.migrate().unwrap();
    let mut paid = sample(3);
    paid.usage.images = 2;
    paid.usage.audio_seconds = 61;
    let mut again = entries[1].clone();
    again.started_at += SignedDuration::from_hours(1);
    assert_eq!(store.append(&[paid.clone(), again]).unwrap(), 1);
    let mut read = Vec::new();
    let all = &mut |entry| {
        read.push(entry);
        true
    };
    store.scan(&EntryFilter::default(), all).unwrap();
    assert_eq!(read[..3], entries);
    assert_eq!(read[3], paid);
    for (entry, next) in entries.iter().zip(&read[1..]) {
        let after = EntryFilter {
            after: Some(entry.id),
            ..EntryFilter::default()
        };
        let mut found = None;
        let first = &mut |entry: Entry| {
            found = Some(entry.id);
            false
        };
        store.scan(&after, first).unwrap();
        assert_eq!(found, Some(next.id));
    }
}
