//! A Gitea made of Rust: the generated server behind tonic's gRPC-Web layer, on a real socket, with the rules of
//! `state` and the faults of [`front`](Fault).
//!
//! It has a thread of its own, so stories are plain functions: they change something, then wait with
//! [`FakeGitea::until`] for what has to become true. It can go away ([`FakeGitea::down`]) and come back on its port.

mod connect;
mod front;
mod payload;
mod rows;
#[cfg(test)]
mod rules;
mod service;
mod state;

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Condvar, Mutex, MutexGuard, mpsc as threads},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};

pub use front::Fault;
pub use payload::Push;
pub use rows::{Dialect, Errors, Generation, JobRow, Record, RunnerRow, Status, StepRow, TaskRow};
pub use state::{Refusal, State};

/// What connections and stories share.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    faults: Mutex<VecDeque<(String, Fault)>>,
    sub_path: String,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no story panics while it holds the server's state")
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// The next fault for this method, in the order in which they were asked for.
    fn take_fault(&self, method: &str) -> Option<Fault> {
        let mut faults = self.faults.lock().expect("the queue of faults is only pushed and popped");
        let place = faults.iter().position(|(name, _)| name == method)?;
        faults.remove(place).map(|(_, fault)| fault)
    }
}

enum Command {
    Down(threads::Sender<()>),
    Up(threads::Sender<()>),
}

/// The server, and the story's hand on it.
#[derive(Debug)]
pub struct FakeGitea {
    shared: Arc<Shared>,
    commands: Option<mpsc::Sender<Command>>,
    thread: Option<JoinHandle<()>>,
    address: SocketAddr,
}

impl FakeGitea {
    /// A server on a free port of loopback.
    pub fn start() -> Self {
        Self::with(Dialect::default(), "")
    }

    /// A server that behaves like `dialect`, below `sub_path` (empty, or `/gitea`).
    ///
    /// # Panics
    /// When loopback has no port.
    pub fn with(dialect: Dialect, sub_path: &str) -> Self {
        let (commands, receiver) = mpsc::channel(4);
        let (started, address) = threads::channel();
        let sub_path = sub_path.to_owned();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime for the server");
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port of loopback");
                let address = listener.local_addr().expect("a bound socket has an address");
                let shared = Arc::new(Shared {
                    state: Mutex::new(State::new(dialect, &format!("http://{address}{sub_path}"))),
                    changed: Condvar::new(),
                    faults: Mutex::default(),
                    sub_path,
                });
                started.send((Arc::clone(&shared), address)).expect("the story waits for the server");
                listen(listener, address, shared, receiver).await;
            });
        });
        let (shared, address) = address.recv().expect("the server starts");
        Self { shared, commands: Some(commands), thread: Some(thread), address }
    }

    /// What a runner is told to register with.
    pub fn url(&self) -> String {
        self.state().address.clone()
    }

    /// Host and port.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The registration token of the day.
    pub fn registration_token(&self) -> String {
        self.state().registration_tokens[0].0.clone()
    }

    /// Everything the server knows, locked: for a look, not to keep.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }

    /// Pushes a workflow; its run.
    pub fn push(&self, push: &Push) -> Run {
        let jobs = self.shared.change(|state| state.push(push));
        let run = self.state().jobs.iter().find(|job| Some(&job.id) == jobs.first()).map_or(0, |job| job.run);
        Run { id: run, jobs }
    }

    /// Presses the run's cancel button.
    pub fn cancel(&self, run: &Run) {
        self.shared.change(|state| state.cancel(run.id));
    }

    /// The sweep for tasks without a sign of life since `limit`; how many it ended.
    pub fn sweep(&self, limit: Duration) -> usize {
        self.shared.change(|state| state.sweep(limit))
    }

    /// Deletes all runners, as an administrator does.
    pub fn delete_runners(&self) {
        self.shared.change(|state| state.runners.clear());
    }

    /// Changes anything else about the server.
    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        self.shared.change(change)
    }

    /// The next call of `method` that has no fault yet gets this one.
    ///
    /// # Panics
    /// Never: the queue is only pushed and popped.
    pub fn fault(&self, method: &str, fault: Fault) {
        let mut faults = self.shared.faults.lock().expect("the queue of faults is only pushed and popped");
        faults.push_back((method.to_owned(), fault));
    }

    /// How many faults nobody has run into yet.
    ///
    /// # Panics
    /// Never: the queue is only pushed and popped.
    pub fn faults_left(&self) -> usize {
        self.shared.faults.lock().expect("the queue of faults is only pushed and popped").len()
    }

    /// The server goes away: no port, all connections broken. What it knows stays.
    pub fn down(&self) {
        self.command(Command::Down);
    }

    /// The server is back on its port.
    pub fn up(&self) {
        self.command(Command::Up);
    }

    fn command(&self, make: impl FnOnce(threads::Sender<()>) -> Command) {
        let (done, wait) = threads::channel();
        let commands = self.commands.as_ref().expect("the server runs until it is dropped");
        commands.blocking_send(make(done)).expect("the server takes commands");
        wait.recv().expect("the server did what it was told");
    }

    /// Waits until `look` sees something, at most `seconds`.
    ///
    /// # Panics
    /// When the time is over: with `what`, and with what the server knows.
    pub fn until<T>(&self, seconds: u64, what: &str, mut look: impl FnMut(&State) -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        let mut state = self.shared.lock();
        loop {
            if let Some(seen) = look(&state) {
                return seen;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let story = describe(&state);
                drop(state);
                panic!("not within {seconds} s: {what}\n{story}");
            }
            // At least every 100 ms: a look may also read files or clocks.
            let turn = left.min(Duration::from_millis(100));
            state = self.shared.changed.wait_timeout(state, turn).expect("no story panics with the state").0;
        }
    }

    /// Waits for the task of a run's job.
    pub fn task_of(&self, seconds: u64, run: &Run, job: usize) -> TaskRow {
        let id = run.jobs[job];
        self.until(seconds, "the job is taken by a runner", |state| {
            let job = state.jobs.iter().find(|row| row.id == id)?;
            job.task.and_then(|task| state.task(task)).cloned()
        })
    }

    /// Waits until a run's job is over and its log is sealed; the task, or nothing for a job that never ran.
    pub fn ended(&self, seconds: u64, run: &Run, job: usize) -> Option<TaskRow> {
        let id = run.jobs[job];
        self.until(seconds, "the job is over and its log sealed", |state| {
            let job = state.jobs.iter().find(|row| row.id == id)?;
            let task = job.task.and_then(|task| state.task(task));
            match task {
                None if job.status.is_final() => Some(None),
                Some(task) if job.status.is_final() && task.archived => Some(Some(task.clone())),
                _ => None,
            }
        })
    }

    /// Waits until the job of a one-job run is over; its task.
    ///
    /// # Panics
    /// When the job never ran.
    pub fn finished(&self, seconds: u64, run: &Run) -> TaskRow {
        self.ended(seconds, run, 0).expect("the job ran")
    }
}

impl Drop for FakeGitea {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed; a second one here would only hide the story's own.
            drop(thread.join());
        }
    }
}

/// A run and its jobs, in the order of the workflow.
#[derive(Debug, Clone)]
pub struct Run {
    /// The run.
    pub id: i64,
    /// Its jobs.
    pub jobs: Vec<i64>,
}

fn describe(state: &State) -> String {
    let mut story = Vec::new();
    for job in &state.jobs {
        story.push(format!("job {} ({}): {:?}", job.id, job.planned.name, job.status));
        let Some(task) = job.task.and_then(|id| state.task(id)) else { continue };
        let (steps, lines) = (&task.steps, task.lines());
        story.push(format!("  task {}: {:?}, archived {}, {steps:?}", task.id, task.status, task.archived));
        story.extend(lines[lines.len().saturating_sub(40)..].iter().map(|line| format!("    | {line}")));
    }
    for record in &state.records[state.records.len().saturating_sub(20)..] {
        let Record { method, task, rows, index, no_more, .. } = record;
        story.push(format!("call {method}: task {task}, rows {rows} from {index}, no_more {no_more}"));
    }
    story.join("\n")
}

/// Accepts connections until the story drops the server.
async fn listen(
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
    mut commands: mpsc::Receiver<Command>,
) {
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                None => return,
                Some(Command::Down(done)) => {
                    listener = None;
                    connections.shutdown().await;
                    done.send(()).expect("the story waits for it");
                }
                Some(Command::Up(done)) => {
                    listener = Some(TcpListener::bind(address).await.expect("the port is still ours"));
                    done.send(()).expect("the story waits for it");
                }
            },
            accepted = accept(listener.as_ref()) => {
                let front = front::Front::new(Arc::clone(&shared));
                connections.spawn(async move {
                    let serve = service_fn(move |request| front.clone().serve(request));
                    // A broken connection is what some stories are about.
                    drop(http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(accepted), serve).await);
                });
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> tokio::net::TcpStream {
    match listener {
        None => std::future::pending().await,
        Some(listener) => loop {
            if let Ok((stream, _)) = listener.accept().await {
                return stream;
            }
        },
    }
}
