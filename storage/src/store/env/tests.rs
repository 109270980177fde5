//! Tests of the functions derived from an environment, and of the machine as one.

#![allow(clippy::unwrap_used)]

use std::future::{pending, ready};
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read as _};
use std::sync::Arc;
use std::time::Duration;

use super::*;

const SHORT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(3600);

fn env() -> Arc<dyn Env> {
    Arc::new(SystemEnv)
}

#[tokio::test]
async fn a_timeout_gives_up_only_on_what_is_late() {
    let env = env();
    assert_eq!(env.timeout(Duration::ZERO, ready(1)).await, Ok(1));
    assert_eq!(env.timeout(LONG, env.sleep(SHORT)).await, Ok(()));
    let began = env.instant();
    let late = env.timeout(SHORT, pending::<()>()).await;
    assert_eq!(late, Err(Elapsed));
    assert!(env.elapsed(began) >= SHORT);
    // A limit past what the clock can count is none.
    assert_eq!(env.timeout(Duration::MAX, ready(2)).await, Ok(2));
}

#[tokio::test]
async fn an_interval_loses_no_tick_to_a_wait_that_is_given_up() {
    let env = env();
    let mut ticks = env.interval(SHORT);
    let began = env.instant();
    ticks.tick().await;
    let given_up = env.timeout(Duration::ZERO, ticks.tick()).await;
    assert_eq!(given_up, Err(Elapsed));
    ticks.tick().await;
    assert!(env.elapsed(began) >= SHORT);
}

#[tokio::test]
async fn tasks_and_work_give_their_results_and_their_panics() {
    let env = env();
    assert_eq!(env.spawn(async { 1 }).await.unwrap(), 1);
    assert_eq!(env.spawn_blocking(|| 2).await.unwrap(), 2);
    let panicked = env.spawn(async { panic!("as a test") }).await;
    assert!(matches!(panicked, Err(TaskError::Panicked(_))));
    let panicked = env.spawn_blocking(|| panic!("as a test")).await;
    assert!(matches!(panicked, Err(TaskError::Panicked(_))));
}

#[test]
fn without_a_runtime_a_task_is_dropped() {
    let env = env();
    let (task, work) = (env.spawn(async {}), env.spawn_blocking(|| {}));
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let ended = runtime
        .unwrap()
        .block_on(async { (task.await, work.await) });
    assert!(matches!(ended.0, Err(TaskError::Dropped)));
    assert!(matches!(ended.1, Err(TaskError::Dropped)));
}

#[test]
fn jobs_run_side_by_side_and_answer_in_order() {
    // None ends before all have begun.
    let all = std::sync::Barrier::new(3);
    let jobs = (0..3).map(|n| {
        let all = &all;
        move || {
            all.wait();
            n
        }
    });
    assert_eq!(env().run_side_by_side(jobs.collect()), [0, 1, 2]);
}

#[test]
fn a_random_id_is_in_the_middle_of_its_range() {
    struct Fixed([u8; 16]);
    impl Env for Fixed {
        fn now(&self) -> Timestamp {
            SystemEnv.now()
        }
        fn instant(&self) -> Instant {
            SystemEnv.instant()
        }
        fn random(&self) -> [u8; 16] {
            self.0
        }
        fn sleep_until(&self, due: Instant) -> BoxFuture<'static, ()> {
            SystemEnv.sleep_until(due)
        }
        fn start_task(&self, task: BoxFuture<'static, ()>) {
            SystemEnv.start_task(task);
        }
        fn start_work(&self, work: Work) {
            SystemEnv.start_work(work);
        }
        fn start_thread(&self, name: &str, work: Work) -> io::Result<JoinHandle<()>> {
            SystemEnv.start_thread(name, work)
        }
        fn run_jobs(&self, jobs: Vec<Job<'_>>) {
            SystemEnv.run_jobs(jobs);
        }
        fn files(&self) -> &dyn Files {
            SystemEnv.files()
        }
    }
    for byte in [0, 1, 0x7f, 0xff] {
        let id = Fixed([byte; 16]).random_id();
        assert!(id != 0 && id != u64::MAX, "{byte}");
    }
}

#[test]
fn files_are_opened_as_their_modes_say() {
    let dir = ScratchDir::create(env(), "env-").unwrap();
    let files = SystemEnv.files();
    let path = dir.path().join("a");
    let kind = |mode| files.open(&path, mode).unwrap_err().kind();
    assert_eq!(kind(OpenMode::Read), ErrorKind::NotFound);
    assert_eq!(kind(OpenMode::Write), ErrorKind::NotFound);
    let file = files.open(&path, OpenMode::CreateNew).unwrap();
    file.write_all_at(b"stone", 0).unwrap();
    assert_eq!(kind(OpenMode::CreateNew), ErrorKind::AlreadyExists);
    let again = files.open(&path, OpenMode::Create).unwrap();
    assert_eq!(again.read_all().unwrap(), b"stone");
    files.open(&path, OpenMode::CreateEmpty).unwrap();
    assert_eq!(again.size().unwrap(), 0);
}

#[test]
fn a_file_is_written_and_read_piece_by_piece() {
    let dir = ScratchDir::create(env(), "env-").unwrap();
    let files = SystemEnv.files();
    let path = dir.path().join("a");
    let file = files.open(&path, OpenMode::CreateNew).unwrap();
    let mut pieces = [b"dry", &b""[..], b"stone"].map(IoSlice::new);
    file.write_all_vectored_at(&mut pieces, 1).unwrap();
    file.sync_data().unwrap();
    file.drop_cache().unwrap();
    let (mut first, mut rest) = ([0; 4], [0; 4]);
    let mut buffers = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut rest)];
    file.read_exact_vectored_at(&mut buffers, 1).unwrap();
    assert_eq!((&first, &rest), (b"drys", b"tone"));
    let past = file.read_exact_at(&mut [0; 4], 6).unwrap_err();
    assert_eq!(past.kind(), ErrorKind::UnexpectedEof);
    let mut text = String::new();
    FileReader::new(file).read_to_string(&mut text).unwrap();
    assert_eq!(text, "\0drystone");
}

#[test]
fn a_lock_holds_until_its_file_is_dropped() {
    let dir = ScratchDir::create(env(), "env-").unwrap();
    let path = dir.path().join("lock");
    let open = || SystemEnv.files().open(&path, OpenMode::Create).unwrap();
    let (one, other) = (open(), open());
    assert!(one.try_lock().unwrap());
    assert!(!other.try_lock().unwrap());
    drop(one);
    assert!(other.try_lock().unwrap());
}

#[test]
fn names_come_go_and_lead_to_one_file() {
    let dir = ScratchDir::create(env(), "env-").unwrap();
    let files = SystemEnv.files();
    let [a, b, link] = ["a", "b", "link"].map(|name| dir.path().join(name));
    files.open(&a, OpenMode::CreateNew).unwrap();
    files.symlink(&a, &link).unwrap();
    assert_eq!(files.identify(&a).unwrap(), files.identify(&link).unwrap());
    files.rename(&a, &b).unwrap();
    assert!(!files.exists(&a) && !files.exists(&link) && files.exists(&b));
    files.sync_dir(dir.path()).unwrap();
    let names = files.list(dir.path()).unwrap().map(Result::unwrap);
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, ["b", "link"]);
    let path = dir.path().to_owned();
    drop(dir);
    assert!(!files.exists(&path), "temporary files are removed");
}
