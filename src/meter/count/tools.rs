//! Tools and schemas as OpenAI's models see them: rendered to TypeScript, then tokenized.
//!
//! OpenAI does not document the rendering; this is the one that its models recite and that open-source counters use
//! (hmarr/openai-chat-tokens). It meets the bill for simple functions and comes close for others: an estimate.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write as _;

use super::json;
use super::tally::Tally;

/// What the definitions cost beside their text: the message that they stand in.
const DEFINITIONS_TOKENS: u64 = 9;
/// Deeper schemas are rendered as the JSON that they are, and larger definitions altogether: rendering reads each level
/// anew.
const DEPTH_MAX: usize = 12;
const DEFINITIONS_BYTES_MAX: usize = 256 << 10;

/// Counts `tools` (each `{type, function: {…}}` in a chat, `{type, name, …}` in a response) or the older `functions`.
/// Returns whether there was any.
pub(super) fn count(tools: &str, tally: &mut Tally<'_>) -> bool {
    if tools.len() > DEFINITIONS_BYTES_MAX {
        tally.json(tools);
        tally.guess();
        return true;
    }
    let mut text = String::from("namespace functions {\n\n");
    let mut any = false;
    json::each_element(tools, |tool| {
        any = true;
        let function = json::member(tool, "function").or(json::member(tool, "custom"));
        render_function(function.unwrap_or(tool), &mut text);
    });
    if any {
        text.push_str("} // namespace functions");
        tally.text(&text);
        tally.add(DEFINITIONS_TOKENS);
        tally.guess();
    }
    any
}

/// Counts the schema of a structured answer.
pub(super) fn count_schema(format: &str, tally: &mut Tally<'_>) {
    let schema = json::member(format, "json_schema").unwrap_or(format);
    let Some(definition) = json::member(schema, "schema") else {
        return;
    };
    tally.text(&json::member_text(schema, "name"));
    tally.text(&json::member_text(schema, "description"));
    tally.json(definition);
    tally.guess();
}

fn render_function(function: &str, text: &mut String) {
    let name = json::member_text(function, "name");
    let description = json::member_text(function, "description");
    if !description.is_empty() {
        let _ = writeln!(text, "// {description}");
    }
    if name.is_empty() {
        // A tool of the provider's own, or of a kind that is not known: its settings stand for it.
        let _ = writeln!(text, "{}\n", function);
        return;
    }
    let _ = write!(text, "type {name} = (");
    match json::member(function, "parameters").or(json::member(function, "input_schema")) {
        Some(parameters) if has_properties(parameters) => {
            text.push_str("_: {\n");
            render_properties(parameters, 0, text);
            text.push_str("}) => any;\n\n");
        }
        _ => text.push_str(") => any;\n\n"),
    }
    if let Some(format) = json::member(function, "format") {
        // A custom tool's grammar.
        text.push_str(&json::member_text(format, "definition"));
    }
}

fn has_properties(schema: &str) -> bool {
    let mut any = false;
    if let Some(properties) = json::member(schema, "properties") {
        json::each_member(properties, |_, _| any = true);
    }
    any
}

fn render_properties(schema: &str, depth: usize, text: &mut String) {
    let mut required: HashSet<Cow<'_, str>> = HashSet::new();
    if let Some(names) = json::member(schema, "required") {
        json::each_element(names, |name| required.extend(json::text(name)));
    }
    let Some(properties) = json::member(schema, "properties") else {
        return;
    };
    json::each_member(properties, |name, property| {
        let description = json::member_text(property, "description");
        // Descriptions deeper than the second level are not shown to the model.
        if !description.is_empty() && depth < 2 {
            let _ = writeln!(text, "// {description}");
        }
        let optional = if required.contains(name) { "" } else { "?" };
        let _ = write!(text, "{name}{optional}: ");
        render_type(property, depth, text);
        text.push_str(",\n");
    });
}

fn render_type(schema: &str, depth: usize, text: &mut String) {
    if depth >= DEPTH_MAX {
        text.push_str(schema);
        return;
    }
    if let Some(values) = json::member(schema, "enum") {
        join(values, text, |value, text| text.push_str(value));
        return;
    }
    for choice in ["anyOf", "oneOf", "allOf"] {
        if let Some(choices) = json::member(schema, choice) {
            join(choices, text, |choice, text| {
                render_type(choice, depth + 1, text);
            });
            return;
        }
    }
    let Some(kind) = json::member(schema, "type") else {
        // A reference or a constant.
        text.push_str(if json::is_object(schema) {
            schema
        } else {
            "any"
        });
        return;
    };
    if json::is_array(kind) {
        // What it is made of is told once, however often a hostile list names it.
        let mut told = HashSet::new();
        join(kind, text, |kind, text| {
            let kind = json::text(kind).unwrap_or_default();
            if told.insert(kind.clone()) {
                render_kind(&kind, schema, depth, text);
            }
        });
    } else {
        render_kind(&json::text(kind).unwrap_or_default(), schema, depth, text);
    }
}

fn render_kind(kind: &str, schema: &str, depth: usize, text: &mut String) {
    match kind {
        "integer" => text.push_str("number"),
        "array" => match json::member(schema, "items") {
            Some(items) => {
                render_type(items, depth + 1, text);
                text.push_str("[]");
            }
            None => text.push_str("any[]"),
        },
        "object" if has_properties(schema) => {
            text.push_str("{\n");
            render_properties(schema, depth + 1, text);
            text.push('}');
        }
        kind => text.push_str(kind),
    }
}

fn join<'v>(values: &'v str, text: &mut String, mut render: impl FnMut(&'v str, &mut String)) {
    let mut first = true;
    json::each_element(values, |value| {
        if !std::mem::take(&mut first) {
            text.push_str(" | ");
        }
        render(value, text);
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rendered(function: serde_json::Value) -> String {
        let mut text = String::new();
        render_function(&function.to_string(), &mut text);
        text
    }

    #[test]
    fn a_function_is_rendered_as_the_models_recite_it() {
        let text = rendered(json!({
            "name": "weather",
            "description": "The weather of a place.",
            "parameters": {"type": "object", "required": ["place"], "properties": {
                "place": {"type": "string", "description": "A town."},
                "unit": {"type": "string", "enum": ["C", "F"]},
                "days": {"type": "array", "items": {"type": "integer"}},
                "at": {"type": "object", "properties": {"km": {"type": ["number", "null"]}}},
                "any": {"type": "array"},
            }},
        }));
        for line in [
            "// The weather of a place.\ntype weather = (_: {\n",
            "// A town.\nplace: string,\n",
            "unit?: \"C\" | \"F\",\n",
            "days?: number[],\n",
            "at?: {\nkm?: number | null,\n},\n",
            "any?: any[],\n",
        ] {
            assert!(text.contains(line), "{line:?} in {text}");
        }
        assert!(text.ends_with("}) => any;\n\n"));
        assert_eq!(
            rendered(json!({"name": "now"})),
            "type now = () => any;\n\n"
        );
    }

    #[test]
    fn no_schema_renders_to_much_more_than_itself() {
        let mut schema = json!({"type": "string"});
        for _ in 0..30 {
            schema = json!({"type": vec!["object"; 50], "properties": {"a": schema}});
        }
        let function = json!({"name": "f", "parameters": schema});
        let bytes = function.to_string().len();
        assert!(rendered(function).len() <= bytes);
        let names: Vec<String> = (0..10_000).map(|name| format!("n{name}")).collect();
        let properties: serde_json::Map<_, _> =
            names.iter().map(|name| (name.clone(), json!({}))).collect();
        let text = rendered(
            json!({"name": "f", "parameters": {"required": names, "properties": properties}}),
        );
        assert!(text.contains("n9999: "));
    }
}
