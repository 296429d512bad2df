//! Deeds that abuse the `events` interface.

use serde_json::{Value, json};

use crate::reenact::agent::events::{close, emit, open};
use crate::{large_json, nested_array, times};

pub fn huge(mib: u64) -> Value {
    emit("huge", &large_json("", mib, ""));
    json!({ "mib": mib })
}

pub fn many(n: Option<u64>) -> Value {
    let mut emitted = 0;
    for i in times(n) {
        emit("many", &json!({ "n": i }).to_string());
        emitted += 1;
    }
    json!({ "events": emitted })
}

pub fn invalid() -> Value {
    emit("reasoning", "not json {");
    json!({ "emitted": "data that is not JSON" })
}

pub fn bad_kind() -> Value {
    emit("Not A Kind!", "{}");
    json!({ "emitted": "a kind that is none" })
}

pub fn unknown_span() -> Value {
    close(999, "{}");
    json!({ "closed": 999 })
}

pub fn open_spans(n: u64) -> Value {
    let spans: Vec<u64> = (0..n).map(|i| open("span", &json!({ "n": i }).to_string())).collect();
    json!({ "spans": spans })
}

pub fn deep(n: u64) -> Value {
    emit("deep", &nested_array(n));
    json!({ "depth": n })
}
