//! Plans: create and replace.

use jiff::Timestamp;

use super::{ChangeError, Changes, Kind, history};
use crate::config::spoken;
use crate::plan::Plan;

impl Changes<'_> {
    /// Makes a plan.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub fn create_plan(&self, plan: &Plan) -> Result<(), ChangeError> {
        if self.directory.plan(&plan.id).is_some() {
            return Err(ChangeError::Taken {
                kind: Kind::Plan,
                id: plan.id.to_string(),
            });
        }
        self.put_plan(plan, "plan.create")?;
        Ok(history::record_plans(
            self.store,
            &[plan],
            Timestamp::now(),
        )?)
    }

    /// Replaces a plan. Its limits hold from the next request on, its terms from this moment on: revenue before it stays as
    /// it was.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub fn replace_plan(&self, plan: &Plan) -> Result<(), ChangeError> {
        let id = plan.id.to_string();
        if self
            .config
            .plans
            .iter()
            .any(|declared| declared.id == plan.id)
        {
            return Err(ChangeError::Declared {
                kind: Kind::Plan,
                id,
            });
        }
        let Some(old) = self.directory.plan(&plan.id) else {
            return Err(ChangeError::Unknown {
                kind: Kind::Plan,
                id,
            });
        };
        // What its terms were until now, should nobody have recorded that yet.
        history::record_plans(self.store, &[old], Timestamp::now())?;
        self.put_plan(plan, "plan.replace")?;
        Ok(history::record_plans(
            self.store,
            &[plan],
            Timestamp::now(),
        )?)
    }

    fn put_plan(&self, plan: &Plan, action: &str) -> Result<(), ChangeError> {
        let detail = serde_json::Value::Object(spoken::show_plan(plan));
        let audit = self.audit(action, plan.id.as_str(), &detail);
        Ok(self.store.put_plan(plan, Some(self.version), &audit)?)
    }
}
