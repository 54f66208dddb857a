//! File descriptors: the one resource that every connection takes and that a process has few of.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the process's limit of open files as far as it may without privileges; the limit that then holds, `None` where
/// there is none.
pub fn raise_limit() -> Option<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit of open files cannot be raised");
        }
    }
    getrlimit(Resource::Nofile).current
}

/// How many client connections may be open at once: as configured, but never so many that none is left for upstream
/// connections, the journal and the database. Without this, idle clients alone could stop every request.
pub fn connections(configured: usize, descriptors: Option<u64>) -> usize {
    let Some(descriptors) = descriptors.and_then(|count| usize::try_from(count).ok()) else {
        return configured;
    };
    let allowed = (descriptors.saturating_sub(RESERVED) / 4 * 3).max(1);
    if allowed < configured {
        tracing::warn!(
            configured,
            allowed,
            descriptors,
            "the limit of open files (ulimit -n) allows fewer connections than max_connections: further ones wait to be accepted"
        );
    }
    configured.min(allowed)
}

/// Kept for files, the runtime and the admin listener.
const RESERVED: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_the_descriptors_is_left_for_what_requests_need() {
        assert_eq!(connections(16_384, None), 16_384);
        assert_eq!(connections(16_384, Some(1_048_576)), 16_384);
        assert_eq!(connections(16_384, Some(1024)), 744);
        assert_eq!(connections(16_384, Some(8)), 1);
    }
}
