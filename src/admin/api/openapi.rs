//! The OpenAPI document: made of the operations themselves and of the schemas in `schemas.json`.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::answer;
use super::operation::{Content, Operation, Param};

/// The schemas of bodies, answers and parameters.
const SCHEMAS: &str = include_str!("schemas.json");

/// The document as it is served.
pub(super) fn answer(document: &Value) -> Response {
    answer::json(StatusCode::OK, document)
}

/// The document that describes these operations.
pub(super) fn document(operations: &[Operation]) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations {
        let path = paths.entry(operation.route()).or_insert_with(|| json!({}));
        if let Some(methods) = path.as_object_mut() {
            let method = operation.method.as_str().to_lowercase();
            methods.insert(method, describe(operation));
        }
    }
    let schemas: Value = serde_json::from_str(SCHEMAS).unwrap_or_default();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Weir admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Accounts, keys and plans; usage, ledger, margins, what-if and advice. Money is a decimal string in US dollars. Times are RFC 3339 in UTC. Lists are { items, next }; errors are { error: { code, message, where } }.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "A token of [admin] in the configuration; what it may do is its role's: viewer reads, operator also manages accounts and keys and reloads, admin does everything" },
            },
        },
    })
}

fn describe(operation: &Operation) -> Value {
    let mut parameters = path_parameters(operation.path);
    parameters.extend(operation.query.iter().map(query_parameter));
    let mut description = operation.summary.to_owned();
    if let Some(role) = operation.role {
        description.push_str(&format!(". Needs the role {role}."));
    }
    let mut described = json!({
        "operationId": operation.name,
        "summary": operation.summary,
        "description": description,
        "parameters": parameters,
        "responses": responses(operation),
        "security": match operation.role {
            Some(_) => json!([{ "token": [] }]),
            None => json!([]),
        },
    });
    if let (Some(schema), Some(members)) = (operation.body, described.as_object_mut()) {
        let body = json!({ "required": true, "content": { "application/json": { "schema": reference(schema) } } });
        members.insert("requestBody".to_owned(), body);
    }
    described
}

fn path_parameters(path: &str) -> Vec<Value> {
    let names = path.split('/').filter_map(|part| {
        let name = part.strip_prefix('{')?.strip_suffix('}')?;
        let schema = match name {
            "entry" => "EntryId",
            "model" => "ModelName",
            _ => "Id",
        };
        Some(json!({ "name": name, "in": "path", "required": true, "schema": reference(schema) }))
    });
    names.collect()
}

fn query_parameter(param: &Param) -> Value {
    let schema = if param.many {
        json!({ "type": "array", "items": reference(param.schema), "maxItems": 20 })
    } else {
        reference(param.schema)
    };
    json!({
        "name": param.name,
        "in": "query",
        "description": param.about,
        "required": param.needed,
        "schema": schema,
    })
}

fn responses(operation: &Operation) -> Value {
    let (status, content) = operation.answer;
    let mut responses = Map::new();
    let mut good = json!({ "description": "Done" });
    if let Some(members) = good.as_object_mut() {
        match content {
            Content::Nothing => {}
            Content::Json(schema) => {
                let json = json!({ "application/json": { "schema": reference(schema) } });
                members.insert("content".to_owned(), json);
            }
            Content::Files => {
                let files = json!({
                    "application/x-ndjson": { "schema": { "type": "string", "description": "One entry a line" } },
                    "text/csv": { "schema": { "type": "string" } },
                });
                members.insert("content".to_owned(), files);
            }
        }
    }
    responses.insert(status.to_string(), good);
    // Every operation reads its query strictly, and everything may meet a store that is away.
    let mut bad: BTreeSet<u16> = [400, 503].into();
    bad.extend(operation.statuses);
    if operation.role.is_some() {
        bad.extend([401, 403, 429]);
    }
    if operation.body.is_some() {
        bad.extend([408, 413, 415]);
    }
    for status in bad {
        let meaning = match status {
            400 => "A parameter or the body is not what it must be",
            401 => "No token, or none that is known",
            403 => "The token's role may not do this",
            404 => "There is nothing of that name",
            408 => "The body did not arrive in time",
            409 => "What was asked for contradicts what is there",
            413 => "The body is too large",
            415 => "The body is no JSON",
            429 => "Too many wrong tokens came from there",
            _ => "The store does not answer, or other reports are being made",
        };
        let refusal = json!({
            "description": meaning,
            "content": { "application/json": { "schema": reference("Error") } },
        });
        responses.insert(status.to_string(), refusal);
    }
    Value::Object(responses)
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::api::operations;

    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(target)) = members.get("$ref") {
                    found.insert(target.clone());
                }
                members.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_schema_that_is_named_exists_and_every_schema_is_named() {
        let document = document(&operations());
        let mut named = BTreeSet::new();
        references(&document, &mut named);
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let existing: BTreeSet<String> = schemas
            .keys()
            .map(|name| format!("#/components/schemas/{name}"))
            .collect();
        assert_eq!(named, existing);
    }

    #[test]
    fn every_operation_has_a_name_of_its_own_and_says_what_it_does() {
        let operations = operations();
        let names: BTreeSet<&str> = operations.iter().map(|operation| operation.name).collect();
        assert_eq!(names.len(), operations.len());
        assert!(
            operations
                .iter()
                .all(|operation| !operation.summary.is_empty())
        );
    }
}
