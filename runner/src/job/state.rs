//! What a job has become so far: its status, its environment, what its steps said, what its actions remember.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use workflows::{JobStatus, Object, Value};

use super::{effects::StepEffects, frame::Frame};
use crate::{action::LoadedAction, backend::FileIn, report::Conclusion};

/// Names and values in the order in which they came; later values replace earlier ones, names are told apart by case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EnvMap(Vec<(String, String)>);

impl EnvMap {
    /// Sets one variable.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
    }

    /// Sets all of `entries`, in their order.
    pub(crate) fn extend<'e>(&mut self, entries: impl IntoIterator<Item = (&'e str, &'e str)>) {
        for (name, value) in entries {
            self.set(name, value);
        }
    }

    /// The value of a variable.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All variables in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The `env` context: names are told apart by case, as in a Linux process.
    pub(crate) fn to_value(&self) -> Value {
        let mut object = Object::case_sensitive();
        for (name, value) in self.iter() {
            object.insert(name, value);
        }
        Value::object(object)
    }
}

/// What `steps.<id>` shows.
#[derive(Debug, Clone)]
pub(crate) struct StepRecord {
    pub(crate) outputs: Vec<(String, String)>,
    pub(crate) outcome: Conclusion,
    pub(crate) conclusion: Conclusion,
}

/// The `steps` context of a job or of one composite action. A step appears in it when it has ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct StepScope(Vec<(String, StepRecord)>);

impl StepScope {
    /// Keeps what a step has become. Steps without id are kept by nobody.
    pub(crate) fn record(&mut self, id: &str, record: StepRecord) {
        match self.0.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(id)) {
            Some((_, old)) => *old = record,
            None => self.0.push((id.to_owned(), record)),
        }
    }

    /// As expressions see it.
    pub(crate) fn to_value(&self) -> Value {
        let steps = self.0.iter().map(|(id, record)| {
            let outputs: Object = record.outputs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            let mut step = Object::new();
            step.insert("outputs", Value::object(outputs));
            step.insert("outcome", record.outcome.as_str());
            step.insert("conclusion", record.conclusion.as_str());
            (id.as_str(), Value::object(step))
        });
        Value::object(steps.collect())
    }
}

/// What one use of an action keeps between its stages.
#[derive(Debug, Default)]
pub(crate) struct ActionMemory {
    /// `save-state`, as `STATE_<name>` to the later stages.
    pub(crate) saved: BTreeMap<String, String>,
    /// A local action, once it has been read.
    pub(crate) loaded: Option<Arc<LoadedAction>>,
    /// The inner scope of a composite action.
    pub(crate) frame: Option<Frame>,
    /// Whether its post stage has been put down.
    pub(crate) registered: bool,
}

/// How a job stands. Only [`super::steps`] and the steps it runs change it.
#[derive(Debug, Default)]
pub(crate) struct JobState {
    /// What `job.status` says; grows worse only.
    pub(crate) status: JobStatus,
    /// Workflow, job and `GITHUB_ENV` variables.
    pub(crate) env: EnvMap,
    /// `GITHUB_PATH`, newest first.
    pub(crate) prepended: Vec<String>,
    /// What actions remember, by the place of their step (`2`, `2/0`).
    pub(crate) memory: HashMap<String, ActionMemory>,
    /// Step summaries by index of the outer step.
    pub(crate) summaries: BTreeMap<usize, String>,
    /// The place is gone: nothing more can run in it.
    pub(crate) lost: bool,
    /// Whether `bash` was looked for and not found.
    pub(crate) without_bash: bool,
    /// Folders of remote actions that are in the place.
    pub(crate) unpacked: HashSet<String>,
    /// The node that the runner supplies, once the place turned out to have none.
    pub(crate) node: Option<String>,
    /// Files that go in with the first process.
    pub(crate) pending: Vec<FileIn>,
    /// Numbers the files that the job writes into the place.
    pub(crate) files: u64,
}

impl JobState {
    /// Lets the result of a step count: success < failure < cancelled.
    pub(crate) fn count(&mut self, conclusion: Conclusion) {
        if conclusion == Conclusion::Failure && self.status == JobStatus::Success {
            self.status = JobStatus::Failure;
        }
    }

    /// A number that no file of this job has yet.
    pub(crate) fn next_file(&mut self) -> u64 {
        self.files += 1;
        self.files
    }

    /// Applies what a step asked for the steps after it.
    pub(crate) fn apply(&mut self, effects: &StepEffects) {
        for (name, value) in &effects.env {
            self.env.set(name, value);
        }
        for path in &effects.paths {
            self.prepended.retain(|known| known != path);
            self.prepended.insert(0, path.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use workflows::JobStatus;

    use super::{EnvMap, JobState, StepRecord, StepScope};
    use crate::{job::effects::StepEffects, report::Conclusion};

    #[test]
    fn variables_keep_their_place_and_their_case() {
        let mut env = EnvMap::default();
        env.extend([("B", "1"), ("a", "2"), ("A", "3"), ("B", "4")]);
        assert_eq!(env.iter().collect::<Vec<_>>(), [("B", "4"), ("a", "2"), ("A", "3")]);
        assert_eq!(env.to_value().get("b"), None);
    }

    #[test]
    fn a_path_that_comes_again_moves_to_the_front() {
        let mut state = JobState::default();
        for path in ["/a", "/b", "/a"] {
            state.apply(&StepEffects { paths: vec![path.into()], ..StepEffects::default() });
        }
        assert_eq!(state.prepended, ["/a", "/b"]);
    }

    #[test]
    fn only_failures_count() {
        let mut state = JobState::default();
        for conclusion in [Conclusion::Skipped, Conclusion::Cancelled, Conclusion::Success] {
            state.count(conclusion);
        }
        assert_eq!(state.status, JobStatus::Success);
        state.count(Conclusion::Failure);
        assert_eq!(state.status, JobStatus::Failure);
        state.status = JobStatus::Cancelled;
        state.count(Conclusion::Failure);
        assert_eq!(state.status, JobStatus::Cancelled);
    }

    #[test]
    fn steps_are_found_whatever_their_case() {
        let mut scope = StepScope::default();
        let record = StepRecord {
            outputs: vec![("N".into(), "1".into())],
            outcome: Conclusion::Failure,
            conclusion: Conclusion::Success,
        };
        scope.record("Build", record);
        let value = scope.to_value();
        let step = value.get("build").unwrap();
        assert_eq!(step.get("outcome").unwrap().as_str(), Some("failure"));
        assert_eq!(step.get("outputs").unwrap().get("n").unwrap().as_str(), Some("1"));
    }
}
