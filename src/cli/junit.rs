//! A test's outcome as JUnit XML, which continuous integration reads.

use std::path::Path;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::Failure;
use super::test::Case;
use crate::build::write_atomically;

/// Writes one suite with a case per recorded run.
pub fn write(path: &Path, agent: &str, title: &str, cases: &[Case]) -> Result<(), Failure> {
    let mut suite = TestSuite::new(title);
    suite.add_test_cases(cases.iter().map(|case| test_case(agent, case)));
    let mut report = Report::new("reenact test");
    report.add_test_suite(suite);
    let text = report.to_string().map_err(|error| {
        Failure::from(error).context(format!("cannot write `{}`", path.display()))
    })?;
    Ok(write_atomically(path, text.as_bytes())?)
}

fn test_case(agent: &str, case: &Case) -> TestCase {
    let details = case.details();
    let status = if case.passes() {
        TestCaseStatus::success()
    } else {
        // What could not be compared is an error, what came out otherwise a failure.
        let kind = match &case.outcome {
            Err(trouble) if !trouble.is_refusal => NonSuccessKind::Error,
            _ => NonSuccessKind::Failure,
        };
        let mut status = TestCaseStatus::non_success(kind);
        status.set_message(case.verdict());
        if let Some(details) = &details {
            status.set_description(details.as_str());
        }
        status
    };
    let mut written = TestCase::new(case.name.as_str(), status);
    written.set_classname(agent).set_time(case.took);
    if let (true, Some(details)) = (case.passes(), details) {
        written.set_system_out(format!("{}\n{details}", case.verdict()));
    }
    written
}
