//! The task as a whole: counters in, buckets kept, changes of state told once. Time is paused.

use async_trait::async_trait;

use super::*;
use crate::model::Team;
use crate::store::{LevelRow, Width};

const START: Timestamp = Timestamp::from_millis(1_790_000_040_000);

/// What is kept, in memory: a database's thread would not stand still with the paused time.
#[derive(Default)]
struct Kept {
    rows: Mutex<BTreeMap<(Width, i64, String), LevelRow>>,
    states: Mutex<BTreeMap<String, String>>,
}

#[async_trait]
impl Levels for Kept {
    async fn levels(&self) -> StoreResult<Vec<LevelRow>> {
        Ok(self.rows.lock().values().cloned().collect())
    }

    async fn put_levels(&self, rows: Vec<LevelRow>, keep_from: [(Width, i64); 2]) -> StoreResult<()> {
        let mut kept = self.rows.lock();
        kept.extend(rows.into_iter().map(|row| ((row.width, row.number, row.level.clone()), row)));
        kept.retain(|(width, number, _), _| keep_from.iter().any(|(of, first)| of == width && number >= first));
        Ok(())
    }

    async fn states(&self) -> StoreResult<BTreeMap<String, String>> {
        Ok(self.states.lock().clone())
    }

    async fn put_state(&self, level: &str, state: &str) -> StoreResult<()> {
        self.states.lock().insert(level.to_owned(), state.to_owned());
        Ok(())
    }

    async fn close(&self) -> StoreResult<()> {
        Ok(())
    }
}

/// The task with counters and a clock that the test sets.
struct Bench {
    deliveries: Arc<Mutex<(u64, u64)>>,
    told: Arc<Mutex<Vec<Alert>>>,
    clock: Clock,
    slo: Slo,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Bench {
    async fn start(kept: &Arc<Kept>, clock: Clock) -> Self {
        let deliveries = Arc::new(Mutex::new((0, 0)));
        let told: Arc<Mutex<Vec<Alert>>> = Arc::default();
        let (counters, heard) = (Arc::clone(&deliveries), Arc::clone(&told));
        let parts = SloParts {
            prometheus: PrometheusSettings::default(),
            levels: Arc::clone(kept) as Arc<dyn Levels>,
            settings: Live::constant(Settings::for_team(Team::new("NETO").expect("a team"))),
            read: Arc::new(move || {
                let (good, bad) = *counters.lock();
                format!(
                    "mutt_forward_deliveries_total{{target=\"m\",status=\"success\",reason=\"ok\"}} {good}\n\
                     mutt_forward_deliveries_total{{target=\"m\",status=\"retry\",reason=\"timeout\"}} {bad}\n"
                )
            }),
            tell: Arc::new(move |alert| {
                heard.lock().push(alert);
                Box::pin(async { Ok(()) })
            }),
            node: "edge1".to_owned(),
            ids: EventIds::new(7),
            clock: clock.clone(),
        };
        let stop = CancellationToken::new();
        let (slo, task) = Slo::start(parts, stop.clone()).await.expect("started");
        Self { deliveries, told, clock, slo, stop, task }
    }

    /// Lets minutes pass in which `good` and `bad` deliveries are counted every ten seconds.
    async fn pass(&self, minutes: u32, good: u64, bad: u64) {
        for _ in 0..minutes * 6 {
            {
                let mut deliveries = self.deliveries.lock();
                deliveries.0 += good;
                deliveries.1 += bad;
            }
            self.clock.advance(TICK);
            tokio::time::sleep(TICK).await;
        }
    }

    fn forward(&self) -> LevelReport {
        self.slo.report().into_iter().find(|report| report.level == Level::ForwardSuccess).expect("the level")
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("ended");
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_of_state_is_told_once_and_remembered_over_a_restart() {
    let kept = Arc::new(Kept::default());
    let bench = Bench::start(&kept, Clock::fixed(START)).await;
    bench.pass(10, 10, 0).await;
    assert!(bench.told.lock().is_empty(), "all is well");
    bench.pass(10, 0, 10).await;
    assert_eq!(bench.forward().state, State::Critical);
    {
        let told = bench.told.lock();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].event.message.starts_with("service level forward_success is critical (it was ok)"), "{told:?}");
        assert_eq!(told[0].event.severity, crate::model::Severity::new(2));
        assert_eq!(told[0].key(), "edge1:unhandled:service level forward_success");
    }
    let before = bench.forward();
    let clock = bench.clock.clone();
    bench.stop().await;

    let bench = Bench::start(&kept, clock).await;
    let after = bench.forward();
    assert_eq!(
        after.windows.map(|window| window.counts),
        before.windows.map(|window| window.counts),
        "counts are kept"
    );
    bench.pass(3, 10, 0).await;
    assert!(bench.told.lock().is_empty(), "it was told before the restart");
    // The bad minutes have to leave the window of an hour.
    bench.pass(70, 10, 0).await;
    let told = bench.told.lock().clone();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].event.message.contains("is ok (it was critical)"), "{told:?}");
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_blip_is_not_told() {
    let bench = Bench::start(&Arc::new(Kept::default()), Clock::fixed(START)).await;
    bench.pass(60, 100, 0).await;
    bench.deliveries.lock().1 += 9;
    bench.pass(10, 100, 0).await;
    assert!(bench.told.lock().is_empty());
    bench.stop().await;
}
