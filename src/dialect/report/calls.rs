//! Calls of the provider's own tools, which are billed beside the tokens.

use super::super::json::each_member;
use crate::tokens::Usage;

/// How often an answer called the provider's own tools, as far as its output shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Web searches.
    pub web_searches: u64,
    /// Searches in files.
    pub file_searches: u64,
    /// Runs of the code interpreter.
    pub code_interpreters: u64,
    /// Images made beside the text, billed by their own model's tokens.
    pub images: u64,
    /// Commands in a container of the provider's, billed by its time.
    pub shells: u64,
}

impl Calls {
    /// Counts an item of OpenAI's output, if it is such a call. Of the web search only a search is, not a look at a page
    /// already found (the actions `open_page`, `find`, `find_in_page`).
    pub(super) fn take_item(&mut self, item: &str) {
        let (mut kind, mut action, mut environment) = (None, None, None);
        each_member(item, |name, value| match &*name {
            "type" => kind = Some(value),
            "action" => action = type_of(value),
            "environment" => environment = type_of(value),
            _ => {}
        });
        let calls = match kind {
            Some("\"web_search_call\"") if matches!(action, None | Some("\"search\"")) => {
                &mut self.web_searches
            }
            Some("\"file_search_call\"") => &mut self.file_searches,
            Some("\"code_interpreter_call\"") => &mut self.code_interpreters,
            Some("\"image_generation_call\"") => &mut self.images,
            // One on the client's own machine is nothing to the provider.
            Some("\"shell_call\"") if environment == Some("\"container_reference\"") => {
                &mut self.shells
            }
            _ => return,
        };
        *calls += 1;
    }

    /// Counts a block of Anthropic's content: what its search brought is a list. A search that failed has an error in its
    /// place, and is not billed.
    pub(super) fn take_block(&mut self, block: &str) {
        let (mut is_result, mut is_list) = (false, false);
        each_member(block, |name, value| match &*name {
            "type" => is_result = value == "\"web_search_tool_result\"",
            "content" => is_list = value.starts_with('['),
            _ => {}
        });
        self.web_searches += u64::from(is_result && is_list);
    }

    /// Puts the calls into a usage that does not tell of them, or of fewer.
    pub(crate) fn add_to(&self, usage: &mut Usage) {
        let counts = [
            (&mut usage.web_search_requests, self.web_searches),
            (&mut usage.file_search_requests, self.file_searches),
            (&mut usage.code_interpreter_requests, self.code_interpreters),
        ];
        for (count, calls) in counts {
            *count = calls.max(*count);
        }
    }

    /// The larger of both, tool by tool.
    pub(super) fn max(self, other: Calls) -> Calls {
        Calls {
            web_searches: self.web_searches.max(other.web_searches),
            file_searches: self.file_searches.max(other.file_searches),
            code_interpreters: self.code_interpreters.max(other.code_interpreters),
            images: self.images.max(other.images),
            shells: self.shells.max(other.shells),
        }
    }
}

fn type_of(object: &str) -> Option<&str> {
    let mut kind = None;
    each_member(object, |name, value| {
        if name == "type" {
            kind = Some(value);
        }
    });
    kind
}
