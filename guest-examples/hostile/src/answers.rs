//! Deeds that answer what they should not.

use serde_json::json;

use crate::exports::reenact::agent::guest::{Content, Failure};
use crate::{large_json, nested_array};

pub fn not_json() -> Content {
    Content::Json("not json {".to_string())
}

pub fn wrong_type() -> Content {
    Content::Document("The manifest declares JSON.".to_string())
}

pub fn wrong_schema() -> Content {
    Content::Json("[1]".to_string())
}

pub fn huge(mib: u64) -> Content {
    Content::Json(large_json("{\"data\":", mib, "}"))
}

pub fn nested(n: u64) -> Content {
    Content::Json(format!("{{\"nested\":{}}}", nested_array(n)))
}

pub fn failure(message: String) -> Failure {
    Failure { message, details: Some(json!({ "deed": "fail" }).to_string()) }
}
