//! The shared `main`, as a process: this program starts itself, and the child is a service.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use common_events::Service;
use libtest_mimic::{Arguments, Trial};
use service_runtime::http::Routes;

const ROLE: &str = "PROCESS_TEST_ROLE";
/// Generous: the machine may be busy with other tests.
const AT_MOST: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    if let Ok(role) = std::env::var(ROLE) {
        return service_runtime::main(Service::Order, async |runtime| match role.as_str() {
            "serves" => runtime.serve(Routes::none()).await,
            "fails" => Err(anyhow::anyhow!("the cause").context("what failed")),
            "asks" => runtime.env.required::<String>("NOT_SET").map(drop).map_err(Into::into),
            other => panic!("no role {other}"),
        });
    }
    let tests: [(&str, fn()); 6] = [
        ("a_wrong_setting_is_one_line_and_exit_code_2", a_wrong_setting_is_one_line_and_exit_code_2),
        ("so_is_a_wrong_setting_of_the_service_s_own", so_is_a_wrong_setting_of_the_service_s_own),
        ("a_failure_is_logged_once_with_its_causes", a_failure_is_logged_once_with_its_causes),
        ("sigterm_stops_it_in_order", || a_signal_stops_it_in_order("-TERM")),
        ("sigint_stops_it_in_order", || a_signal_stops_it_in_order("-INT")),
        ("a_collector_that_is_away_does_not_hold_it_up", a_collector_that_is_away_does_not_hold_it_up),
    ];
    let trials = tests.into_iter().map(|(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

fn start(role: &str, variables: &[(&str, &str)]) -> Child {
    let itself = std::env::current_exe().expect("this program");
    Command::new(itself)
        .env_clear()
        .envs([(ROLE, role), ("AUTH_MODE", "header"), ("HTTP_ADDR", "127.0.0.1:0"), ("OTEL_TRACES_EXPORTER", "none")])
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts")
}

/// The exit code, standard output and standard error of a process that ends by itself.
fn end(child: Child) -> (Option<i32>, String, String) {
    let output = child.wait_with_output().expect("ends");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn a_wrong_setting_is_one_line_and_exit_code_2() {
    let (code, logged, said) = end(start("serves", &[("LOG_FORMAT", "xml")]));
    assert_eq!((code, logged.as_str()), (Some(2), ""));
    assert_eq!(said, "LOG_FORMAT holds \"xml\"; it may hold json or text\n");
}

fn so_is_a_wrong_setting_of_the_service_s_own() {
    let (code, _, said) = end(start("asks", &[]));
    assert_eq!((code, said.as_str()), (Some(2), "NOT_SET is not set; it may hold a text\n"));
}

fn a_failure_is_logged_once_with_its_causes() {
    let (code, logged, said) = end(start("fails", &[]));
    assert_eq!((code, said.as_str()), (Some(1), ""));
    assert_eq!(logged.matches("what failed: the cause").count(), 1, "{logged}");
    assert!(logged.starts_with(r#"{"service":"order-service","#), "{logged}");
}

fn a_signal_stops_it_in_order(which: &str) {
    let mut child = start("serves", &[]);
    await_line(&mut child, "listening");
    let stopping = Instant::now();
    signal(&child, which);
    let (code, ..) = end(child);
    assert_eq!(code, Some(0));
    assert!(stopping.elapsed() < AT_MOST);
}

fn a_collector_that_is_away_does_not_hold_it_up() {
    let away = [("OTEL_TRACES_EXPORTER", "zipkin"), ("ZIPKIN_ENDPOINT", "http://127.0.0.1:1/api/v2/spans")];
    let mut child = start("serves", &away);
    await_line(&mut child, "listening");
    signal(&child, "-TERM");
    assert_eq!(end(child).0, Some(0));
}

fn await_line(child: &mut Child, text: &str) {
    let output = child.stdout.take().expect("piped");
    let said = BufReader::new(output).lines().map_while(Result::ok).any(|line| line.contains(text));
    assert!(said, "it never said {text:?}");
}

fn signal(child: &Child, which: &str) {
    let sent = Command::new("kill").args([which, &child.id().to_string()]).status().expect("kill");
    assert!(sent.success());
}
