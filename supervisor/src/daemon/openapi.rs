//! The description of the API (OpenAPI 3.1), written from [`ROUTES`] and from the types of what goes over it.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::api::{InstrumentFile, ROUTES, Route, Since};
use super::attach::{AttachQuery, SizeQuery};
use super::journal::Event;
use super::problem::Problem;
use super::report::{Step, UnitStatus};
use super::said_by::{Said, Wanted};

/// The description as a document.
#[must_use]
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
    });
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    for route in ROUTES {
        let at = paths.entry(route.path).or_insert_with(|| json!({}));
        at[route.method.to_lowercase()] = operation(route, &mut generator);
    }
    // Named in every answer that is an error.
    let problem = generator.subschema_for::<Problem>();
    let schemas = generator.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Hatchway",
            "version": "1",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
            "description": "Units of an instrument, over the Unix socket `api.sock` in the runtime folder. Who asks is known by the \
                socket's peer credentials; the role that each operation takes is its `x-hatchway-role`. Fields may be added; readers leave \
                out what they do not know.",
        },
        "servers": [{ "url": "http://localhost" }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {
                "Problem": {
                    "description": "It was not done (RFC 9457)",
                    "content": { "application/problem+json": { "schema": problem } },
                },
            },
        },
    })
}

fn operation(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let mut operation = json!({
        "summary": route.summary,
        "operationId": operation_id(route),
        "x-hatchway-role": route.role,
        "responses": {
            "200": { "description": "It is so", "content": content(route, generator) },
            "403": { "$ref": "#/components/responses/Problem" },
            "default": { "$ref": "#/components/responses/Problem" },
        },
    });
    let mut parameters = Vec::new();
    if route.path.contains("{unit}") {
        parameters.push(json!({
            "name": "unit", "in": "path", "required": true, "description": "Name of the unit", "schema": { "type": "string" },
        }));
        operation["responses"]["404"] = json!({ "$ref": "#/components/responses/Problem" });
    }
    let query = match route.path {
        "/v1/events" => queries::<Since>(generator),
        "/v1/units/{unit}/logs" => queries::<Wanted>(generator),
        _ => Vec::new(),
    };
    if !query.is_empty() {
        parameters.extend(query);
        operation["responses"]["400"] = json!({ "$ref": "#/components/responses/Problem" });
    }
    match route.path {
        "/v1/units/{unit}/attach" => {
            parameters.extend(queries::<AttachQuery>(generator));
            let upgraded = json!({ "description": "The connection carries the terminal's raw bytes both ways from now on" });
            operation["responses"] = json!({
                "101": upgraded, "403": operation["responses"]["403"], "404": operation["responses"]["404"],
                "default": operation["responses"]["default"],
            });
        }
        "/v1/units/{unit}/resize" => parameters.extend(queries::<SizeQuery>(generator)),
        _ => {}
    }
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if takes_file(route) {
        operation["requestBody"] = json!({ "required": true, "content": of::<InstrumentFile>(generator) });
        for status in ["400", "413", "415", "422"] {
            operation["responses"][status] = json!({ "$ref": "#/components/responses/Problem" });
        }
    }
    operation
}

/// As the type of the query has them.
fn queries<T: JsonSchema>(generator: &mut SchemaGenerator) -> Vec<Value> {
    let schema = generator.root_schema_for::<T>();
    let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let all = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    let one = |(name, mut schema): (String, Value)| {
        let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        let required = required.contains(&json!(name));
        json!({ "name": name, "in": "query", "required": required, "description": description, "schema": schema })
    };
    all.into_iter().map(one).collect()
}

/// `stopUnit`, as clients that are generated name their functions.
fn operation_id(route: &Route) -> &'static str {
    match (route.method, route.path) {
        (_, "/v1/units") => "listUnits",
        (_, "/v1/units/{unit}") => "getUnit",
        (_, "/v1/units/{unit}/start") => "startUnit",
        (_, "/v1/units/{unit}/stop") => "stopUnit",
        (_, "/v1/units/{unit}/restart") => "restartUnit",
        (_, "/v1/units/{unit}/kill") => "killUnit",
        (_, "/v1/units/{unit}/logs") => "listLogs",
        (_, "/v1/units/{unit}/attach") => "attachUnit",
        (_, "/v1/units/{unit}/resize") => "resizeUnit",
        (_, "/v1/plan") => "planInstrument",
        (_, "/v1/instrument") => "applyInstrument",
        (_, "/v1/events") => "listEvents",
        (_, "/v1/openapi.json") => "getOpenapi",
        (_, "/metrics") => "getMetrics",
        _ => "",
    }
}

fn takes_file(route: &Route) -> bool {
    matches!(route.path, "/v1/plan" | "/v1/instrument")
}

fn content(route: &Route, generator: &mut SchemaGenerator) -> Value {
    match route.path {
        "/metrics" => json!({ "text/plain": { "schema": { "type": "string" } } }),
        "/v1/openapi.json" => json!({ "application/json": { "schema": { "type": "object" } } }),
        "/v1/units" => of::<Vec<UnitStatus>>(generator),
        "/v1/plan" | "/v1/instrument" => of::<Vec<Step>>(generator),
        "/v1/events" => or_stream(of::<Vec<Event>>(generator)),
        "/v1/units/{unit}/logs" => or_stream(of::<Vec<Said>>(generator)),
        _ => of::<UnitStatus>(generator),
    }
}

/// Each as the data of an event of the stream (Server-Sent Events of the HTML standard).
fn or_stream(mut content: Value) -> Value {
    content["text/event-stream"] = json!({ "schema": { "type": "string" } });
    content
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    json!({ "application/json": { "schema": generator.subschema_for::<T>() } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_has_a_name_and_a_role() {
        let document = document();
        let mut names = Vec::new();
        for route in ROUTES {
            let operation = &document["paths"][route.path][route.method.to_lowercase()];
            names.push(operation["operationId"].as_str().unwrap().to_owned());
            assert!(operation["x-hatchway-role"].is_string());
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), ROUTES.len());
        assert!(!names.contains(&String::new()));
        assert!(document["components"]["schemas"]["UnitStatus"].is_object(), "{document:#}");
    }
}
