//! Plans: create and replace.

use super::{ChangeError, Changes, Kind};
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
        self.put_plan(plan, "plan.create")
    }

    /// Replaces a plan. The new terms hold for its accounts from the next request on, and for the whole of the billing
    /// periods that reports look at: to keep what was, make another plan and move accounts to it.
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
        if self.directory.plan(&plan.id).is_none() {
            return Err(ChangeError::Unknown {
                kind: Kind::Plan,
                id,
            });
        }
        self.put_plan(plan, "plan.replace")
    }

    fn put_plan(&self, plan: &Plan, action: &str) -> Result<(), ChangeError> {
        let detail = serde_json::Value::Object(spoken::show_plan(plan));
        let audit = self.audit(action, plan.id.as_str(), &detail);
        Ok(self.store.put_plan(plan, &audit)?)
    }
}
