//! The hash map of what every request looks up.

use std::hash::{BuildHasher, Hash};

/// A map with a quick hash, seeded at random in each process, so that clients cannot choose keys that collide. The standard
/// library's takes four times as long for keys of a few bytes, and a request looks up some thirty.
pub type HashMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

/// Room that a map may always keep.
const ROOM: usize = 1_024;

/// Gives back the room of a rush that is over, to be called when something was taken out. In a map of thousands of places
/// with a few in use each look finds another place, which no cache has.
pub fn give_room_back<K: Eq + Hash, V, S: BuildHasher>(
    map: &mut std::collections::HashMap<K, V, S>,
) {
    if map.capacity() > ROOM && map.capacity() / 16 > map.len() {
        map.shrink_to(4 * map.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_gives_back_the_room_of_a_rush_and_keeps_what_is_in_it() {
        let mut map: HashMap<u32, u32> = (0..20_000).map(|n| (n, n)).collect();
        for n in 0..19_990 {
            map.remove(&n);
            give_room_back(&mut map);
        }
        assert!(map.capacity() <= ROOM, "{}", map.capacity());
        assert!((19_990..20_000).all(|n| map.get(&n) == Some(&n)));
    }

    #[test]
    fn a_map_in_use_keeps_its_room() {
        let mut map: HashMap<u32, u32> = (0..20_000).map(|n| (n, n)).collect();
        for n in 0..15_000 {
            map.remove(&n);
            give_room_back(&mut map);
        }
        // Places of what was taken out may not count until the map is put in order.
        assert!(map.capacity() >= 20_000, "{}", map.capacity());
    }
}
