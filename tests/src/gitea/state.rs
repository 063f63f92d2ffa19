//! What the server knows, and how each call changes it. No network in here: every rule can be tested as a function.
//!
//! The rules are Gitea's: assignment by label subset, sticky final states, first output wins, rows appended by
//! position. Where Gitea's generations differ, [`Dialect`] says which one this is.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use proto::runner::v1::{
    LogRow, Result as TaskResult, Task, TaskNeed, TaskState, UpdateLogRequest, UpdateTaskRequest,
};

use super::{
    payload::{self, Facts, Push},
    rows::{Dialect, Generation, JobRow, Record, RunnerRow, Status, StepRow, TaskRow},
};

/// A refusal: the code that is meant, and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(pub tonic::Code, pub String);

impl Refusal {
    fn new(code: tonic::Code, text: impl Into<String>) -> Self {
        Self(code, text.into())
    }

    pub(crate) fn unregistered() -> Self {
        Self::new(tonic::Code::Unauthenticated, "unregistered runner")
    }
}

/// Everything the server knows.
#[derive(Debug)]
pub struct State {
    /// How it behaves.
    pub dialect: Dialect,
    /// Who is registered.
    pub runners: Vec<RunnerRow>,
    /// All jobs of all runs.
    pub jobs: Vec<JobRow>,
    /// All tasks.
    pub tasks: Vec<TaskRow>,
    /// Every call.
    pub records: Vec<Record>,
    /// Job summaries by task and step, as uploaded.
    pub summaries: BTreeMap<(i64, i64), String>,
    /// Registration tokens and whether they are the latest of their scope.
    pub registration_tokens: Vec<(String, bool)>,
    /// FetchTask answers as if too many picks were going on.
    pub throttled: bool,
    /// What runners call the server.
    pub address: String,
    version: i64,
    last_id: i64,
}

impl State {
    pub(crate) fn new(dialect: Dialect, address: &str) -> Self {
        Self {
            dialect,
            runners: Vec::new(),
            jobs: Vec::new(),
            tasks: Vec::new(),
            records: Vec::new(),
            summaries: BTreeMap::new(),
            registration_tokens: vec![(payload::hex_token(), true)],
            throttled: false,
            address: address.to_owned(),
            version: 1,
            last_id: 0,
        }
    }

    fn next_id(&mut self) -> i64 {
        self.last_id += 1;
        self.last_id
    }

    /// Registers a runner.
    pub(crate) fn register(
        &mut self,
        name: &str,
        token: &str,
        labels: Vec<String>,
        ephemeral: bool,
    ) -> Result<RunnerRow, Refusal> {
        if name.is_empty() || token.is_empty() {
            return Err(Refusal::new(tonic::Code::InvalidArgument, "missing runner token, name"));
        }
        match self.registration_tokens.iter().find(|(known, _)| known == token) {
            None => return Err(Refusal::new(tonic::Code::NotFound, "runner registration token not found")),
            Some((_, false)) => {
                let text = "runner registration token has been invalidated, please use the latest one";
                return Err(Refusal::new(tonic::Code::InvalidArgument, text));
            }
            Some((_, true)) => {}
        }
        let row = RunnerRow {
            id: self.next_id(),
            uuid: uuid::Uuid::new_v4().to_string(),
            token: payload::hex_token(),
            name: name.to_owned(),
            labels,
            ephemeral,
            version: String::new(),
            capabilities: Vec::new(),
            declared: 0,
        };
        self.runners.push(row.clone());
        Ok(row)
    }

    /// Who calls; `unregistered runner` when uuid and token are not a runner's.
    pub(crate) fn authenticate(&self, uuid: &str, token: &str) -> Result<RunnerRow, Refusal> {
        let known = self.runners.iter().find(|row| row.uuid == uuid && row.token == token);
        known.cloned().ok_or_else(Refusal::unregistered)
    }

    pub(crate) fn push(&mut self, push: &Push) -> Vec<i64> {
        let run = self.next_id();
        let mut ids = Vec::new();
        for planned in payload::plan(&push.workflow) {
            let status = if planned.needs.is_empty() { Status::Waiting } else { Status::Blocked };
            let id = self.next_id();
            ids.push(id);
            self.jobs.push(JobRow { id, run, status, task: None, planned, push: push.clone() });
        }
        self.version += 1;
        ids
    }

    /// Hands out at most one task.
    pub(crate) fn fetch(&mut self, runner: &RunnerRow, asked: i64) -> Result<(Option<Task>, i64), Refusal> {
        if self.throttled {
            return Ok((None, asked));
        }
        if asked == self.version {
            return Ok((None, self.version));
        }
        if runner.ephemeral
            && let Some(task) = self.tasks.iter().find(|task| task.runner == runner.id)
        {
            if task.status.is_final() {
                self.runners.retain(|row| row.id != runner.id);
                return Err(Refusal::new(tonic::Code::Internal, "pick task: runner has been removed"));
            }
            return Ok((None, self.version));
        }
        let matches = |job: &JobRow| {
            job.status == Status::Waiting
                && job.task.is_none()
                && job.planned.runs_on.iter().all(|wanted| runner.labels.contains(wanted))
        };
        let Some(place) = self.jobs.iter().position(matches) else { return Ok((None, self.version)) };
        Ok((Some(self.assign(place, runner)), self.version))
    }

    fn assign(&mut self, place: usize, runner: &RunnerRow) -> Task {
        let id = self.next_id();
        let (token, now) = (payload::hex_token(), Instant::now());
        let needs = self.needs(&self.jobs[place]);
        let job = &mut self.jobs[place];
        job.status = Status::Running;
        job.task = Some(id);
        let runtime_token = payload::runtime_token(id, job.run, job.id);
        let facts = Facts {
            address: &self.address,
            event: &job.push.event,
            run: job.run,
            job: &job.planned.key,
            file: &job.push.file,
            token: &token,
            runtime_token: &runtime_token,
        };
        let mut secrets = job.push.secrets.clone();
        secrets.insert("GITHUB_TOKEN".to_owned(), token.clone());
        secrets.insert("GITEA_TOKEN".to_owned(), token.clone());
        let task = Task {
            id,
            workflow_payload: Some(job.planned.payload.clone().into_bytes()),
            context: Some(payload::context(&facts)),
            secrets: secrets.into_iter().collect(),
            needs: needs.into_iter().collect(),
            vars: job.push.vars.clone().into_iter().collect(),
            ..Task::default()
        };
        self.tasks.push(TaskRow {
            id,
            job: job.id,
            runner: runner.id,
            status: Status::Running,
            updated: now,
            assigned: now,
            ended: None,
            stopped_at: 0,
            steps: vec![StepRow::default(); job.planned.steps],
            rows: Vec::new(),
            arrived: Vec::new(),
            archived: false,
            outputs: BTreeMap::new(),
            token,
            runtime_token,
            final_reports: 0,
        });
        task
    }

    /// Results and outputs of a job's direct needs, merged over their matrix.
    fn needs(&self, job: &JobRow) -> BTreeMap<String, TaskNeed> {
        let mut needs = BTreeMap::new();
        for key in &job.planned.needs {
            let mut need = TaskNeed::default();
            let mut all = Vec::new();
            for sibling in self.jobs.iter().filter(|other| other.run == job.run && other.planned.key == *key)
            {
                all.push(sibling.status);
                let outputs = sibling.task.and_then(|id| self.task(id)).map(|task| task.outputs.clone());
                for (name, value) in outputs.unwrap_or_default() {
                    if !value.is_empty() {
                        need.outputs.insert(name, value);
                    }
                }
            }
            need.set_result(together(&all).result());
            needs.insert(key.clone(), need);
        }
        needs
    }

    /// The task with this id.
    pub fn task(&self, id: i64) -> Option<&TaskRow> {
        self.tasks.iter().find(|task| task.id == id)
    }

    fn own_task(&mut self, runner: &RunnerRow, id: i64, what: &str) -> Result<&mut TaskRow, Refusal> {
        let task = self.tasks.iter_mut().find(|task| task.id == id);
        let task = task.ok_or_else(|| {
            Refusal::new(tonic::Code::Internal, format!("{what}: resource does not exist [id: {id}]"))
        })?;
        if task.runner != runner.id {
            return Err(Refusal::new(tonic::Code::Internal, format!("{what}: invalid runner for task")));
        }
        Ok(task)
    }

    pub(crate) fn update_task(
        &mut self,
        runner: &RunnerRow,
        request: &UpdateTaskRequest,
    ) -> Result<(TaskState, Vec<String>), Refusal> {
        let Some(state) = &request.state else {
            return Err(Refusal::new(tonic::Code::Internal, "runtime error: invalid memory address"));
        };
        let task = self.own_task(runner, state.id, "update task")?;
        let ended = !task.status.is_final() && apply_state(task, state);
        for (key, value) in &request.outputs {
            if key.len() <= 255 && value.len() <= 1 << 20 {
                task.outputs.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
        let answer = TaskState {
            id: task.id,
            result: if task.status == Status::Running { 0 } else { task.status.result().into() },
            ..TaskState::default()
        };
        let sent = task.outputs.keys().cloned().collect();
        if state.result() != TaskResult::Unspecified {
            task.final_reports += 1;
        }
        if ended {
            let (job, status) = (task.job, task.status);
            self.finish_job(job, status);
        }
        Ok((answer, sent))
    }

    pub(crate) fn update_log(
        &mut self,
        runner: &RunnerRow,
        request: &UpdateLogRequest,
    ) -> Result<i64, Refusal> {
        let generation = self.dialect.generation;
        let task = self.own_task(runner, request.task_id, "get task")?;
        let ack = i64::try_from(task.rows.len()).expect("a log has fewer rows");
        let end = request.index + i64::try_from(request.rows.len()).expect("a request has fewer rows");
        let sealed = Refusal::new(tonic::Code::AlreadyExists, "log file has been archived");
        let nothing_new = request.index > ack || end <= ack;
        if nothing_new {
            if generation == Generation::Second && request.no_more && request.index <= ack {
                task.archived = true;
            }
            return Ok(ack);
        }
        if task.archived {
            return Err(sealed);
        }
        let known = usize::try_from(ack - request.index).expect("the index is not above the count");
        for row in &request.rows[known..] {
            task.rows.push((time(row), stored(&row.content)));
            task.arrived.push(SystemTime::now());
        }
        task.updated = Instant::now();
        task.archived = request.no_more;
        Ok(end)
    }

    /// Presses the cancel button of a run.
    pub(crate) fn cancel(&mut self, run: i64) {
        let ids: Vec<i64> = self.jobs.iter().filter(|job| job.run == run).map(|job| job.id).collect();
        for id in ids {
            let Some(job) = self.jobs.iter_mut().find(|job| job.id == id) else { continue };
            if job.status.is_final() {
                continue;
            }
            let generation = self.dialect.generation;
            match job.task {
                None => job.status = Status::Cancelled,
                Some(task) => {
                    let Some(task) = self.tasks.iter_mut().find(|row| row.id == task) else { continue };
                    let runner = self.runners.iter().find(|runner| runner.id == task.runner);
                    let can = runner.is_some_and(|row| row.capabilities.iter().any(|c| c == "cancelling"));
                    if generation == Generation::Second && can {
                        task.status = Status::Cancelling;
                        job.status = Status::Cancelling;
                    } else {
                        task.status = Status::Cancelled;
                        task.ended = Some(Instant::now());
                        self.finish_job(id, Status::Cancelled);
                    }
                }
            }
        }
    }

    /// Ends every running task that has given no sign of life for `limit`.
    pub(crate) fn sweep(&mut self, limit: Duration) -> usize {
        let mut ended = Vec::new();
        for task in self.tasks.iter_mut().filter(|task| !task.status.is_final()) {
            if task.updated.elapsed() >= limit {
                let cancelling = task.status == Status::Cancelling;
                task.status = if cancelling { Status::Cancelled } else { Status::Failure };
                task.archived = true;
                task.ended = Some(Instant::now());
                for step in task.steps.iter_mut().filter(|step| step.result.is_none()) {
                    step.result = Some(task.status);
                    step.stopped = true;
                }
                ended.push((task.job, task.status));
            }
        }
        for (job, status) in &ended {
            self.finish_job(*job, *status);
        }
        ended.len()
    }

    fn finish_job(&mut self, id: i64, status: Status) {
        let Some(job) = self.jobs.iter_mut().find(|job| job.id == id) else { return };
        job.status = status;
        let run = job.run;
        if let Some(runner) = job.task.and_then(|task| self.task(task)).map(|task| task.runner) {
            self.runners.retain(|row| !(row.ephemeral && row.id == runner));
        }
        // A skipped dependent may unblock or skip its own dependents: until nothing changes.
        while self.unblock(run) {}
        self.version += 1;
    }

    fn unblock(&mut self, run: i64) -> bool {
        let statuses: Vec<(String, Status)> = self
            .jobs
            .iter()
            .filter(|job| job.run == run)
            .map(|job| (job.planned.key.clone(), job.status))
            .collect();
        for job in self.jobs.iter_mut().filter(|job| job.run == run && job.status == Status::Blocked) {
            let needed: Vec<Status> =
                statuses.iter().filter(|(key, _)| job.planned.needs.contains(key)).map(|(_, s)| *s).collect();
            if needed.iter().all(|status| status.is_final()) {
                let good = needed.iter().all(|status| *status == Status::Success);
                job.status = if good || job.planned.has_if { Status::Waiting } else { Status::Skipped };
                return true;
            }
        }
        false
    }
}

/// Copies what a runner reports; says whether the task became final by it.
fn apply_state(task: &mut TaskRow, state: &TaskState) -> bool {
    task.updated = Instant::now();
    let cancelling = task.status == Status::Cancelling;
    let result = Status::of(state.result());
    if let Some(result) = result {
        task.status = if cancelling { Status::Cancelled } else { result };
        task.stopped_at = state.stopped_at.as_ref().map_or(0, |at| at.seconds);
        task.ended = Some(Instant::now());
    }
    for (index, row) in task.steps.iter_mut().enumerate() {
        let Some(step) = state.steps.iter().find(|step| usize::try_from(step.id) == Ok(index)) else {
            continue;
        };
        row.log_index = step.log_index;
        row.log_length = step.log_length;
        row.started = step.started_at.is_some();
        row.stopped = step.stopped_at.is_some();
        row.result = Status::of(step.result());
    }
    result.is_some()
}

/// How the instances of one matrix count together.
fn together(all: &[Status]) -> Status {
    if all.iter().all(|status| *status == Status::Skipped) {
        Status::Skipped
    } else if all.iter().all(|status| matches!(status, Status::Success | Status::Skipped)) {
        Status::Success
    } else if all.contains(&Status::Cancelled) {
        Status::Cancelled
    } else {
        Status::Failure
    }
}

fn time(row: &LogRow) -> SystemTime {
    row.time.as_ref().map_or(SystemTime::UNIX_EPOCH, |time| {
        SystemTime::UNIX_EPOCH
            + Duration::new(u64::try_from(time.seconds).unwrap_or(0), u32::try_from(time.nanos).unwrap_or(0))
    })
}

/// What the server makes of a row's text: one line, at most 65,536 bytes.
fn stored(content: &str) -> String {
    let line = content.replace('\n', "\\n");
    let cut = line.len().min(65_536);
    String::from_utf8_lossy(&line.as_bytes()[..cut]).into_owned()
}
