//! Pages: how many items they have, and where the next one begins.

use super::Problem;

/// Items of a page, if the client does not say.
pub fn fifty() -> u32 {
    50
}

/// Refuses a page of another size than the document allows.
pub fn check_limit(limit: u32) -> Result<u32, Problem> {
    if (1..=100).contains(&limit) {
        return Ok(limit);
    }
    let detail = format!("`limit` is `{limit}`, but must be from 1 to 100");
    Err(Problem::bad_request("bad-query", detail))
}

/// The first `limit` of what was found, and the cursor of the next page if more was.
pub fn page_of<T>(
    mut found: Vec<T>,
    limit: usize,
    id: impl Fn(&T) -> String,
) -> (Vec<T>, Option<String>) {
    let are_more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| are_more).map(id);
    (found, next)
}
