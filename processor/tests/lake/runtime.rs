//! Lambda, as a program of it sees it: the Runtime API on a free loopback port, and the program started without words.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::spawn;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// Longest wait for a program's start or answer.
const WAIT_MAX: Duration = Duration::from_secs(120);

/// A function that runs; its program is killed when it is dropped.
pub struct Function {
    child: Child,
    events: Sender<(Value, u64)>,
    said: Receiver<Said>,
    lines: Receiver<String>,
    /// From the start to the first question for an invocation.
    pub init: Duration,
}

/// What the program tells the API.
#[derive(Debug)]
enum Said {
    Ready,
    Answer(Value),
    Failure(Value),
}

impl Function {
    /// Starts the program, which says that it is ready.
    pub fn start(program: Command) -> Self {
        let started = Instant::now();
        let mut function = Self::begin(program);
        match function.said.recv_timeout(WAIT_MAX) {
            Ok(Said::Ready) => function.init = started.elapsed(),
            other => panic!("the function does not start: {other:?}"),
        }
        function
    }

    /// Starts a program that cannot start: what it tells the API.
    pub fn fail_to_start(program: Command) -> Value {
        match Self::begin(program).said.recv_timeout(WAIT_MAX) {
            Ok(Said::Failure(failure)) => failure,
            other => panic!("the function starts: {other:?}"),
        }
    }

    fn begin(mut program: Command) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let api = listener.local_addr().unwrap().to_string();
        let (events, to_give) = channel();
        let (say, said) = channel();
        spawn(move || {
            for (number, connection) in listener.incoming().flatten().enumerate() {
                if serve(connection, number, &to_give, &say).is_none() {
                    return;
                }
            }
        });
        let mut child = program
            .env("AWS_LAMBDA_RUNTIME_API", api)
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (line, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        spawn(move || out.lines().map_while(Result::ok).try_for_each(|text| line.send(text)).ok());
        Self { child, events, said, lines, init: Duration::ZERO }
    }

    /// Invokes it with a minute's time: its answer, or the failure that the invoker is told.
    pub fn invoke(&self, event: &Value) -> Result<Value, Value> {
        self.invoke_within(event, Duration::from_secs(60))
    }

    /// Invokes it with this much time.
    pub fn invoke_within(&self, event: &Value, time: Duration) -> Result<Value, Value> {
        let ends = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + time;
        self.events.send((event.clone(), u64::try_from(ends.as_millis()).unwrap())).unwrap();
        let answer = match self.said.recv_timeout(WAIT_MAX) {
            Ok(Said::Answer(answer)) => Ok(answer),
            Ok(Said::Failure(failure)) => Err(failure),
            other => panic!("no answer: {other:?}"),
        };
        assert!(matches!(self.said.recv_timeout(WAIT_MAX), Ok(Said::Ready)), "it asks for the next one");
        answer
    }

    /// The lines on stdout since the last look.
    pub fn lines(&self) -> Vec<Value> {
        // What was printed before the answer is on its way through the pipe.
        let first = self.lines.recv_timeout(Duration::from_millis(500)).ok();
        first
            .into_iter()
            .chain(self.lines.try_iter())
            .map(|line| serde_json::from_str(&line).unwrap())
            .collect()
    }

    /// Resident memory of the program now, and at most, in KiB.
    pub fn memory_kib(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        (field("VmRSS:"), field("VmHWM:"))
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request of the program; `None` when nobody invokes any more.
fn serve(
    connection: TcpStream,
    number: usize,
    events: &Receiver<(Value, u64)>,
    say: &Sender<Said>,
) -> Option<()> {
    let mut reader = BufReader::new(&connection);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first).ok()?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let path = first.split(' ').nth(1)?.strip_prefix("/2018-06-01/runtime/").unwrap();
    let (status, headers, answer) = if path == "invocation/next" {
        say.send(Said::Ready).ok()?;
        let (event, deadline_ms) = events.recv().ok()?;
        let headers = format!(
            "Lambda-Runtime-Aws-Request-Id: {number}\r\nLambda-Runtime-Deadline-Ms: {deadline_ms}\r\n\
             Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:eu-west-1:123456789012:function:ingest\r\n"
        );
        ("200 OK", headers, event.to_string())
    } else {
        let body: Value = serde_json::from_slice(&body).unwrap();
        let said = if path.ends_with("/response") { Said::Answer(body) } else { Said::Failure(body) };
        say.send(said).ok()?;
        ("202 Accepted", String::new(), String::new())
    };
    let length = answer.len();
    let head = format!("HTTP/1.1 {status}\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n");
    (&connection).write_all((head + &answer).as_bytes()).ok()
}
