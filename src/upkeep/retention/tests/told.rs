//! What people and metrics are told: runs that cannot begin, damaged archives, ages; and what a run need not do again.

use super::*;

/// Spoils the manifest as somebody who edits it would, and reads it anew.
async fn with_spoilt_manifest(house: House) -> House {
    let path = house.stores.archive.folder().join("manifest.ndjson");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("\"rows\":6", "\"rows\":5", 1)).unwrap();
    house.reopen().await
}

/// Some days, of which the first ones are in the archive.
async fn with_archives(days: usize) -> House {
    let house = House::new(settings());
    for _ in 0..days {
        house.record(6).await;
        house.next_day();
        assert!(house.run().await.is_clean());
    }
    house
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_cannot_begin_is_told_once_and_so_is_the_first_that_goes_well() {
    let house = with_spoilt_manifest(with_archives(5).await).await;
    *house.deaf.lock() = true;
    let task = || Task::Run(House::change());
    assert!(house.retention.execute(task()).await.unwrap_err().to_string().contains("in doubt"));
    assert!(house.told.lock().is_empty());
    *house.deaf.lock() = false;
    for _ in 0..3 {
        house.next_day();
        house.retention.execute(task()).await.unwrap_err();
    }
    let told = house.told.lock().clone();
    assert_eq!(told.len(), 1, "what could not be sent was sent later, and once: {told:?}");
    assert!(told[0].contains("could not begin") && told[0].contains("in doubt"), "{told:?}");
    let status = house.retention.status().await.unwrap();
    assert_eq!((status.last_report.faults.len(), status.last_run), (1, Some(house.clock.now())), "{status:?}");
    let house = house.reopen().await;
    assert!(house.retention.is_due(), "it is tried again at the next start");
    house.retention.execute(Task::Accept(House::change())).await.unwrap();
    assert!(house.run().await.is_clean());
    assert!(house.told.lock()[0].contains("went well again"));
    assert!(!house.reopen().await.retention.is_due());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_the_program_ends_the_run_alone_and_is_told() {
    let house = with_archives(5).await;
    house.record(6).await;
    for _ in 0..4 {
        house.next_day();
    }
    *house.free.lock() = BROKEN;
    let error = house.retention.execute(Task::Run(House::change())).await.unwrap_err();
    assert!(error.to_string().contains("panicked"), "{error}");
    assert!(house.told.lock()[0].contains("panicked"));
    *house.free.lock() = u64::MAX;
    assert!(house.run().await.is_clean(), "the next one begins");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_archive_is_known_until_it_is_whole_again() {
    let house = with_archives(6).await;
    let name: FileName = house.stores.archive.files()[0].facts.name.parse().unwrap();
    let path = house.stores.archive.path(name);
    let whole = std::fs::read(&path).unwrap();
    let mut altered = whole.clone();
    altered[40] ^= 1;
    std::fs::write(&path, &altered).unwrap();
    assert!(house.retention.inner.damaged().is_empty());
    let begun = house.retention.begin(Task::Verify { names: vec![name], change: House::change() }).unwrap();
    let report = begun.ended.await.unwrap().unwrap();
    assert_eq!((report.verified, report.damaged.len()), (1, 1));
    let Some(TaskState::Ended(Ok(own))) = house.retention.task(begun.task) else { panic!("it is remembered") };
    assert_eq!(*own, report, "a verification has a report of its own");
    assert_eq!(house.retention.status().await.unwrap().damaged, [name.to_string()]);
    for day in 0..2 {
        assert_eq!(house.run().await.damaged.len(), 1, "day {day}: read again though it is not its turn");
        house.next_day();
    }
    assert_eq!(house.told.lock().len(), 1, "{:?}", house.told.lock());
    let house = house.reopen().await;
    assert_eq!(house.retention.inner.damaged(), [name.to_string()], "a restart does not forget it");
    std::fs::write(&path, &whole).unwrap();
    assert!(house.run().await.is_clean());
    assert!(house.retention.inner.damaged().is_empty());
    assert!(house.told.lock()[0].contains("went well again"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_age_of_the_oldest_event_passes_over_copies_and_rises_when_archiving_fails() {
    let house = with_archives(6).await;
    let age = || house.retention.inner.oldest.lock().map(|day| house.today().since(day));
    assert_eq!(age(), Some(3));
    let names = house.stores.archive.files().iter().map(|file| file.facts.name.parse().unwrap()).collect();
    let until = house.clock.now().plus(Duration::from_hours(24 * 30));
    house.retention.execute(Task::Restore { names, until, change: House::change() }).await.unwrap();
    assert_eq!(house.stores.shelf.size().await.unwrap().oldest, Some(house.today().plus(-6)));
    assert_eq!(age(), Some(3), "copies are no events of their own");
    *house.free.lock() = 0;
    for later in 1..4 {
        house.next_day();
        assert!(!house.run().await.is_clean());
        assert_eq!(age(), Some(3 + later));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_ahead_cuts_no_lines_of_the_change_log() {
    let mut short = settings();
    short.config_audit_days = 20;
    let house = House::new(short);
    let draft = HoldDraft { name: "a".into(), hostname: Some("x".into()), from: None, to: None, reason: "r".into() };
    house.stores.holds.place(draft, &House::change()).await.unwrap();
    house.run().await;
    let lines = house.stores.changes.trail_head().await.unwrap().lines;
    for _ in 0..400 {
        house.next_day();
    }
    let report = house.run().await;
    assert_eq!(report.change_lines, 0);
    assert!(report.postponed.iter().any(|text| text.contains("the change log is cut by the next")), "{report:?}");
    assert!(house.stores.changes.trail_head().await.unwrap().lines >= lines);
    house.next_day();
    let report = house.run().await;
    assert!(report.change_lines >= lines && report.postponed.is_empty(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_keep_is_read_again_only_when_one_of_them_is_lifted() {
    let house = House::new(settings());
    house.record(6).await;
    let mut holds = Vec::new();
    for host in ["b", "c", "nobody"] {
        let draft =
            HoldDraft { name: host.into(), hostname: Some(host.into()), from: None, to: None, reason: "court".into() };
        holds.push(house.stores.holds.place(draft, &House::change()).await.unwrap().id);
    }
    for _ in 0..12 {
        house.next_day();
        assert!(house.run().await.is_clean());
    }
    let mut house = house.reopen().await;
    assert_eq!(house.archived().len(), 4, "those of two hosts");
    let path = house.stores.archive.path(house.stores.archive.files()[0].facts.name.parse().unwrap());
    let aside = path.with_extension("aside");
    // A file that is not there cannot be read: a run that goes well did not try. It is put back before it is verified.
    for lifted in [None, Some(holds[2])] {
        if let Some(id) = lifted {
            house.stores.holds.lift(id, &House::change()).await.unwrap();
        }
        std::fs::rename(&path, &aside).unwrap();
        let (result, report) = expire(&house).await;
        assert!(result.is_ok() && report.deleted.is_empty(), "{result:?} {report:?}");
        std::fs::rename(&aside, &path).unwrap();
    }
    house.stores.holds.lift(holds[0], &House::change()).await.unwrap();
    house.next_day();
    let report = house.run().await;
    assert_eq!((report.deleted_rows, report.deleted[0].held), (2, 2), "{report:?}");
    house = house.reopen().await;
    house.stores.holds.lift(holds[1], &House::change()).await.unwrap();
    house.next_day();
    assert_eq!((house.run().await.deleted_rows, house.archived().len()), (2, 0));
}

/// The step of a run that deletes archives.
async fn expire(house: &House) -> (Result<(), RetentionError>, Report) {
    let (inner, now) = (Arc::clone(&house.retention.inner), house.clock.now());
    let runtime = tokio::runtime::Handle::current();
    let expired = tokio::task::spawn_blocking(move || {
        let mut report = Report::default();
        (Run::new(&inner, runtime, now).expire(&House::change(), &mut report), report)
    });
    expired.await.unwrap()
}
