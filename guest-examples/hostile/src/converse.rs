//! A conversation that sends its whole history every turn.

use serde_json::{Value, json};
use wasip2::random::random::get_random_bytes;

use crate::reenact::agent::tools::call;

/// Talks `turns` times with `model.chat`, whether that answers or not; answers how
/// many bytes both sides said.
pub fn converse(turns: u64, size: usize, histories: usize) -> Value {
    let mut histories = vec![Vec::<Value>::new(); histories];
    let mut said = 0;
    for turn in 0..turns as usize {
        let count = histories.len();
        let history = &mut histories[turn % count];
        let question = noise(size);
        said += question.len();
        history.push(json!({ "role": "user", "content": question }));
        let arguments = json!({ "model": "any", "messages": history });
        let answer = match call("model.chat", &arguments.to_string()) {
            Ok(answer) => serde_json::from_str(&answer).expect("an answer is JSON"),
            Err(error) => json!({ "content": error.message }),
        };
        said += answer["content"].as_str().map_or(0, str::len);
        history.push(json!({ "role": "assistant", "content": answer["content"] }));
    }
    json!({ "turns": turns, "said": said })
}

/// Text that repeats nothing, of characters that JSON writes as they are.
fn noise(bytes: usize) -> String {
    const SIGNS: &[u8] = b" !#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_`abcdefghijklmnopqrstuvwxyz{|}~";
    let random = get_random_bytes(bytes as u64);
    random.into_iter().map(|byte| char::from(SIGNS[usize::from(byte) % SIGNS.len()])).collect()
}
