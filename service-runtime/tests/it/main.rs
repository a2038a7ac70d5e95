//! The shared `main`, as a process: this program starts itself, and the child is a service.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use common_events::Service;
use futures::FutureExt;
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
            "loses a loop" => {
                runtime.tasks.group().run("doomed", async { panic!("a bug") }.boxed());
                runtime.serve(Routes::none()).await
            }
            "loses a loop and hangs" => {
                runtime.tasks.run("doomed", async { Ok(()) }.boxed());
                std::future::pending().await
            }
            "blocks its workers" => {
                for _ in 0..2 {
                    runtime.tasks.once("doomed", async { std::thread::sleep(10 * AT_MOST) }.boxed());
                }
                println!("all of them");
                std::future::pending().await
            }
            other => panic!("no role {other}"),
        });
    }
    let tests: [(&str, fn()); 12] = [
        ("a_wrong_setting_is_one_line_and_exit_code_2", a_wrong_setting_is_one_line_and_exit_code_2),
        ("so_is_a_wrong_setting_of_the_service_s_own", so_is_a_wrong_setting_of_the_service_s_own),
        ("a_failure_is_logged_once_with_its_causes", a_failure_is_logged_once_with_its_causes),
        ("sigterm_stops_it_in_order", || a_signal_stops_it_in_order("-TERM")),
        ("sigint_stops_it_in_order", || a_signal_stops_it_in_order("-INT")),
        ("a_collector_that_is_away_does_not_hold_it_up", a_collector_that_is_away_does_not_hold_it_up),
        ("a_loop_that_ends_by_itself_ends_the_process", a_loop_that_ends_by_itself_ends_the_process),
        ("the_process_is_gone_then_whatever_hangs", the_process_is_gone_then_whatever_hangs),
        ("so_it_is_after_a_signal_that_its_workers_do_not_hear", so_it_is_after_a_signal_that_its_workers_do_not_hear),
        ("so_it_is_without_whom_signals_are_heard_by", so_it_is_without_whom_signals_are_heard_by),
        ("rounds_that_panic_are_told_and_end_nothing", rounds_that_panic_are_told_and_end_nothing),
        ("spans_that_cannot_be_sent_are_nobody_s_trouble", spans_that_cannot_be_sent_are_nobody_s_trouble),
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

fn a_loop_that_ends_by_itself_ends_the_process() {
    let (code, logged, said) = end(start("loses a loop", &[]));
    assert_eq!((code, said.as_str()), (Some(1), ""));
    let failed = "the background task doomed panicked";
    assert_eq!(logged.lines().filter(|line| line.contains("ended by a failure") && line.contains(failed)).count(), 1);
}

fn the_process_is_gone_then_whatever_hangs() {
    let (code, logged, said) = end(start("loses a loop and hangs", &[]));
    assert_eq!((code, said.as_str()), (Some(1), "not stopped after 20 s, leaving\n"));
    assert!(logged.contains("a background task ended by itself"), "{logged}");
}

fn so_it_is_after_a_signal_that_its_workers_do_not_hear() {
    let mut child = start("blocks its workers", &[("TOKIO_WORKERS", "2")]);
    await_line(&mut child, "all of them");
    signal(&child, "-TERM");
    let (code, _, said) = end(child);
    assert_eq!((code, said.as_str()), (Some(1), "not stopped after 20 s, leaving\n"));
}

fn so_it_is_without_whom_signals_are_heard_by() {
    let (code, logged, _) = end(start("serves", &faulty("signals")));
    assert_eq!(code, Some(1));
    assert!(logged.contains("the background task signals panicked"), "{logged}");
}

fn rounds_that_panic_are_told_and_end_nothing() {
    let mut child = start("serves", &faulty("metrics-upkeep"));
    let address = await_address(&mut child);
    let panicked = r#"task_failures_total{task="metrics-upkeep",how="panic"} "#;
    let began = Instant::now();
    while number(&get(&address, "/metrics"), panicked) < 2 {
        assert!(began.elapsed() < AT_MOST, "it is begun again");
        std::thread::sleep(Duration::from_millis(50));
    }
    let ready = get(&address, "/health/ready");
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    assert!(ready.ends_with(r#"{"status":"degraded","lost":["metrics-upkeep"]}"#), "{ready}");
    signal(&child, "-TERM");
    assert_eq!(end(child).0, Some(0));
}

fn spans_that_cannot_be_sent_are_nobody_s_trouble() {
    let zipkin = [("OTEL_TRACES_EXPORTER", "zipkin"), ("ZIPKIN_ENDPOINT", "http://127.0.0.1:1/api/v2/spans")];
    let mut child = start("serves", &[&zipkin[..], &faulty("spans")].concat());
    let address = await_address(&mut child);
    let panicked = r#"task_failures_total{task="spans",how="panic"} "#;
    let began = Instant::now();
    while number(&get(&address, "/metrics"), panicked) < 2 {
        assert!(began.elapsed() < AT_MOST, "sending is begun again");
        std::thread::sleep(Duration::from_millis(50));
    }
    let ready = get(&address, "/health/ready");
    assert!(ready.ends_with(r#"{"status":"ready"}"#), "{ready}");
    signal(&child, "-TERM");
    assert_eq!(end(child).0, Some(0));
}

/// Makes this background task panic.
fn faulty(task: &str) -> [(&str, &str); 2] {
    [("FAULT_INJECTION", "true"), ("FAULT_TASKS", task)]
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

/// What a metric stands at.
fn number(metrics: &str, metric: &str) -> u64 {
    metrics.lines().find_map(|line| line.strip_prefix(metric)?.parse().ok()).unwrap_or_default()
}

fn await_line(child: &mut Child, text: &str) -> String {
    let output = child.stdout.take().expect("piped");
    let said = BufReader::new(output).lines().map_while(Result::ok).find(|line| line.contains(text));
    said.unwrap_or_else(|| panic!("it never said {text:?}"))
}

/// Where it listens.
fn await_address(child: &mut Child) -> String {
    let line = await_line(child, "listening");
    let (_, address) = line.split_once(r#""address":""#).expect("it says where");
    address.split('"').next().expect("a quote").to_owned()
}

fn signal(child: &Child, which: &str) {
    let sent = Command::new("kill").args([which, &child.id().to_string()]).status().expect("kill");
    assert!(sent.success());
}
