//! Reloads the configuration on SIGHUP and when one of its files changes.
//!
//! Files are watched by looking at them: a few `stat` calls twice a second. Change notifications would come from the
//! files' directories, and the ledger often lies in the same one: each of its writes would then wake the watcher. Looking
//! also sees what notifications miss: a swapped symbolic link above the file (Kubernetes), network file systems. One thread
//! looks again and again: to hand each look to another thread, and its finding back, cost a resting gateway ten times as much.

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_blocking;

use super::{Config, ConfigErrors, DEFAULT_PATH, load};

/// Waits for changes of a configuration's files.
#[derive(Debug)]
pub struct Watch {
    path: Option<PathBuf>,
    hangup: Signal,
    /// Each file as it was when it was last read.
    loaded: Vec<(PathBuf, Stamp)>,
    /// The files that held something when the configuration in force was read.
    filled: Vec<PathBuf>,
}

/// What tells one state of a file from another: device, inode, size, and the times of its last changes in nanoseconds.
/// `None` while there is no file.
type Stamp = Option<(u64, u64, u64, i128, i128)>;

impl Watch {
    /// Watches the files of a configuration that was loaded from `path`. Runs in a tokio runtime.
    ///
    /// # Errors
    /// When the handler for SIGHUP cannot be installed.
    pub fn new(path: Option<&Path>, config: &Config) -> io::Result<Watch> {
        let files = files(path, config);
        let loaded = stamps(files);
        Ok(Watch {
            path: path.map(Path::to_owned),
            hangup: signal(SignalKind::hangup())?,
            filled: filled(&loaded),
            loaded,
        })
    }

    /// Calls `on_reload` with what each change leads to, for ever.
    pub async fn run(mut self, mut on_reload: impl FnMut(Result<Config, ConfigErrors>)) {
        loop {
            on_reload(self.changed().await);
        }
    }

    /// Waits for the next SIGHUP or change, and loads the configuration anew.
    ///
    /// Cancel safe: a change that was not answered is found again.
    ///
    /// # Errors
    /// Every mistake of the new configuration; the same files are not read again until one changes.
    pub async fn changed(&mut self) -> Result<Config, ConfigErrors> {
        let mut torn = 0;
        loop {
            self.settled_change().await;
            let (path, watched) = (self.path.clone(), self.paths());
            let reading = spawn_blocking(move || read_whole(watched, || load(path.as_deref())));
            // Only a runtime that shuts down ends the reading; then nobody waits for the answer.
            let Ok((loaded, before, whole)) = reading.await else {
                continue;
            };
            // Half a file may be a configuration too, one without accounts: it settles, and is read again.
            if !whole && torn < TORN_MAX {
                torn += 1;
                continue;
            }
            self.loaded = before;
            if let Some((file, what)) = self.lost() {
                return Err(ConfigErrors::of_file(&file.to_string_lossy(), what.into()));
            }
            if let Ok(config) = &loaded {
                self.add_files(files(self.path.as_deref(), config));
                self.filled = filled(&self.loaded);
            }
            return loaded;
        }
    }

    /// A file that held something and is empty, or the one at the default place, which is gone. What is read then is a
    /// configuration too, one without keys or prices: to take it would refuse every client, or hold nobody to a budget, because
    /// a disk was full or a writer died.
    fn lost(&self) -> Option<(&Path, &'static str)> {
        let known = |(path, _): &&(PathBuf, Stamp)| self.filled.contains(path);
        let mut filled = self.loaded.iter().filter(known);
        filled.find_map(|(path, stamp)| match stamp {
            Some((_, _, 0, ..)) => Some((path.as_path(), EMPTIED)),
            None if self.path.is_none() && path == Path::new(DEFAULT_PATH) => {
                Some((path.as_path(), GONE))
            }
            _ => None,
        })
    }

    /// Waits for SIGHUP, or for a change of the files.
    async fn settled_change(&mut self) {
        let loaded = self.loaded.clone();
        // Whoever looks ends when this end is dropped.
        let (_waiting, over) = mpsc::channel();
        let change = spawn_blocking(move || look_until_settled(&loaded, &over));
        tokio::select! {
            // `None` comes only when the runtime shuts down.
            Some(()) = self.hangup.recv() => {}
            _ = change => {}
        }
    }

    fn paths(&self) -> Vec<PathBuf> {
        self.loaded.iter().map(|(path, _)| path.clone()).collect()
    }

    /// Watches what the new configuration names; keeps the stamps of what was watched before it was read.
    fn add_files(&mut self, files: Vec<PathBuf>) {
        let known = std::mem::take(&mut self.loaded);
        self.loaded = files
            .into_iter()
            .map(|path| {
                let before = known.iter().find(|(known, _)| *known == path);
                let stamp = before.map_or_else(|| stamp(&path), |(_, stamp)| *stamp);
                (path, stamp)
            })
            .collect();
    }
}

/// The configuration's files, and the place where one would be found when it came without.
fn files(path: Option<&Path>, config: &Config) -> Vec<PathBuf> {
    let mut files = config.files.clone();
    files.push(path.unwrap_or(Path::new(DEFAULT_PATH)).to_owned());
    files.sort();
    files.dedup();
    files
}

/// The files that hold something.
fn filled(files: &[(PathBuf, Stamp)]) -> Vec<PathBuf> {
    let filled = files
        .iter()
        .filter(|(_, stamp)| stamp.is_some_and(|(_, _, size, ..)| size > 0));
    filled.map(|(path, _)| path.clone()).collect()
}

/// Reads, with the files' stamps from before, and whether they were the same afterwards: else what was read may be a part of one
/// that was just being written.
fn read_whole<T>(
    watched: Vec<PathBuf>,
    read: impl FnOnce() -> T,
) -> (T, Vec<(PathBuf, Stamp)>, bool) {
    let before = stamps(watched.clone());
    let found = read();
    let whole = stamps(watched) == before;
    (found, before, whole)
}

/// Looks until the files differ from what was read and stay the same from one look to the next, since editors write in
/// several steps; or until nobody waits any more.
fn look_until_settled(loaded: &[(PathBuf, Stamp)], over: &Receiver<Infallible>) {
    let mut last_look = loaded.to_vec();
    let (mut unsettled, mut pause) = (0, LOOK_EVERY);
    while over.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        let look: Vec<_> = loaded
            .iter()
            .map(|(path, _)| (path.clone(), stamp(path)))
            .collect();
        if look == loaded {
            (unsettled, pause) = (0, LOOK_EVERY);
        } else {
            (unsettled, pause) = (unsettled + 1, SETTLE);
            if look == last_look || unsettled >= LOOKS_MAX {
                return;
            }
        }
        last_look = look;
    }
}

fn stamps(files: Vec<PathBuf>) -> Vec<(PathBuf, Stamp)> {
    files
        .into_iter()
        .map(|path| {
            let stamp = stamp(&path);
            (path, stamp)
        })
        .collect()
}

fn stamp(path: &Path) -> Stamp {
    let facts = std::fs::metadata(path).ok()?;
    let nanoseconds =
        |seconds: i64, part: i64| i128::from(seconds) * 1_000_000_000 + i128::from(part);
    Some((
        facts.dev(),
        facts.ino(),
        facts.size(),
        nanoseconds(facts.mtime(), facts.mtime_nsec()),
        nanoseconds(facts.ctime(), facts.ctime_nsec()),
    ))
}

const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The pause before the next look at files that have just changed.
const SETTLE: Duration = Duration::from_millis(100);

/// What is said of a file that held something.
const EMPTIED: &str = "is empty, expected what it held or something else in its place; to empty it, leave a comment in it";

/// What is said of the configuration at the default place. Who starts without one has the built-in configuration.
const GONE: &str = "is gone, expected what it held or something else in its place";

/// A file that never rests is read after so many looks all the same.
const LOOKS_MAX: u32 = 10;
/// How often what changed while it was read is read again, before it is taken as it is.
const TORN_MAX: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;
    use tokio::sync::mpsc;
    use tokio::time::timeout;

    #[test]
    fn what_changes_while_it_is_read_was_not_read_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("weir.toml");
        fs::write(&path, "[prices]\n").unwrap();
        let read = |change: &dyn Fn()| read_whole(vec![path.clone()], change);
        let ((), before, whole) = read(&|| {});
        assert!(whole);
        let ((), torn_before, whole) =
            read(&|| fs::write(&path, "[prices]\nfiles = []\n").unwrap());
        assert!(!whole);
        assert_eq!(torn_before, before, "the next look finds the change");
    }

    struct Watched {
        directory: TempDir,
        reloads: mpsc::UnboundedReceiver<Result<Config, ConfigErrors>>,
    }

    impl Watched {
        /// A configuration of two files, watched.
        fn start() -> Watched {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("weir.toml");
            fs::write(&path, "[prices]\nfiles = [\"prices.toml\"]\n").unwrap();
            fs::write(directory.path().join("prices.toml"), "").unwrap();
            let config = load(Some(&path)).unwrap();
            let watch = Watch::new(Some(&path), &config).unwrap();
            let (sender, reloads) = mpsc::unbounded_channel();
            tokio::spawn(watch.run(move |reload| {
                let _ = sender.send(reload);
            }));
            Watched { directory, reloads }
        }

        fn write(&self, name: &str, text: &str) {
            // As editors do it: a new file takes the old one's place.
            let new = self.directory.path().join("new");
            fs::write(&new, text).unwrap();
            fs::rename(new, self.directory.path().join(name)).unwrap();
        }

        /// The next reload of which `wanted` holds: a hangup of another test reaches every watch of the process.
        async fn reload(
            &mut self,
            wanted: impl Fn(&Result<Config, ConfigErrors>) -> bool,
        ) -> Result<Config, ConfigErrors> {
            let next = async {
                loop {
                    let reload = self.reloads.recv().await.unwrap();
                    if wanted(&reload) {
                        return reload;
                    }
                }
            };
            timeout(Duration::from_secs(30), next)
                .await
                .expect("the change is seen")
        }
    }

    #[tokio::test]
    async fn a_changed_file_is_read_and_a_bad_one_is_told() {
        let mut watched = Watched::start();
        watched.write("weir.toml", "[server]\nlisten = 9\n");
        let errors = watched.reload(Result::is_err).await.unwrap_err();
        let said = errors.to_string();
        assert!(
            said.contains("weir.toml:2:10: server.listen: is an integer"),
            "{said}"
        );

        watched.write("weir.toml", "[server]\nlisten = \"127.0.0.1:9\"\n");
        let config = watched.reload(Result::is_ok).await.unwrap();
        assert_eq!(config.server.listen, ["127.0.0.1:9".parse().unwrap()]);
    }

    #[tokio::test]
    async fn a_file_that_is_emptied_does_not_take_what_it_held_out_of_force() {
        let mut watched = Watched::start();
        let is_told = |reload: &Result<Config, ConfigErrors>| {
            let errors = reload.as_ref().err();
            errors.is_some_and(|errors| errors.to_string().contains("weir.toml: is empty"))
        };
        watched.write("weir.toml", "");
        watched.reload(is_told).await.unwrap_err();
        // Nor does a hangup, however often it comes.
        hang_up();
        watched.reload(is_told).await.unwrap_err();
        watched.write("weir.toml", "# nothing, and that is meant\n");
        watched.reload(Result::is_ok).await.unwrap();
    }

    #[test]
    fn a_configuration_at_the_default_place_that_is_gone_is_lost() {
        let path = PathBuf::from(DEFAULT_PATH);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let _inside = runtime.enter();
        let mut watch = Watch {
            path: None,
            hangup: signal(SignalKind::hangup()).unwrap(),
            loaded: vec![(path.clone(), None)],
            filled: vec![path.clone()],
        };
        assert_eq!(watch.lost(), Some((path.as_path(), GONE)));
        watch.filled.clear();
        assert_eq!(watch.lost(), None, "there was none before");
    }

    #[tokio::test]
    async fn a_file_that_the_configuration_names_is_watched_too() {
        let mut watched = Watched::start();
        watched.write("prices.toml", "[[models]]\n");
        assert!(watched.reload(Result::is_err).await.is_err());
    }

    #[tokio::test]
    async fn a_swapped_link_above_the_files_is_seen() {
        // Kubernetes mounts a ConfigMap so: weir.toml -> ..data/weir.toml, ..data -> a directory that is replaced.
        let mount = tempfile::tempdir().unwrap();
        let at = |name: &str| mount.path().join(name);
        for (version, text) in [
            ("v1", "[log]\nlevel = \"info\"\n"),
            ("v2", "[log]\nlevel = \"warn\"\n"),
        ] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("weir.toml"), text).unwrap();
        }
        std::os::unix::fs::symlink("v1", at("..data")).unwrap();
        std::os::unix::fs::symlink("..data/weir.toml", at("weir.toml")).unwrap();
        let config = load(Some(&at("weir.toml"))).unwrap();
        let mut watch = Watch::new(Some(&at("weir.toml")), &config).unwrap();

        std::os::unix::fs::symlink("v2", at("..new")).unwrap();
        fs::rename(at("..new"), at("..data")).unwrap();

        let swapped =
            async { while watch.changed().await.unwrap().log.level != tracing::Level::WARN {} };
        timeout(Duration::from_secs(30), swapped).await.unwrap();
    }

    #[tokio::test]
    async fn a_hangup_reloads_without_a_change() {
        let mut watched = Watched::start();
        hang_up();
        assert!(watched.reload(Result::is_ok).await.is_ok());
    }

    fn hang_up() {
        let process = std::process::id().to_string();
        let sent = std::process::Command::new("sh")
            .args(["-c", "kill -HUP \"$0\"", &process])
            .status()
            .unwrap();
        assert!(sent.success());
    }
}
