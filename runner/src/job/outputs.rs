//! Job outputs: evaluated at the very end, refused when a secret is in them, kept within the server's limits.

use super::{frame::Frame, steps::JobRun};
use crate::{backend::JobEnv, report::Conclusion};

/// The most that the server keeps of one value, in bytes.
const VALUE_LIMIT: usize = 1024 * 1024;
/// The most that the server keeps of one name, in characters.
const NAME_LIMIT: usize = 255;

impl<E: JobEnv> JobRun<'_, E> {
    /// Evaluates the job's outputs. A value that cannot be evaluated fails the job.
    pub(super) async fn evaluate_outputs(
        &mut self,
        frame: &Frame,
    ) -> std::collections::BTreeMap<String, String> {
        let mut outputs = std::collections::BTreeMap::new();
        let work = self.work;
        let Some(map) = &work.job().outputs else { return outputs };
        let contexts = self.contexts(frame, &self.state.env, None);
        let status = self.status_of_job();
        let values = match self.answered(&contexts, &status, |scope| map.eval_strings(scope)).await {
            Ok(values) => values,
            Err(error) => {
                self.log.error(&format!("The job's outputs cannot be evaluated: {error}")).await;
                self.state.count(Conclusion::Failure);
                return outputs;
            }
        };
        for (name, value) in values {
            if value.is_empty() {
                continue;
            }
            if self.log.would_mask(&value) {
                self.log.warning(&format!("Skip output '{name}' since it may contain secret.")).await;
            } else if name.chars().count() > NAME_LIMIT || value.len() > VALUE_LIMIT {
                let text = format!(
                    "Skip output '{name}': the server keeps names of at most {NAME_LIMIT} characters and values of at most {VALUE_LIMIT} bytes"
                );
                self.log.warning(&text).await;
            } else {
                self.log.row(&format!("Set output '{name}'")).await;
                outputs.insert(name, value);
            }
        }
        outputs
    }
}
