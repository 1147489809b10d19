use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::model::{Decision, Environment, Event, EventIds, Judged, Protocol, Source, host_key};
use crate::store::{EventQuery, sqlite::ConfigDb};

const DAY: i64 = 86_400_000;
const START: i64 = 1_790_000_000_000 / DAY * DAY;

struct House {
    folder: TempDir,
    clock: Clock,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("store")).unwrap();
        let clock = Clock::fixed(Timestamp::from_millis(START));
        // Makes the key.
        drop(ConfigDb::open(&folder.path().join("store/config.db"), clock.clone()).unwrap());
        Self { folder, clock }
    }

    fn open(&self) -> Archive {
        let key = TrailKey::read(&self.folder.path().join("store"));
        Archive::open(&self.folder.path().join("archive"), key, self.clock.clone()).unwrap()
    }

    fn manifest(&self) -> PathBuf {
        self.folder.path().join("archive").join(manifest::MANIFEST)
    }
}

fn day() -> Day {
    Day::of(Timestamp::from_millis(START))
}

fn judged(ids: &EventIds, millis: i64, host: &str) -> Judged {
    let at = Timestamp::from_millis(millis);
    let mut event = Event::new(ids.next(at), at, Source { protocol: Protocol::SyslogUdp, peer: [192, 0, 2, 7].into() });
    event.hostname = host.into();
    event.raw = format!("<13>{host}: message {millis} of some length so that frames fill").as_str().into();
    event.message = event.raw.part(&event.raw[4..]);
    Judged { event, decision: Decision { environment: Environment::Prod, matched: None } }
}

fn write(archive: &Archive, day: Day, events: &[Judged]) -> FileFacts {
    let mut writer = archive.create(day).unwrap();
    for event in events {
        archive.push(&mut writer, &Record::Event(Box::new(event.clone()), Vec::new())).unwrap();
    }
    archive.commit(writer, &|| ()).unwrap()
}

fn events(n: i64, hosts: i64) -> Vec<Judged> {
    let ids = EventIds::new(1);
    (0..n).map(|n| judged(&ids, START + n * 7, &format!("host-{}", n % hosts))).collect()
}

fn none() -> EventQuery {
    EventQuery { limit: 1_000, ..EventQuery::default() }.prepared()
}

fn search(archive: &Archive, query: &EventQuery) -> Vec<Judged> {
    let (mut found, mut query) = (Vec::new(), query.clone());
    loop {
        let page = archive.search(&query, Instant::now() + Duration::from_secs(60));
        found.extend(page.items);
        query.before = page.next;
        if page.next.is_none() {
            return found;
        }
    }
}

#[test]
fn zstdcat_and_the_archive_read_the_same_lines() {
    let house = House::new();
    let archive = house.open();
    let written = events(20_000, 50);
    let facts = write(&archive, day(), &written);
    assert_eq!(facts.rows, 20_000);
    let name: FileName = facts.name.parse().unwrap();
    let bytes = std::fs::read(archive.path(name)).unwrap();
    // What any zstd does with the file: all frames, the skippable one passed over.
    let text = String::from_utf8(zstd::stream::decode_all(bytes.as_slice()).unwrap()).unwrap();
    let lines: Vec<Record> = text.lines().map(|line| Record::read(line).unwrap()).collect();
    let expected: Vec<Record> =
        written.iter().map(|event| Record::Event(Box::new(event.clone()), Vec::new())).collect();
    assert_eq!(lines, expected);
    assert!(archive.read(name).unwrap().index.frames.len() > 2, "it has several frames");
    assert_eq!(archive.verify(name, &|| ()).unwrap(), None);
}

#[test]
fn searches_find_what_filters_say_newest_first_over_overlapping_files() {
    let house = House::new();
    let archive = house.open();
    let all = events(9_000, 40);
    let (even, odd): (Vec<_>, Vec<_>) = all.iter().cloned().enumerate().partition(|(n, _)| n % 2 == 0);
    let strip = |list: Vec<(usize, Judged)>| list.into_iter().map(|(_, judged)| judged).collect::<Vec<_>>();
    write(&archive, day(), &strip(even));
    write(&archive, day(), &strip(odd));
    let ids = EventIds::new(2);
    let later: Vec<Judged> = (0..100).map(|n| judged(&ids, START + DAY + n, "host-3")).collect();
    write(&archive, day().plus(1), &later);
    let mut expected: Vec<Judged> = all.into_iter().chain(later).collect();
    expected.reverse();
    assert_eq!(search(&archive, &none()), expected);
    let of = |query: EventQuery| (search(&archive, &query.prepared()), query.prepared());
    for query in [
        EventQuery { hostname: Some("HOST-3".into()), limit: 7, ..none() },
        EventQuery { hostname: Some("nobody".into()), ..none() },
        EventQuery { from: Some(Timestamp::from_millis(START + 40_000)), limit: 1_000, ..none() },
        EventQuery { to: Some(Timestamp::from_millis(START + 40_000)), text: Some("MESSAGE".into()), ..none() },
    ] {
        let (found, query) = of(query);
        let wanted: Vec<Judged> = expected.iter().filter(|judged| query.matches(judged)).cloned().collect();
        assert_eq!(found, wanted, "{query:?}");
    }
    let out_of_time = archive.search(&none(), Instant::now());
    assert!(out_of_time.items.is_empty() && out_of_time.next.is_some(), "it says where to go on");
    assert_eq!(archive.get(expected[5].event.id).unwrap().0, expected[5]);
}

#[test]
fn any_bit_that_flips_in_a_file_is_found() {
    let house = House::new();
    let archive = house.open();
    let facts = write(&archive, day(), &events(300, 5));
    let name: FileName = facts.name.parse().unwrap();
    let path = archive.path(name);
    let bytes = std::fs::read(&path).unwrap();
    for at in (0..bytes.len()).step_by(37).chain([bytes.len() - 1]) {
        let mut altered = bytes.clone();
        altered[at] ^= 1 << (at % 8);
        std::fs::write(&path, &altered).unwrap();
        assert!(archive.verify(name, &|| ()).unwrap().is_some(), "a flipped bit at {at}");
    }
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert!(archive.verify(name, &|| ()).unwrap().is_some());
    std::fs::remove_file(&path).unwrap();
    assert!(archive.verify(name, &|| ()).unwrap().unwrap().why.contains("missing"));
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(archive.verify(name, &|| ()).unwrap(), None);
}

#[test]
fn a_manifest_that_was_altered_or_cut_off_is_in_doubt_and_can_be_accepted() {
    let house = House::new();
    let archive = house.open();
    for n in 0..3 {
        write(&archive, day().plus(n), &[judged(&EventIds::new(1), START + n * DAY, "sw1")]);
    }
    let whole = std::fs::read_to_string(house.manifest()).unwrap();
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    drop(archive);
    let check = |text: &str, doubted: bool| {
        std::fs::write(house.manifest(), text).unwrap();
        let archive = house.open();
        assert_eq!(archive.doubt().is_some(), doubted, "{:?} of {text}", archive.doubt());
        assert_eq!(archive.recover().is_err(), doubted);
        assert_eq!(archive.create(day()).is_err(), doubted);
    };
    check(&whole, false);
    check(&format!("{whole}{{\"n\":4,\"at"), false);
    check(&whole, false);
    check(&lines[..2].concat(), true);
    check("", true);
    check(&lines[1..].concat(), true);
    check(&[lines[0], lines[2]].concat(), true);
    check(&whole.replacen("\"rows\":1", "\"rows\":2", 1), true);
    check(&format!("{whole}{}", lines[2]), true);
    check(&lines[..1].concat(), true);

    let archive = house.open();
    let (evidence, faults) = archive.accept("carol", &|| ()).unwrap();
    assert!(faults.is_empty() && house.manifest().with_file_name(evidence).exists());
    assert_eq!((archive.files().len(), archive.doubt()), (3, None));
    drop(archive);
    assert_eq!(house.open().doubt(), None);
}

#[test]
fn a_manifest_that_is_altered_while_it_is_in_use_is_in_doubt() {
    let check = |alter: &dyn Fn(String) -> String, doubted: bool| {
        let house = House::new();
        let archive = house.open();
        for n in 0..3 {
            write(&archive, day().plus(n), &[judged(&EventIds::new(1), START + n * DAY, "sw1")]);
        }
        let altered = alter(std::fs::read_to_string(house.manifest()).unwrap());
        std::fs::write(house.manifest(), &altered).unwrap();
        let is_told = archive.overview().unwrap().iter().any(|fault| fault.name.is_none());
        assert_eq!(is_told, doubted, "{altered}");
        assert_eq!((archive.recover().is_err(), archive.create(day()).is_err()), (doubted, doubted), "{altered}");
        if doubted {
            assert!(archive.accept("carol", &|| ()).unwrap().1.is_empty());
            assert_eq!((archive.doubt(), archive.files().len(), archive.overview().unwrap()), (None, 3, Vec::new()));
        }
    };
    check(&|text| text, false);
    check(&|text| text.split_inclusive('\n').take(2).collect(), true);
    check(&|text| text.split_inclusive('\n').skip(1).collect(), true);
    check(&|text| text.replacen("\"rows\":1", "\"rows\":2", 1), true);
    check(&|text| text + "half a line", true);
    check(&|_| String::new(), true);
}

#[test]
fn a_rewritten_file_has_what_was_kept_and_the_old_one_is_gone() {
    let house = House::new();
    let archive = house.open();
    let written = events(5_000, 3);
    let old: FileName = write(&archive, day(), &written).name.parse().unwrap();
    archive.note(Act::Settled { name: old.to_string(), removed: 5_000 }).unwrap();
    let keep =
        |record: &Record| matches!(record, Record::Event(judged, _) if host_key(&judged.event.hostname) != "host-1");
    let rewrite = archive.rewrite(old, Reason::Erased, &keep, &|| ()).unwrap();
    let new: FileName = rewrite.file.unwrap().name.parse().unwrap();
    assert!(!archive.path(old).exists() && archive.path(new).exists());
    assert!(archive.file(new).unwrap().settled);
    let mut left: Vec<Judged> = written.into_iter().filter(|judged| judged.event.hostname != "host-1").collect();
    assert_eq!(rewrite.removed, 5_000 - left.len() as u64);
    left.reverse();
    assert_eq!(search(&archive, &none()), left);
    let unchanged = archive.rewrite(new, Reason::Erased, &keep, &|| ()).unwrap();
    assert_eq!((unchanged.removed, unchanged.file.unwrap().name), (0, new.to_string()));
    let nothing = archive.rewrite(new, Reason::Expired, &|_| false, &|| ()).unwrap();
    assert_eq!((nothing.file, archive.files().len(), archive.path(new).exists()), (None, 0, false));
    assert_eq!(archive.overview().unwrap(), []);
}

/// What a cut at each moment leaves.
#[test]
fn a_file_is_there_as_a_whole_or_not_at_all_wherever_writing_ends() {
    let written = events(3_000, 3);
    let mut outcomes: BTreeMap<usize, usize> = BTreeMap::new();
    for cut_at in 0.. {
        let house = House::new();
        let archive = house.open();
        cut::after(Some(cut_at));
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| write(&archive, day(), &written)));
        cut::after(None);
        drop(archive);
        let archive = house.open();
        archive.recover().unwrap();
        let rows: u64 = archive.files().iter().map(|file| file.facts.rows).sum();
        let found = search(&archive, &none()).len();
        assert_eq!(rows as usize, found, "cut at point {cut_at}");
        assert!(found == 0 || found == 3_000, "cut at point {cut_at}: {found}");
        assert_eq!(archive.overview().unwrap(), []);
        assert_eq!(std::fs::read_dir(archive.folder().join(UNFINISHED)).unwrap().count(), 0);
        *outcomes.entry(found).or_default() += 1;
        if result.is_ok() {
            break;
        }
    }
    assert!(outcomes.len() == 2 && outcomes.values().sum::<usize>() > 5, "{outcomes:?}");
}

/// What somebody, or a disk, does to a text.
#[derive(Debug, Clone)]
enum Harm {
    Cut(usize),
    Flip(usize, u8),
    Swap(usize, usize),
    Remove(usize),
    Repeat(usize, usize),
    /// A line takes the place of another one.
    Overwrite(usize, usize),
    /// A part of a line is blanked.
    Blank(usize, usize),
}

fn harm() -> impl Strategy<Value = Harm> {
    let any = || 0_usize..100_000;
    prop_oneof![
        any().prop_map(Harm::Cut),
        (any(), 0_u8..8).prop_map(|(at, bit)| Harm::Flip(at, bit)),
        (any(), any()).prop_map(|(one, other)| Harm::Swap(one, other)),
        any().prop_map(Harm::Remove),
        (any(), any()).prop_map(|(from, to)| Harm::Repeat(from, to)),
        (any(), any()).prop_map(|(from, to)| Harm::Overwrite(from, to)),
        (any(), 1_usize..40).prop_map(|(at, length)| Harm::Blank(at, length)),
    ]
}

fn harmed(text: &[u8], harm: &Harm) -> Vec<u8> {
    let mut bytes = text.to_vec();
    let mut lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    let (length, count) = (bytes.len(), lines.len());
    match *harm {
        Harm::Cut(at) => bytes.truncate(at % length),
        Harm::Flip(at, bit) => bytes[at % length] ^= 1 << bit,
        Harm::Blank(at, many) => bytes[at % length..].iter_mut().take(many).for_each(|byte| *byte = b' '),
        Harm::Swap(one, other) => lines.swap(one % count, other % count),
        Harm::Remove(at) => drop(lines.remove(at % count)),
        Harm::Repeat(from, to) => lines.insert(to % (count + 1), lines[from % count]),
        Harm::Overwrite(from, to) => lines[to % count] = lines[from % count],
    }
    match harm {
        Harm::Cut(_) | Harm::Flip(..) | Harm::Blank(..) => bytes,
        _ => lines.concat(),
    }
}

/// An archive whose manifest has every kind of line.
fn eventful() -> House {
    let house = House::new();
    let archive = house.open();
    let mut names = Vec::new();
    for n in 0..4 {
        let facts = write(&archive, day().plus(n), &[judged(&EventIds::new(1), START + n * DAY, "sw1")]);
        archive.note(Act::Settled { name: facts.name.clone(), removed: 1 }).unwrap();
        names.push(facts.name);
    }
    archive.note(Act::Restored { name: names[2].clone(), until: START, by: "carol".into() }).unwrap();
    archive.note(Act::Returned { name: names[2].clone(), removed: 1 }).unwrap();
    archive.note(Act::Restored { name: names[3].clone(), until: START, by: "carol".into() }).unwrap();
    archive.rewrite(names[1].parse().unwrap(), Reason::Erased, &|_| false, &|| ()).unwrap();
    archive.delete(names[0].parse().unwrap(), Reason::Expired).unwrap();
    house
}

#[test]
fn any_harm_to_the_manifest_or_its_anchor_is_noticed_or_changes_nothing() {
    let house = eventful();
    let anchor = house.folder.path().join("store/trail/manifest.json");
    let (text, anchored) = (std::fs::read(house.manifest()).unwrap(), std::fs::read(&anchor).unwrap());
    let archive = house.open();
    let expected = (archive.files(), archive.head());
    drop(archive);
    assert_eq!(expected.0.len(), 2);
    let noticed = std::cell::Cell::new(0);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(2_000));
    let harms = (proptest::collection::vec(harm(), 0..3), proptest::option::weighted(0.2, harm()));
    let result = runner.run(&harms, |(to_manifest, to_anchor)| {
        let written = to_manifest.iter().fold(text.clone(), |text, harm| match text.is_empty() {
            true => text,
            false => harmed(&text, harm),
        });
        std::fs::write(house.manifest(), &written).unwrap();
        std::fs::write(&anchor, to_anchor.map_or_else(|| anchored.clone(), |harm| harmed(&anchored, &harm))).unwrap();
        let archive = house.open();
        match archive.doubt() {
            Some(_) => {
                noticed.set(noticed.get() + 1);
                prop_assert!(archive.recover().is_err() && archive.create(day()).is_err());
                prop_assert!(std::fs::read(house.manifest()).unwrap() == written, "evidence was altered");
            }
            None => prop_assert_eq!((archive.files(), archive.head()), expected.clone()),
        }
        Ok(())
    });
    result.unwrap();
    assert!(noticed.get() > 1_000, "{noticed:?}");
}
