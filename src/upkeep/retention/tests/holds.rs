//! Whatever is done in whatever order, an event that a hold covers is not deleted, and no event is in two places.

use proptest::prelude::*;

use super::*;
use crate::model::host_key;
use crate::store::Hold;

const HOSTS: [&str; 3] = ["a", "b", "c"];

#[derive(Debug, Clone)]
enum Step {
    Record,
    Days(u8),
    Run,
    /// A host or all, from and to so many days ago.
    Place(Option<u8>, Option<u8>, Option<u8>),
    Lift(u8),
    /// Only taken down; the next run carries it out.
    RequestErasure(u8),
    Erase(u8),
    /// Restores everything there is for some days.
    Restore(u8),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Record),
        3 => (1_u8..4).prop_map(Step::Days),
        5 => Just(Step::Run),
        2 => (proptest::option::of(0_u8..3), proptest::option::of(0_u8..14), proptest::option::of(0_u8..14))
            .prop_map(|(host, from, to)| Step::Place(host, from, to)),
        1 => (0_u8..4).prop_map(Step::Lift),
        1 => (0_u8..3).prop_map(Step::RequestErasure),
        1 => (0_u8..3).prop_map(Step::Erase),
        1 => (1_u8..4).prop_map(Step::Restore),
        1 => Just(Step::Reopen),
    ]
}

/// What has to be there.
#[derive(Default)]
struct Model {
    /// Every event that was recorded.
    recorded: Vec<Judged>,
    /// The holds in force, each with the events it covers that were there when it was placed or came later.
    holds: Vec<(Hold, BTreeSet<EventId>)>,
}

impl Model {
    fn record(&mut self, events: Vec<Judged>) {
        for judged in events {
            for (hold, covered) in &mut self.holds {
                if hold.covers(&judged) {
                    covered.insert(judged.event.id);
                }
            }
            self.recorded.push(judged);
        }
    }
}

async fn places(house: &House) -> BTreeMap<EventId, u32> {
    let mut places: BTreeMap<EventId, u32> = BTreeMap::new();
    for id in house.live().await.into_iter().chain(house.archived().into_iter().map(|(id, _)| id)) {
        *places.entry(id).or_default() += 1;
    }
    places
}

async fn take(mut house: House, model: &mut Model, step: &Step) -> House {
    let ago = |days: u8| house.clock.now().as_millis() - i64::from(days) * DAY_MS;
    let host = |number: u8| HOSTS[usize::from(number)].to_owned();
    match step {
        Step::Record => {
            let now = house.clock.now();
            let events: Vec<Judged> = HOSTS.iter().map(|host| house.event(now, host)).collect();
            house.stores.audit.record(events.clone()).await.unwrap();
            model.record(events);
        }
        Step::Days(days) => (0..*days).for_each(|_| house.next_day()),
        Step::Run => {
            let report = house.run().await;
            assert!(report.is_clean(), "{report:?}");
        }
        Step::Place(of, from, to) => {
            let moment = |days: &Option<u8>| days.map(|days| Timestamp::from_millis(ago(days)));
            let (name, reason) = ("case".to_owned(), "court".to_owned());
            let draft = HoldDraft { name, hostname: of.map(host), from: moment(from), to: moment(to), reason };
            let hold = house.stores.holds.place(draft, &House::change()).await.unwrap();
            let there = places(&house).await;
            let covered = model.recorded.iter().filter(|judged| hold.covers(judged)).map(|judged| judged.event.id);
            let covered = covered.filter(|id| there.contains_key(id)).collect();
            model.holds.push((hold, covered));
        }
        Step::Lift(number) => {
            if usize::from(*number) < model.holds.len() {
                let (hold, _) = model.holds.remove(usize::from(*number));
                house.stores.holds.lift(hold.id, &House::change()).await.unwrap();
            }
        }
        Step::RequestErasure(number) | Step::Erase(number) => {
            let name = host(*number);
            let asked = house.stores.holds.request_erasure(&name, "asked for", &House::change()).await;
            let is_held = model.holds.iter().any(|(hold, _)| hold.is_about(&host_key(&name)));
            assert_eq!(asked.is_err(), is_held);
            if matches!(step, Step::Erase(_)) && asked.is_ok() {
                house.retention.execute(Task::Erase(House::change())).await.unwrap();
            }
        }
        Step::Restore(days) => {
            let files = house.stores.archive.files();
            let names = files.iter().map(|file| file.facts.name.parse().unwrap()).collect();
            let until = house.clock.now().plus(Duration::from_hours(24 * u64::from(*days)));
            house.retention.execute(Task::Restore { names, until, change: House::change() }).await.unwrap();
        }
        Step::Reopen => house = house.reopen().await,
    }
    house
}

async fn check(steps: Vec<Step>) {
    let mut house = House::new(settings());
    let mut model = Model::default();
    for (number, step) in steps.iter().enumerate() {
        house = take(house, &mut model, step).await;
        let there = places(&house).await;
        let what = format!("after step {number}, {step:?}, of {steps:?}");
        for (hold, covered) in &model.holds {
            let lost: Vec<&EventId> = covered.iter().filter(|id| !there.contains_key(id)).collect();
            assert!(lost.is_empty(), "{what}: {hold:?} lost {lost:?}");
        }
        let restored = house.stores.archive.files().iter().any(|file| file.restored_until.is_some());
        assert!(restored || there.values().all(|times| *times == 1), "{what}: an event is in two places");
    }
    // When nothing is held any more, time takes everything.
    for (hold, _) in &model.holds {
        house.stores.holds.lift(hold.id, &House::change()).await.unwrap();
    }
    for _ in 0..16 {
        house.next_day();
        assert!(house.run().await.is_clean());
    }
    assert!(places(&house).await.is_empty(), "something is left after {steps:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_a_hold_covers_is_never_deleted(steps in proptest::collection::vec(step(), 1..24)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(check(steps));
    }
}
