//! Calls of reusable workflows: asking for the file, entering it with inputs and secrets, leaving it with
//! outputs.

use std::sync::Arc;

use super::{LegState, MAX_CALL_DEPTH, NodeState, Run};
use crate::expr::{Object, Scope, Template, Value};
use crate::model::{Workflow, WorkflowSecrets};
use crate::plan::graph::NeedResult;
use crate::plan::inputs::resolve_inputs;
use crate::plan::planned::{Step, WorkflowRequest};
use crate::plan::reference::{RemoteWorkflow, WorkflowReference};

impl Run {
    pub(super) fn request_workflow(&mut self, leg: usize) -> Result<(), String> {
        let node = self.legs[leg].node;
        let frame = &self.frames[self.nodes[node].frame];
        let Some(call) = &self.job(node).call else { return Ok(()) };
        let reference = WorkflowReference::parse(&call.uses)?;
        if frame.callers.len() >= MAX_CALL_DEPTH {
            return Err(format!(
                "reusable workflows are nested deeper than {MAX_CALL_DEPTH} levels at {reference}"
            ));
        }
        let from = frame.remote.clone();
        let known =
            self.requests.iter().position(|request| request.reference == reference && request.from == from);
        let number = known.unwrap_or(self.requests.len());
        if known.is_none() {
            let request = WorkflowRequest { number, reference, from };
            self.requests.push(request.clone());
            self.answers.push(None);
            self.steps.push_back(Step::Fetch(request));
        }
        self.legs[leg].state = LegState::Asking(number);
        Ok(())
    }

    pub(super) fn begin_call(&mut self, leg: usize, request: usize, answer: Result<Arc<Workflow>, String>) {
        let begun = answer.and_then(|workflow| self.call_workflow(leg, request, workflow));
        if let Err(message) = begun {
            self.fail_leg(leg, message);
        }
    }

    fn call_workflow(&mut self, leg: usize, request: usize, workflow: Arc<Workflow>) -> Result<(), String> {
        let request = &self.requests[request];
        let Some(trigger) = workflow.on.get("workflow_call") else {
            return Err(format!("{} cannot be called: its 'on' has no 'workflow_call'", request.reference));
        };
        let node = self.legs[leg].node;
        let caller = &self.frames[self.nodes[node].frame];
        let Some(call) = &self.job(node).call else { return Ok(()) };
        let mut contexts = self.leg_contexts(leg);
        let scope = Scope::new(&contexts);
        let given: Vec<(String, Value)> = match &call.with {
            Some(with) => with
                .eval_object(&scope)
                .map_err(|error| format!("with of job: {error}"))?
                .iter()
                .map(|(key, value)| (key.to_owned(), value.clone()))
                .collect(),
            None => Vec::new(),
        };
        let defaults = self.base_contexts(self.nodes[node].frame);
        let inputs =
            resolve_inputs(trigger, &given, &Scope::new(&defaults)).map_err(|errors| errors.join("; "))?;
        contexts.set("secrets", caller.secrets.clone());
        let secrets = match &call.secrets {
            Some(WorkflowSecrets::Inherit(_)) => caller.secrets.clone(),
            other => {
                let mut secrets = Object::new();
                for token in ["GITHUB_TOKEN", "GITEA_TOKEN"] {
                    if let Some(value) = caller.secrets.get(token) {
                        secrets.insert(token, value.clone());
                    }
                }
                if let Some(WorkflowSecrets::Map(map)) = other {
                    let given = map.eval_object(&Scope::new(&contexts));
                    for (key, value) in given.map_err(|error| format!("secrets of job: {error}"))?.iter() {
                        secrets.insert(key, value.clone());
                    }
                }
                Value::object(secrets)
            }
        };
        for secret in trigger.secrets.iter().filter(|secret| secret.required) {
            let name = secret.name.value.as_str();
            if !secrets.get(name).is_some_and(Value::is_truthy) {
                return Err(format!(
                    "Secret '{name}' is required by {}, but not provided",
                    request.reference
                ));
            }
        }
        let remote = match (&request.reference, &request.from) {
            (WorkflowReference::Remote(remote), _) => Some(remote.clone()),
            (WorkflowReference::Local { path }, Some(from)) => {
                Some(RemoteWorkflow { path: path.clone(), ..from.clone() })
            }
            (WorkflowReference::Local { .. }, None) => None,
        };
        let prefix = format!("{} / ", self.legs[leg].name);
        let mut callers = caller.callers.clone();
        callers.push(request.reference.clone());
        let frame = self.frames.len();
        let name = workflow.source.name().to_owned();
        self.open_frame(workflow, Value::object(inputs), secrets, Some(leg), remote, prefix, callers)
            .map_err(|errors| {
                let first = errors.first().map_or_else(String::new, |error| error.message.clone());
                format!("{name}: {first}")
            })?;
        self.legs[leg].state = LegState::Calling(frame);
        Ok(())
    }

    /// Outputs of a called workflow are evaluated over the jobs it ran.
    pub(super) fn end_call(&mut self, leg: usize, frame: usize) {
        let result = self.frame_result(frame);
        let needs: Vec<&NeedResult> = self.frames[frame]
            .nodes
            .iter()
            .filter_map(|node| match &self.nodes[*node].state {
                NodeState::Done(need) => Some(need),
                _ => None,
            })
            .collect();
        let contexts = self.base_contexts(frame).with("jobs", NeedResult::context(needs));
        let scope = Scope::new(&contexts);
        let mut outputs = Object::new();
        let mut failure = None;
        if let Some(trigger) = self.frames[frame].workflow.on.get("workflow_call") {
            for output in &trigger.outputs {
                let value = output
                    .value
                    .as_ref()
                    .map_or(Ok(String::new()), |value: &Template| value.eval_string(&scope));
                match value {
                    Ok(value) => {
                        outputs.insert(output.name.value.as_str(), value);
                    }
                    Err(error) => failure = Some(format!("output '{}': {error}", output.name.value)),
                }
            }
        }
        self.legs[leg].outputs = outputs;
        match failure {
            Some(message) => self.fail_leg(leg, message),
            None => self.end_leg(leg, result),
        }
    }
}
