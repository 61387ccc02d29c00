//! What the program says of its own state: to systemd, to whoever asks whether it lives, and of its share of the CPU.
#![cfg(test)]

#[expect(dead_code, reason = "other test files use the rest")]
#[path = "support/process.rs"]
mod process;
#[path = "support/simulator.rs"]
mod simulator;

use std::{
    fs,
    net::TcpListener,
    os::unix::net::UnixDatagram,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use llm_probe_exporter::{clock::unix_now, config::plan::Realtime, runtime::Runtimes, sim::Settings};
use process::{Exporter, eventually, program};
use rustix::process::Signal;
use simulator::Simulator;
use tempfile::TempDir;

/// A probe at a port where nobody listens, by a name that has to be resolved.
fn config(rest: &str) -> String {
    format!(
        "targets: [{{ name: nobody, url: 'http://localhost:9/v1', api: openai_chat, model: none }}]\nprobes: [{{ name: lonely, every: 200ms }}]\n{rest}\n"
    )
}

/// A command that runs the exporter with `config`, behind others.
fn command(before: &[&str], config: &str) -> (Command, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("probes.yaml");
    fs::write(&file, config).unwrap();
    let program = program().get_program().to_owned();
    let mut command = match before {
        [] => Command::new(program),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    };
    command
        .arg(format!("--config.file={}", file.display()))
        .arg("--web.listen-address=127.0.0.1:0");
    (command, folder)
}

#[test]
fn systemd_is_told_what_it_does_and_that_it_lives() {
    let (mut command, folder) = command(&[], &config(""));
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let said = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&said);
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(length) = socket.recv(&mut bytes) {
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            all.lock().unwrap().push(text);
        }
    });
    let position = |message: &str| {
        let said = said.lock().unwrap();
        said.iter().position(|text| text.contains(message))
    };
    let wait_for = |message: &str| eventually(message, || position(message));
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000");
    let mut exporter = Exporter::spawn(&mut command, folder);
    let ready = wait_for("READY=1\nSTATUS=waiting for the first scrape\n");
    assert_eq!(position("STATUS=probing"), None);

    exporter.metrics();
    let armed = wait_for("STATUS=probing 1 series\n");
    exporter.process.signal(Signal::HUP);
    let reloading = wait_for("RELOADING=1\nMONOTONIC_USEC=");
    let reloaded = wait_for("READY=1\nSTATUS=probing 1 series\n");
    eventually("signs of life", || {
        let said = said.lock().unwrap();
        let signs = said.iter().filter(|text| *text == "WATCHDOG=1\n").count();
        (signs > 5).then_some(())
    });
    assert_eq!(position("STOPPING=1"), None);
    exporter.process.signal(Signal::TERM);
    assert_eq!(exporter.process.wait().code(), Some(0));
    let stopping = wait_for("STOPPING=1\n");
    let order = [ready, armed, reloading, reloaded, stopping];
    assert!(order.is_sorted(), "{order:?} of {:?}", said.lock().unwrap());
}

#[test]
fn a_service_manager_that_is_not_there_stops_nothing() {
    let (mut command, folder) = command(&[], &config(""));
    command.env("NOTIFY_SOCKET", folder.path().join("nowhere"));
    let exporter = Exporter::spawn(&mut command, folder);
    exporter.wait_for("a burst", |samples| samples.count("bursts_total", &[]) >= 1);
    assert!(exporter.process.log().contains("NOTIFY_SOCKET"));
}

#[test]
fn a_process_that_was_stopped_lives_and_says_that_it_was_starved() {
    let exporter = Exporter::start(&config(""), &[]);
    exporter.wait_for("a burst", |samples| samples.count("bursts_total", &[]) >= 1);
    // The log and the page each escape the apostrophe that follows.
    let words = "the prober is starved: its numbers can";
    exporter.process.signal(Signal::STOP);
    thread::sleep(Duration::from_secs(2));
    exporter.process.signal(Signal::CONT);
    eventually("the page says it", || {
        exporter.get("/").body.contains(words).then_some(())
    });
    eventually("the log says it", || {
        exporter.process.log().contains(words).then_some(())
    });
    assert_eq!(exporter.get("/-/healthy").status, 200);
}

/// A reload that is asked for while it starts is done afterwards, and ends nothing.
#[test]
fn a_hang_up_while_it_starts_is_a_reload() {
    let slow = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut command, folder) = command(
        &[],
        &format!(
            "discover: [{{ name: slow, http: {{ url: 'http://{}/', timeout: 2s }}, target: {{ url: 'http://${{address}}', api: openai_chat, model: m }} }}]\n{}",
            slow.local_addr().unwrap(),
            config("")
        ),
    );
    let hang_up = thread::spawn(move || slow.accept().unwrap());
    let process = process::Process::spawn(command.stdin(Stdio::null()));
    let _asked = hang_up.join().unwrap();
    process.signal(Signal::HUP);
    eventually("the reload", || {
        process
            .log()
            .contains("configuration reloaded\" by=SIGHUP")
            .then_some(())
    });
    drop(folder);
}

/// Where a service manager hides what is not of processes (`ProcSubset=pid`), it still says when it was started.
#[test]
fn when_it_was_started_is_known_without_the_files_of_the_kernel() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let hide = "mount -t proc -o subset=pid proc /proc && ! test -e /proc/stat && exec \"$0\" \"$@\"";
    let (mut command, folder) = command(&["unshare", "--mount", "sh", "-c", hide], &config(""));
    let before = unix_now();
    let exporter = Exporter::spawn(&mut command, folder);
    let began = exporter.metrics().sum("process_start_time_seconds", &[]);
    assert!((before - 1.0..=unix_now()).contains(&began), "{before} {began}");
}

/// Of each thread: its name and whether it is a real-time one.
fn threads(exporter: &Exporter) -> Vec<(String, bool)> {
    let tasks = fs::read_dir(format!("/proc/{}/task", exporter.process.child.id())).unwrap();
    let stats = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("stat")).ok());
    stats
        .map(|stat| {
            let (before, after) = stat.rsplit_once(") ").unwrap();
            let (_, name) = before.split_once('(').unwrap();
            // proc_pid_stat(5): the third field stands behind the name, the policy is the 41st.
            let policy = after.split(' ').nth(38).unwrap();
            (name.to_owned(), policy == "1")
        })
        .collect()
}

/// Which threads are real-time ones is what the gauge says; the others never are.
fn only_those_that_measure_go_first(exporter: &Exporter) -> bool {
    let samples = exporter.wait_for("bursts", |samples| samples.count("bursts_total", &[]) >= 3);
    let in_force = samples.count("exporter_realtime", &[]) == 1;
    let threads = threads(exporter);
    assert!(threads.iter().any(|(name, _)| name == "service"), "{threads:?}");
    assert!(threads.iter().any(|(name, _)| name == "measure"), "{threads:?}");
    for (name, is_realtime) in &threads {
        assert_eq!(*is_realtime, in_force && name == "measure", "{threads:?}");
    }
    in_force
}

#[test]
fn threads_that_measure_go_first_where_they_may() {
    let in_force = only_those_that_measure_go_first(&Exporter::start(&config(""), &[]));
    let off = Exporter::start(&config("measure: { realtime: off }"), &[]);
    assert!(!only_those_that_measure_go_first(&off));
    if in_force {
        let required = Exporter::start(&config("measure: { realtime: require }"), &[]);
        assert!(only_those_that_measure_go_first(&required));
    }
}

/// That of the service manager is for all threads; they are not to be.
#[test]
fn a_process_that_is_begun_in_real_time_keeps_that_for_those_that_measure() {
    if !Command::new("chrt")
        .args(["-f", "1", "true"])
        .status()
        .unwrap()
        .success()
    {
        return;
    }
    let (mut command, folder) = command(&["chrt", "-f", "1"], &config(""));
    assert!(only_those_that_measure_go_first(&Exporter::spawn(
        &mut command,
        folder
    )));
}

/// Takes the right to real-time priorities away; by default root alone has it.
fn without_the_right() -> &'static [&'static str] {
    if rustix::process::geteuid().is_root() {
        &["setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice"]
    } else {
        &[]
    }
}

#[test]
fn what_is_required_and_may_not_be_is_a_usage_error_and_otherwise_said() {
    let (mut required, _folder) = command(without_the_right(), &config("measure: { realtime: require }"));
    let output = required.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("SCHED_FIFO: ") && said.contains("CAP_SYS_NICE"),
        "{said}"
    );

    let (mut auto, folder) = command(without_the_right(), &config(""));
    let exporter = Exporter::spawn(&mut auto, folder);
    assert!(!only_those_that_measure_go_first(&exporter));
    let log = exporter.process.log();
    assert!(
        log.contains("the threads that measure are ordinary ones"),
        "{log}"
    );
}

#[test]
#[ignore = "loads the machine: run tests/run.sh"]
fn real_time_threads_that_spin_become_ordinary() {
    let runtimes = Runtimes::start().unwrap();
    let (told, in_force) = mpsc::channel();
    let tell = move |in_force| told.send(in_force).unwrap();
    runtimes.measure_first(Realtime::Require, tell).unwrap();
    assert!(in_force.recv().unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    for _ in 0..4 {
        let stop = Arc::clone(&stop);
        runtimes.measure.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
    }
    assert!(!in_force.recv_timeout(Duration::from_mins(1)).unwrap());
    stop.store(true, Ordering::Relaxed);
    runtimes.end();
}

/// Busy loops of our own, which end with this.
struct BusyLoops(Vec<Child>);

impl BusyLoops {
    fn start(number: usize) -> Self {
        let busy = |_| {
            Command::new("sh")
                .args(["-c", "while :; do :; done"])
                .stdin(Stdio::null())
                .spawn()
                .unwrap()
        };
        Self((0..number).map(busy).collect())
    }
}

impl Drop for BusyLoops {
    fn drop(&mut self) {
        for child in &mut self.0 {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// No verdict is false beside four busy loops: neither while the server is well nor when it fails.
fn verdicts_hold_beside_busy_loops(realtime: &str) {
    // A request of the four takes the server 70 ms when it has a core to itself. What is between the two is room for the
    // server, which is as short of CPU as the prober: how late it reads a request is felt, and not in its own record.
    const LIMIT: Duration = Duration::from_millis(500);
    let simulator = Simulator::start(Settings {
        speed: 10.0,
        slots: Some(64),
        faults: vec!["status=500 from=25s".parse().unwrap()],
        ..Settings::default()
    });
    let busy = BusyLoops::start(4);
    let exporter = Exporter::start(
        &format!(
            "targets: [{{ name: target, url: 'http://{}/v1', api: openai_chat, model: simulated }}]\n\
             measure: {{ realtime: {realtime} }}\n\
             probes: [{{ name: p, every: 250ms, concurrency: 4, protect: off, max_tokens: 5, prompt: {{ text: Hello }}, slo: {{ ttft: 500ms }} }}]\n",
            simulator.address
        ),
        &[],
    );
    let failing = exporter.wait_for("an outage of ten bursts", |samples| {
        samples.count("request_failures_total", &["reason=\"server_error\""]) >= 40
    });
    drop(busy);
    let goodput = ["slo=\"goodput\""];
    let judged = failing.count("slo_requests_total", &goodput);
    let missed = judged - failing.count("slo_good_requests_total", &goodput);
    let failed = failing.count("request_failures_total", &[]);
    let withheld = failing.count("slo_unjudged_requests_total", &["slo=\"goodput\"", "why=\"lag\""]);
    // What the server knows of itself; it was as short of CPU as the prober.
    let requests = simulator.requests();
    let slow = requests.iter().filter(|request| {
        let first = request.tokens_ns.first();
        first.is_some_and(|first| Duration::from_nanos(first - request.received_ns) > LIMIT)
    });
    let slow = u64::try_from(slow.count()).unwrap();
    let said =
        format!("of {judged} judged {missed} missed, {failed} failed, {slow} slow; {withheld} withheld");
    println!("realtime {realtime}: {said}");
    assert!(judged > 200, "{said}");
    assert!(missed >= failed, "an outage went unseen: {said}");
    assert!(missed <= failed + slow, "a verdict is false: {said}");
}

#[test]
#[ignore = "loads the machine: run tests/run.sh"]
fn real_verdicts_hold_beside_busy_loops() {
    verdicts_hold_beside_busy_loops("off");
    verdicts_hold_beside_busy_loops("auto");
}

#[test]
#[ignore = "loads the machine: run tests/run.sh"]
fn real_calibration_says_what_the_machine_can_be_trusted_with() {
    let output = process::run(&["calibrate", "--output=json"]);
    let said = String::from_utf8_lossy(&output.stdout);
    let calibration: serde_json::Value = serde_json::from_str(&said).unwrap();
    let loads = calibration["loads"].as_array().unwrap();
    let users: Vec<_> = loads.iter().map(|load| load["users"].as_u64().unwrap()).collect();
    assert_eq!(users, [1, 50, 200, 500, 1000]);
    for load in loads {
        let [p50, p99, max] = ["p50", "p99", "max"].map(|of| load["error"][of].as_f64().unwrap());
        assert!(0.0 < p50 && p50 <= p99 && p99 <= max, "{said}");
        assert_eq!(load["lost"], 0, "{said}");
    }
    let trusted = calibration["trusted_users"].is_u64();
    assert_eq!(output.status.code(), Some(if trusted { 0 } else { 3 }));
}
