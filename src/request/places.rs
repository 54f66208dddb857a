//! Who has how many requests in flight: no key may take all the places.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::hash::HashMap;
use crate::ids::KeyId;

/// Requests in flight by key. It holds keys that have some, so the places bound it.
#[derive(Debug, Default)]
pub struct Places {
    by_key: Mutex<HashMap<KeyId, usize>>,
}

/// A place that a request has; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    key: KeyId,
}

impl Places {
    /// A place for a request of this key, unless it has `most` already.
    pub(super) fn take(self: &Arc<Self>, key: &KeyId, most: usize) -> Option<Place> {
        let mut by_key = self.by_key();
        match by_key.get_mut(key) {
            Some(taken) if *taken >= most => return None,
            Some(taken) => *taken += 1,
            None => {
                by_key.insert(key.clone(), 1);
            }
        }
        drop(by_key);
        Some(Place {
            places: Arc::clone(self),
            key: key.clone(),
        })
    }

    fn by_key(&self) -> MutexGuard<'_, HashMap<KeyId, usize>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_key = self.places.by_key();
        if let Some(taken) = by_key.get_mut(&self.key) {
            *taken -= 1;
            if *taken == 0 {
                by_key.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_no_more_places_than_it_may_and_gives_them_back() {
        let places = Arc::new(Places::default());
        let (one, other) = (KeyId::from("one"), KeyId::from("other"));
        let first = places.take(&one, 2);
        let second = places.take(&one, 2);
        assert!(first.is_some() && second.is_some());
        assert!(places.take(&one, 2).is_none());
        assert!(places.take(&other, 2).is_some());
        drop(first);
        assert!(places.take(&one, 2).is_some());
        drop(second);
        assert!(places.by_key().is_empty());
    }
}
