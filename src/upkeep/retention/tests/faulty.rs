//! One archive is damaged, missing or another one: it is told, nothing of it is taken over, and everything else goes on.

use super::*;

/// What may happen to a file.
#[derive(Debug, Clone, Copy)]
enum Harm {
    /// It is gone.
    Missing,
    /// It has the content of another archive.
    Swapped,
    /// A line was altered by somebody who can write such files: what the file says of itself is right.
    Forged,
}

impl House {
    fn names(&self) -> Vec<FileName> {
        self.stores.archive.files().iter().map(|file| file.facts.name.parse().unwrap()).collect()
    }

    fn harm(&self, name: FileName, other: FileName, harm: Harm) {
        let path = self.stores.archive.path(name);
        match harm {
            Harm::Missing => std::fs::remove_file(path).unwrap(),
            Harm::Swapped => drop(std::fs::copy(self.stores.archive.path(other), path).unwrap()),
            Harm::Forged => forge(&path),
        }
    }

    async fn hold(&self, host: &str) {
        let (name, hostname) = ("case 9".to_owned(), Some(host.to_owned()));
        let draft = HoldDraft { name, hostname, from: None, to: None, reason: "court".into() };
        self.stores.holds.place(draft, &Self::change()).await.unwrap();
    }
}

/// Alters the messages in the first frame of a file, so that its length and all that its index says stay right: what is
/// saved is filled up with a frame that every reader passes over.
fn forge(path: &std::path::Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let end = zstd::zstd_safe::find_frame_compressed_size(&bytes).unwrap();
    let text = String::from_utf8(zstd::stream::decode_all(&bytes[..end]).unwrap()).unwrap();
    let forged = text.replace("event of ", "");
    let mut packed = zstd::bulk::compress(forged.as_bytes(), 3).unwrap();
    let filled = u32::try_from(end.checked_sub(packed.len() + 8).unwrap()).unwrap();
    packed.extend(0x184D_2A50_u32.to_le_bytes());
    packed.extend(filled.to_le_bytes());
    packed.resize(end, 0);
    bytes[..end].copy_from_slice(&packed);
    std::fs::write(path, bytes).unwrap();
}

/// Days 0 to 6 are archived, 7 to 9 are not.
async fn ten_days(archive_days: i64) -> House {
    let house = House::new(Settings { archive_days, ..settings() });
    for _ in 0..10 {
        house.record(6).await;
        house.next_day();
        house.run().await;
    }
    house
}

async fn check(harm: Harm) {
    let house = ten_days(20).await;
    let names = house.names();
    let whole = std::fs::read(house.stores.archive.path(names[0])).unwrap();
    house.harm(names[0], names[1], harm);
    let (live, others) = (house.live().await.len(), names.len() - 1);

    // A restore takes nothing of it over and leaves nothing begun; of several the others are restored.
    let until = house.clock.now().plus(Duration::from_hours(1));
    let one = Task::Restore { names: vec![names[0]], until, change: House::change() };
    let refused = house.retention.execute(one).await.unwrap_err().to_string();
    assert!(refused.contains(&names[0].to_string()) && refused.contains("nothing was restored"), "{harm:?}: {refused}");
    assert_eq!(house.live().await.len(), live, "{harm:?}");
    let two = Task::Restore { names: names[..2].to_vec(), until, change: House::change() };
    let report = house.retention.execute(two).await.unwrap();
    assert_eq!((report.damaged.len(), house.live().await.len()), (1, live + 6), "{harm:?}: {report:?}");

    // A search says what it could not read.
    let found = house.stores.archive.search(&EventQuery { limit: 1_000, ..EventQuery::default() }.prepared(), soon());
    let is_told = found.left_out.contains(&names[0]);
    assert!(is_told || matches!(harm, Harm::Forged), "{harm:?}: {:?}", found.left_out);

    // An erasure goes as far as it can and is not done; the next run ends it when the file is whole again.
    house.stores.holds.request_erasure("c", "article 17", &House::change()).await.unwrap();
    let report = house.retention.execute(Task::Erase(House::change())).await.unwrap();
    assert_eq!((report.erasures, report.faults.len()), (0, 1), "{harm:?}: {report:?}");
    assert!(report.faults[0].contains(&names[0].to_string()), "{harm:?}: {report:?}");
    let left = house.names();
    assert!(
        left.contains(&names[0]) && left.iter().filter(|name| name.to_string().contains(".2.")).count() == others,
        "{left:?}"
    );

    // Archiving goes on, and what is held of the others stays while what is not goes.
    house.next_day();
    let report = house.run().await;
    assert_eq!((report.archived.len(), report.faults.len()), (1, 1), "{harm:?}: {report:?}");
    std::fs::write(house.stores.archive.path(names[0]), whole).unwrap();
    let report = house.run().await;
    assert_eq!((report.erasures, report.is_clean()), (1, true), "{harm:?}: {report:?}");
}

fn soon() -> std::time::Instant {
    std::time::Instant::now() + Duration::from_secs(60)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_archive_is_told_and_everything_else_goes_on() {
    check(Harm::Missing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_in_the_place_of_another_is_told_and_nothing_of_it_is_taken_over() {
    check(Harm::Swapped).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_archive_is_told_and_nothing_of_it_is_taken_over() {
    check(Harm::Forged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_archive_that_cannot_be_read_does_not_keep_the_others_under_a_hold() {
    let house = ten_days(10).await;
    house.hold("b").await;
    let names = house.names();
    house.harm(names[0], names[1], Harm::Missing);
    for _ in 0..3 {
        house.next_day();
        let report = house.run().await;
        assert!(report.faults.len() + report.damaged.len() > 0, "{report:?}");
    }
    let rest: Vec<u64> = house.stores.archive.files().iter().take(3).map(|file| file.facts.rows).collect();
    assert_eq!(rest, [6, 2, 2], "the first could not be looked at, of the others only what is held is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_damaged_before_its_rows_left_the_audit_keeps_its_day_alone() {
    let (mut placed, mut cut_at) = (None, 0);
    while placed.is_none() {
        assert!(cut_at < 50, "the point is never reached");
        let house = House::new(settings());
        for _ in 0..6 {
            house.record(4).await;
            house.next_day();
        }
        let (runtime, inner, now) =
            (tokio::runtime::Handle::current(), Arc::clone(&house.retention.inner), house.clock.now());
        let point = tokio::task::spawn_blocking(move || {
            cut::after(Some(cut_at));
            let run = || Run::new(&inner, runtime, now).execute(Task::Run(House::change()));
            let thrown =
                catch_unwind(AssertUnwindSafe(run)).err().and_then(|thrown| thrown.downcast::<cut::Cut>().ok());
            cut::after(None);
            thrown.map(|cut| cut.0)
        });
        // Up to where the first file has its place and none of its rows was removed.
        placed = (point.await.unwrap() == Some("file placed")).then_some(house);
        cut_at += 1;
    }
    let house = placed.unwrap().reopen().await;
    let first = house.stores.archive.files()[0].clone();
    assert!(!first.settled);
    let path = house.stores.archive.path(first.facts.name.parse().unwrap());
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 9]).unwrap();
    let report = house.run().await;
    assert!(report.faults[0].contains(&first.facts.name), "{report:?}");
    assert_eq!((report.archived.len(), house.live().await.len()), (2, 16), "other days leave, this one stays");
    std::fs::write(&path, whole).unwrap();
    let report = house.run().await;
    assert_eq!((report.settled, report.is_clean(), house.live().await.len()), (1, true, 12), "{report:?}");
}
