//! What is PostgreSQL's own, beside what every store must do.

use super::connections::failed;
use super::*;
use crate::ledger::samples::sample;
use crate::ledger::store_tests::suite;

/// A store in a database of its own, which goes with it.
struct Temporary {
    store: PostgresStore,
    url: Secret,
    server: PostgresStore,
    database: String,
}

impl std::ops::Deref for Temporary {
    type Target = PostgresStore;
    fn deref(&self) -> &PostgresStore {
        &self.store
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.database);
        let _ = execute(&self.server, &drop);
    }
}

fn execute(store: &PostgresStore, sql: &str) -> Result<(), StoreError> {
    store.connections.call(READ_TIMEOUT, async |connection| {
        connection.batch_execute(sql).await.map_err(failed)
    })
}

/// `tests/with-services` starts a server and names it.
fn temporary() -> Option<Temporary> {
    let Ok(server) = std::env::var("WEIR_TEST_POSTGRES") else {
        println!("skipped: WEIR_TEST_POSTGRES names no server (run it under tests/with-services)");
        return None;
    };
    let database = format!("weir_{}", uuid::Uuid::now_v7().simple());
    let (base, _) = server.rsplit_once('/').unwrap();
    let url = Secret::new(format!("{base}/{database}"));
    let server = PostgresStore::new(&Secret::new(server)).unwrap();
    execute(&server, &format!("CREATE DATABASE {database}")).unwrap();
    Some(Temporary {
        store: PostgresStore::new(&url).unwrap(),
        url,
        server,
        database,
    })
}

suite!(temporary());

#[test]
fn several_gateways_migrate_and_write_at_once_without_waiting_in_a_circle() {
    let Some(home) = temporary() else { return };
    let url = &home.url;
    std::thread::scope(|scope| {
        for gateway in 0..4_u64 {
            scope.spawn(move || {
                let store = PostgresStore::new(url).unwrap();
                store.migrate().unwrap();
                for round in 0..10 {
                    // Rows of the same rollups in another order each time; half of the entries are everyone's.
                    let mut batch: Vec<Entry> =
                        (0..20)
                            .map(|number| sample(round * 100 + number))
                            .chain((0..20).map(|number| {
                                sample(10_000 * (gateway + 1) + round * 100 + number)
                            }))
                            .collect();
                    batch.rotate_left(usize::try_from(gateway * 7).unwrap());
                    store.append(&batch).unwrap();
                }
            });
        }
    });
    assert_eq!(home.approximate_entries().unwrap(), 10 * 20 + 4 * 10 * 20);
}

#[test]
fn entries_lie_in_the_partition_of_their_month() {
    let Some(home) = temporary() else { return };
    home.migrate().unwrap();
    let mut recent = sample(1);
    recent.id = crate::ids::RequestId::new();
    let mut strange = sample(2);
    strange.id = crate::ids::RequestId(uuid::Uuid::from_u128(7));
    home.append(&[sample(3), recent, strange]).unwrap();
    let counts: Vec<i64> = home
        .connections.call(READ_TIMEOUT, async |connection| {
            let sql = "SELECT (SELECT count(*) FROM entries_other), (SELECT count(*) FROM entries_2025_03)";
            let row = connection.query_one(sql, &[]).await.map_err(failed)?;
            Ok(vec![row.get(0), row.get(1)])
        })
        .unwrap();
    assert_eq!(counts, [1, 1]);
    assert!(!home.partitions.is_due(Timestamp::now()), "made ahead");
}

#[test]
fn zero_bytes_in_texts_are_dropped() {
    let Some(home) = temporary() else { return };
    home.migrate().unwrap();
    let mut entry = sample(1);
    entry.end_user = Some("a\0b".into());
    entry.tags = vec![("feature".into(), "x\0y".into())];
    home.append(std::slice::from_ref(&entry)).unwrap();
    let mut found = None;
    home.scan(&EntryFilter::default(), &mut |entry| {
        found = Some(entry);
        true
    })
    .unwrap();
    assert_eq!(found.unwrap().end_user.as_deref(), Some("ab"));
}
