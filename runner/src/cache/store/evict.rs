//! What has to go: a pure choice over all entries.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use super::index::Entry;

/// What a cache may take, and for how long.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Entries that nobody has used for this long go; zero: never.
    pub retention: Duration,
    /// Bytes of one repository; zero: no limit.
    pub repository: u64,
    /// Bytes of all; zero: no limit.
    pub total: u64,
    /// Bytes of the disk that stay free.
    pub free_space: u64,
    /// Entries that were used within this time stay, whatever the limits say.
    pub spared: Duration,
    /// Uploads that have not moved for this long are dropped.
    pub stalled: Duration,
    /// How often to look.
    pub interval: Duration,
}

impl Default for Limits {
    /// Those of Gitea's own runner.
    fn default() -> Self {
        Self {
            retention: Duration::from_hours(168),
            repository: 10 << 30,
            total: 0,
            free_space: 1 << 30,
            spared: Duration::from_mins(10),
            stalled: Duration::from_mins(5),
            interval: Duration::from_hours(1),
        }
    }
}

/// The entries that have to go, in the order in which they go. `free` is what the disk has left.
pub(super) fn victims(entries: &[Entry], limits: &Limits, now: u64, free: Option<u64>) -> Vec<Entry> {
    let mut chosen = Chosen::default();
    let idle = |entry: &Entry| now.saturating_sub(entry.used);
    let in_use = |entry: &Entry| idle(entry) < limits.spared.as_secs();
    for entry in entries {
        let over = !limits.retention.is_zero() && idle(entry) >= limits.retention.as_secs();
        // One that can never fit goes alone, instead of everything else.
        let too_large =
            [limits.repository, limits.total].iter().any(|limit| *limit > 0 && entry.size > *limit);
        if over || too_large {
            chosen.take(entry);
        }
    }
    let mut newest: BTreeMap<(&str, &str, &str), u64> = BTreeMap::new();
    for entry in entries {
        let created = newest.entry(name(entry)).or_default();
        *created = entry.created.max(*created);
    }
    for entry in entries {
        if newest.get(&name(entry)).is_some_and(|created| entry.created < *created) && !in_use(entry) {
            chosen.take(entry);
        }
    }
    let mut by_age: Vec<&Entry> = entries.iter().filter(|entry| !in_use(entry)).collect();
    by_age.sort_by_key(|entry| (entry.used, entry.created));
    if limits.repository > 0 {
        let mut sizes: BTreeMap<&str, u64> = BTreeMap::new();
        for entry in entries.iter().filter(|entry| !chosen.has(entry)) {
            let size = sizes.entry(&entry.repository).or_default();
            *size = size.saturating_add(entry.size);
        }
        for entry in &by_age {
            let Some(size) = sizes.get_mut(entry.repository.as_str()) else { continue };
            if *size > limits.repository && chosen.take(entry) {
                *size = size.saturating_sub(entry.size);
            }
        }
    }
    let kept: u64 = entries.iter().filter(|entry| !chosen.has(entry)).map(|entry| entry.size).sum();
    let mut too_many = if limits.total > 0 { kept.saturating_sub(limits.total) } else { 0 };
    if let Some(free) = free {
        let missing = limits.free_space.saturating_sub(free).saturating_sub(chosen.bytes);
        too_many = too_many.max(missing);
    }
    for entry in by_age {
        if too_many > 0 && chosen.take(entry) {
            too_many = too_many.saturating_sub(entry.size);
        }
    }
    chosen.entries
}

fn name(entry: &Entry) -> (&str, &str, &str) {
    (&entry.repository, &entry.version, &entry.key)
}

#[derive(Default)]
struct Chosen {
    ids: HashSet<u64>,
    entries: Vec<Entry>,
    bytes: u64,
}

impl Chosen {
    /// Whether it was not chosen before.
    fn take(&mut self, entry: &Entry) -> bool {
        let new = self.ids.insert(entry.id);
        if new {
            self.bytes = self.bytes.saturating_add(entry.size);
            self.entries.push(entry.clone());
        }
        new
    }

    fn has(&self, entry: &Entry) -> bool {
        self.ids.contains(&entry.id)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Entry, Limits, victims};

    const NOW: u64 = 1_000_000;

    /// An entry of `o/r` under its own key, unused for `idle` seconds.
    fn entry(id: u64, size: u64, idle: u64) -> Entry {
        Entry {
            id,
            repository: "o/r".into(),
            key: format!("k{id}"),
            version: "v".into(),
            size,
            created: id,
            used: NOW - idle,
        }
    }

    fn unlimited() -> Limits {
        Limits { retention: Duration::ZERO, repository: 0, total: 0, free_space: 0, ..Limits::default() }
    }

    fn chosen(entries: &[Entry], limits: &Limits, free: Option<u64>) -> Vec<u64> {
        victims(entries, limits, NOW, free).iter().map(|entry| entry.id).collect()
    }

    #[test]
    fn what_nobody_has_used_goes_and_what_somebody_uses_stays_however_old() {
        let limits = Limits { retention: Duration::from_hours(1), ..unlimited() };
        let mut old_but_used = entry(1, 1, 3599);
        old_but_used.created = 0;
        assert_eq!(chosen(&[old_but_used, entry(2, 1, 3600)], &limits, None), [2]);
        assert_eq!(chosen(&[entry(1, 1, NOW)], &unlimited(), None), [0; 0], "zero is for ever");
    }

    #[test]
    fn the_least_recently_used_of_a_repository_goes_first_until_it_fits() {
        let limits = Limits { repository: 25, ..unlimited() };
        let mut other = entry(9, 20, 90_000);
        other.repository = "o/other".into();
        let entries = [entry(1, 10, 5000), entry(2, 10, 9000), entry(3, 10, 7000), other];
        assert_eq!(chosen(&entries, &limits, None), [2], "another repository is none of its business");
        let limits = Limits { repository: 10, ..unlimited() };
        assert_eq!(chosen(&entries[..3], &limits, None), [2, 3]);
    }

    #[test]
    fn one_above_the_limit_goes_alone() {
        let limits = Limits { repository: 25, ..unlimited() };
        assert_eq!(chosen(&[entry(1, 10, 5000), entry(2, 26, 0)], &limits, None), [2]);
    }

    #[test]
    fn the_total_counts_over_all_repositories() {
        let limits = Limits { total: 15, ..unlimited() };
        let mut other = entry(2, 10, 9000);
        other.repository = "o/other".into();
        assert_eq!(chosen(&[entry(1, 10, 5000), other], &limits, None), [2]);
    }

    #[test]
    fn a_disk_that_runs_full_takes_the_oldest() {
        let limits = Limits { free_space: 100, ..unlimited() };
        let entries = [entry(1, 10, 5000), entry(2, 10, 9000), entry(3, 10, 7000)];
        assert_eq!(chosen(&entries, &limits, Some(100)), [0; 0]);
        assert_eq!(chosen(&entries, &limits, Some(85)), [2, 3]);
        assert_eq!(chosen(&entries, &limits, None), [0; 0], "a disk that does not tell has room");
    }

    #[test]
    fn what_is_in_use_stays_and_the_next_one_goes() {
        let limits = Limits { repository: 15, ..unlimited() };
        assert_eq!(chosen(&[entry(1, 10, 599), entry(2, 10, 0)], &limits, None), [0; 0]);
        assert_eq!(chosen(&[entry(1, 10, 600), entry(2, 10, 0)], &limits, None), [1]);
    }

    #[test]
    fn a_superseded_entry_goes_when_nobody_reads_it_any_more() {
        let (mut older, mut newer) = (entry(1, 1, 700), entry(2, 1, 0));
        older.key = "same".into();
        newer.key = "same".into();
        assert_eq!(chosen(&[older.clone(), newer.clone()], &unlimited(), None), [1]);
        older.used = NOW - 10;
        assert_eq!(chosen(&[older.clone(), newer.clone()], &unlimited(), None), [0; 0]);
        older.used = NOW - 700;
        newer.version = "other".into();
        assert_eq!(chosen(&[older, newer], &unlimited(), None), [0; 0], "another version is another thing");
    }
}
