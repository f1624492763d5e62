//! The client for Python, written from the description of the API: a class for each thing, a method for each operation.

use serde_json::{Map, Value};

use super::openapi;

/// What is the same whatever the API has.
const BASE: &str = include_str!("client.py");
const STREAM: &str = "text/event-stream";

/// The file's text.
#[must_use]
pub fn client() -> String {
    let document = openapi::document();
    let mut text = BASE.to_owned();
    let schemas = document["components"]["schemas"].as_object().cloned().unwrap_or_default();
    for (name, schema) in &schemas {
        if schema["oneOf"].is_array() {
            constants(&mut text, name, schema);
        } else if schema["properties"].is_object() {
            class(&mut text, name, schema);
        }
    }
    text.push_str("\n\nclass Client(_Base):\n    \"\"\"The daemon at a socket.\"\"\"\n");
    for (path, methods) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            functions(&mut text, path, method, operation);
        }
    }
    text
}

/// The words of an enum. A newer daemon may have others, so what is read stays text.
fn constants(text: &mut String, name: &str, schema: &Value) {
    text.push_str(&format!("\n\nclass {name}:\n    \"\"\"{}\"\"\"\n", described(schema)));
    for word in schema["oneOf"].as_array().into_iter().flatten() {
        let value = word["const"].as_str().unwrap_or_default();
        let constant = value.to_uppercase().replace('-', "_");
        text.push_str(&format!("\n    {constant} = \"{value}\"\n    \"\"\"{}\"\"\"", described(word)));
    }
    text.push('\n');
}

fn class(text: &mut String, name: &str, schema: &Value) {
    text.push_str(&format!("\n\n@dataclass\nclass {name}:\n    \"\"\"{}\"\"\"\n", described(schema)));
    let empty = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&empty);
    let required = |name: &str| {
        schema["required"].as_array().is_some_and(|names| names.iter().any(|one| one.as_str() == Some(name)))
    };
    // What has a default comes after what has none.
    let (first, rest): (Vec<_>, Vec<_>) = properties.iter().partition(|(name, _)| required(name));
    for (field, schema) in first.into_iter().chain(rest) {
        let kind = kind(schema);
        let line = match required(field) {
            true => format!("{field}: {kind}"),
            false => format!("{field}: Optional[{kind}] = None"),
        };
        text.push_str(&format!("\n    {line}\n    \"\"\"{}\"\"\"", described(schema)));
    }
    text.push('\n');
}

/// As Python says it. The words of enums are text.
fn kind(schema: &Value) -> String {
    let named = match &schema["type"] {
        Value::String(kind) => Some(kind.as_str()),
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null"),
        _ => None,
    };
    match named {
        Some("string") => "str".to_owned(),
        Some("integer") => "int".to_owned(),
        Some("number") => "float".to_owned(),
        Some("boolean") => "bool".to_owned(),
        Some("array") => format!("list[{}]", kind(&schema["items"])),
        _ if schema["$ref"].is_string() || schema["anyOf"].is_array() => "str".to_owned(),
        _ => "Any".to_owned(),
    }
}

fn described(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().replace('\\', "\\\\").replace("\"\"\"", "'''")
}

fn functions(text: &mut String, path: &str, method: &str, operation: &Value) {
    let name = snake(operation["operationId"].as_str().unwrap_or_default());
    let content = &operation["responses"]["200"]["content"];
    let json = &content["application/json"]["schema"];
    let call = Call::of(path, method, operation);
    let about = operation["summary"].as_str().unwrap_or_default();
    if let Some(class) = class_of(&json["items"]) {
        let result = format!("[{class}(**_known({class}, one)) for one in {}]", call.json());
        function(text, (&name, &call.arguments), (&format!("list[{class}]"), about), &result);
        if content[STREAM].is_object() {
            let (name, about) = (name.replacen("list_", "follow_", 1), format!("{about}: what comes, too."));
            let kind = format!("Iterator[{class}]");
            let head =
                format!("\n    def {name}(self{}) -> {kind}:\n        \"\"\"{about}\"\"\"\n", call.arguments);
            let body = format!(
                "        for one in self._follow({}):\n            yield {class}(**_known({class}, one))\n",
                call.follow()
            );
            text.push_str(&(head + &body));
        }
    } else if let Some(class) = class_of(json) {
        let result = format!("{class}(**_known({class}, {}))", call.json());
        function(text, (&name, &call.arguments), (&class, about), &result);
    } else if json.is_object() {
        function(text, (&name, &call.arguments), ("Any", about), &call.json());
    } else if content["text/plain"].is_object() {
        let result = format!("{}.decode()", call.words("_ask"));
        function(text, (&name, &call.arguments), ("str", about), &result);
    }
}

fn function(text: &mut String, (name, arguments): (&str, &str), (kind, about): (&str, &str), result: &str) {
    text.push_str(&format!(
            "\n    def {name}(self{arguments}) -> {kind}:\n        \"\"\"{about}.\"\"\"\n        return {result}\n"
        ),
    );
}

fn class_of(schema: &Value) -> Option<String> {
    Some(schema["$ref"].as_str()?.rsplit('/').next()?.to_owned())
}

/// How an operation is asked for.
struct Call {
    method: String,
    path: String,
    query: String,
    body: String,
    /// Of the function, after `self`.
    arguments: String,
}

impl Call {
    fn of(path: &str, method: &str, operation: &Value) -> Self {
        let (mut first, mut rest) = (String::new(), String::new());
        let mut query = Vec::new();
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let name = parameter["name"].as_str().unwrap_or_default();
            let kind = kind(&parameter["schema"]);
            let is_path = parameter["in"] == "path";
            if is_path || parameter["required"] == true {
                first.push_str(&format!(", {name}: {kind}"));
            } else {
                rest.push_str(&format!(", {name}: Optional[{kind}] = None"));
            }
            if !is_path {
                query.push(format!("\"{name}\": {name}"));
            }
        }
        let has_body = operation["requestBody"].is_object();
        if has_body {
            first.push_str(", file: str");
        }
        let path = match path.contains("{unit}") {
            true => format!("f\"{}\"", path.replace("{unit}", "{quote(unit, safe='')}")),
            false => format!("\"{path}\""),
        };
        Self {
            method: method.to_uppercase(),
            path,
            query: format!("{{{}}}", query.join(", ")),
            body: if has_body { ", {\"file\": file}" } else { "" }.to_owned(),
            arguments: first + &rest,
        }
    }

    fn words(&self, function: &str) -> String {
        format!("self.{function}(\"{}\", {}, {}{})", self.method, self.path, self.query, self.body)
    }

    fn json(&self) -> String {
        self.words("_json")
    }

    fn follow(&self) -> String {
        format!("{}, {}", self.path, self.query)
    }
}

/// `listUnits` as `list_units`.
fn snake(name: &str) -> String {
    let part = |c: char| if c.is_uppercase() { format!("_{}", c.to_lowercase()) } else { c.to_string() };
    name.chars().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_has_a_method_and_each_thing_a_class() {
        let text = client();
        for part in [
            "    def list_units(self) -> list[UnitStatus]:",
            "    def start_unit(self, unit: str) -> UnitStatus:",
            "    def apply_instrument(self, file: str) -> list[Step]:",
            "    def follow_events(self, since: Optional[int] = None) -> Iterator[Event]:",
            "class Phase:",
            "    BACK_OFF = \"back-off\"",
            "    why: Optional[str] = None",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }
}
