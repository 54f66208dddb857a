//! Misfortune on command: see `misfortune.c`.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use super::Gateway;

/// A gateway under misfortune, with these settings; `None`, and a line that says so, where there is no C compiler.
pub async fn start(settings: &[&str], config: &str) -> Option<Gateway> {
    let mut gateway = prepare(settings, config)?;
    gateway.restart().await;
    Some(gateway)
}

/// As [`start`], but only its files: [`Gateway::restart`] starts it.
pub fn prepare(settings: &[&str], config: &str) -> Option<Gateway> {
    let wrapper = under(settings)?;
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    Some(Gateway::prepare(&wrapper, config))
}

/// The words that put a process under misfortune.
fn under(settings: &[&str]) -> Option<Vec<String>> {
    static LIBRARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let library = LIBRARY.get_or_init(|| {
        let library = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("misfortune-{}.so", std::process::id()));
        let source = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/gateway/support/misfortune.c"
        );
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library)
            .args([source, "-ldl", "-lpthread"])
            .status();
        built
            .is_ok_and(|status| status.success())
            .then_some(library)
    });
    let Some(library) = library else {
        eprintln!("skipped: no C compiler");
        return None;
    };
    let mut words = vec![
        "env".to_owned(),
        format!("LD_PRELOAD={}", library.display()),
    ];
    words.extend(settings.iter().map(|&setting| setting.to_owned()));
    Some(words)
}

/// Whether a file system of one's own can be mounted here without privileges; else a line that says so.
pub fn can_mount() -> bool {
    let tried = Command::new("unshare")
        .args(["-Urm", "true"])
        .status()
        .is_ok_and(|status| status.success());
    if !tried {
        eprintln!("skipped: user namespaces are not allowed here");
    }
    tried
}
