//! The trees whose counters in Redis lack what this process still owes them, in a file beside its journal.
//!
//! The settlements themselves are not kept: what they charge is in the ledger. A process that dies or stops before it has
//! paid leaves the names of the trees to whoever takes its journal over, and these trees' counters are then built anew.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::adopt::sync_directory;
use crate::ids::AccountId;

const FILE: &str = "owed";

/// One process's debts, in memory and in its file.
#[derive(Debug)]
pub(in crate::ledger) struct Owed {
    path: PathBuf,
    /// Whether a name is forced to the disk before what it stands for may happen.
    durable: bool,
    trees: Mutex<Trees>,
}

/// A name stands in the file once, and until all are paid: a rebuild too many does no harm.
#[derive(Debug, Default)]
struct Trees {
    /// What this process owes and will pay if it lives.
    own: HashSet<AccountId>,
    /// What dead processes owed: nobody can pay it any more.
    left: HashSet<AccountId>,
    written: HashSet<AccountId>,
}

impl Owed {
    pub(super) fn new(directory: &Path, durable: bool) -> Owed {
        Owed {
            path: directory.join(FILE),
            durable,
            trees: Mutex::default(),
        }
    }

    /// Before a tree's counters begin to lack something that only this process knows.
    pub(in crate::ledger) fn owe(&self, tree: &AccountId) -> io::Result<()> {
        let mut trees = self.trees();
        if trees.own.contains(tree) {
            return Ok(());
        }
        self.write(&mut trees, tree)?;
        trees.own.insert(tree.clone());
        Ok(())
    }

    /// Redis has been told of everything that this process owed.
    pub(in crate::ledger) fn paid(&self) -> io::Result<()> {
        let mut trees = self.trees();
        trees.own.clear();
        self.remove_if_none(&mut trees)
    }

    /// Trees to which dead processes owed something.
    pub(in crate::ledger) fn left(&self) -> Vec<AccountId> {
        self.trees().left.iter().cloned().collect()
    }

    /// What nobody can pay of a tree, as is known now.
    pub(in crate::ledger) fn leave(&self, tree: &AccountId) -> io::Result<()> {
        let mut trees = self.trees();
        self.write(&mut trees, tree)?;
        trees.left.insert(tree.clone());
        Ok(())
    }

    /// These trees' counters are being built anew, whatever becomes of this process.
    pub(in crate::ledger) fn given_up(&self, given_up: &[AccountId]) -> io::Result<()> {
        let mut trees = self.trees();
        given_up.iter().for_each(|tree| {
            trees.left.remove(tree);
        });
        self.remove_if_none(&mut trees)
    }

    /// Takes over what a dead process owed, before its file goes.
    pub(super) fn take_over(&self, directory: &Path) -> io::Result<()> {
        let bytes = match std::fs::read(directory.join(FILE)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        // What a loss of power damaged is no tree's name, and no harm.
        let text = String::from_utf8_lossy(&bytes);
        text.lines()
            .try_for_each(|tree| self.leave(&AccountId::from(tree)))
    }

    pub(super) fn is_empty(&self) -> bool {
        let trees = self.trees();
        trees.own.is_empty() && trees.left.is_empty()
    }

    fn write(&self, trees: &mut Trees, tree: &AccountId) -> io::Result<()> {
        if trees.written.contains(tree) {
            return Ok(());
        }
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)?;
        file.write_all(format!("{tree}\n").as_bytes())?;
        if self.durable {
            file.sync_data()?;
            if trees.written.is_empty()
                && let Some(directory) = self.path.parent()
            {
                sync_directory(directory)?;
            }
        }
        trees.written.insert(tree.clone());
        Ok(())
    }

    fn remove_if_none(&self, trees: &mut Trees) -> io::Result<()> {
        if !trees.own.is_empty() || !trees.left.is_empty() || trees.written.is_empty() {
            return Ok(());
        }
        remove(self.path.parent().unwrap_or(Path::new(".")))?;
        trees.written.clear();
        Ok(())
    }

    fn trees(&self) -> MutexGuard<'_, Trees> {
        // A panic under the lock leaves at most a name in the file that is not known to be there.
        self.trees.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes the file of a file set, if there is one.
pub(super) fn remove(directory: &Path) -> io::Result<()> {
    match std::fs::remove_file(directory.join(FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_owed_outlives_it_until_the_counters_are_given_up() {
        let (dead, alive) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let [a, b] = ["a", "b"].map(AccountId::from);
        let owed = Owed::new(dead.path(), true);
        owed.owe(&a).unwrap();
        owed.owe(&a).unwrap();
        owed.owe(&b).unwrap();
        assert_eq!(owed.left(), []);

        // The heir dies in its turn.
        let heir = Owed::new(alive.path(), true);
        heir.take_over(dead.path()).unwrap();
        let owed = Owed::new(dead.path(), true);
        owed.take_over(alive.path()).unwrap();
        let mut left = owed.left();
        left.sort();
        assert_eq!(left, [a.clone(), b.clone()]);

        owed.owe(&b).unwrap();
        owed.given_up(&[a, b]).unwrap();
        assert_eq!(owed.left(), []);
        assert!(!owed.is_empty() && dead.path().join(FILE).exists());
        owed.paid().unwrap();
        assert!(owed.is_empty() && !dead.path().join(FILE).exists());
    }
}
