//! Serial ports are pseudoterminals here: the gateway opens one end, the test is the microcontroller.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use ingot_agent::{Batch, Drop, Quality, Reading};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::running::Gateway;

/// A microcontroller with a serial port; unplugged when it is dropped.
pub struct Port {
    pub wire: File,
}

impl Port {
    /// Plugs it in: `path` becomes its port's name, as udev's links do.
    pub fn plug(path: &Path) -> Self {
        let wire = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&wire).unwrap();
        unlockpt(&wire).unwrap();
        let name = PathBuf::from(ptsname(&wire, Vec::new()).unwrap().into_string().unwrap());
        raw(&name);
        let _ = std::fs::remove_file(path);
        symlink(name, path).unwrap();
        Self { wire: File::from(wire) }
    }
}

/// No echo and no line editing before the gateway opens it, as a real wire has none.
fn raw(port: &Path) {
    let port = File::options().read(true).write(true).open(port).unwrap();
    let mut settings = rustix::termios::tcgetattr(&port).unwrap();
    settings.make_raw();
    rustix::termios::tcsetattr(&port, rustix::termios::OptionalActions::Now, &settings).unwrap();
}

/// A node's frames, ten readings each.
struct Node {
    batch: Box<Batch<2, 2, 4_096>>,
    name: &'static str,
    seq: u64,
}

impl Node {
    fn new(name: &'static str) -> Self {
        Self { batch: Box::new(Batch::new(name, 7).unwrap()), name, seq: 0 }
    }

    fn frame(&mut self) -> Vec<u8> {
        let device = self.batch.device(self.name, 7).unwrap();
        let series = self.batch.series(device, "temperature").unwrap();
        for _ in 0..10 {
            let at_ms = 100 * self.seq as i64;
            let reading = Reading { seq: self.seq, at_ms, value: 20.25, quality: Quality::CLOCK_UNSET };
            self.batch.push(series, &reading).unwrap();
            self.seq += 1;
        }
        let mut bytes = Vec::new();
        self.batch.seal(100 * self.seq as i64, 0, |part| bytes.extend_from_slice(part));
        bytes
    }
}

fn seqs(bronze: &super::common::Bronze, device: &str) -> Vec<u64> {
    bronze.rows.keys().filter(|row| row.0 == device).map(|row| row.2).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_ports_with_noise_and_cut_frames_and_one_that_vanishes_and_returns() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let sources = format!(
        "[[source]]\nkind = \"serial\"\npath = {first:?}\n[[source]]\nkind = \"serial\"\npath = {second:?}\nbaud = 9600\n"
    );
    let (mut left, mut right) = (Node::new("left"), Node::new("right"));
    let mut port = Port::plug(&first);
    let gateway = Gateway::start(&sources, Vec::new()); // the second is not plugged in yet
    port.wire.write_all(b"boot rom: \xff\xfe garbage\0").unwrap();
    port.wire.write_all(&left.frame()).unwrap();
    gateway.until("the first port's readings are there", |bronze| seqs(bronze, "left").len() == 10).await;

    let mut other = Port::plug(&second);
    other.wire.write_all(&right.frame()).unwrap();
    gateway.until("the late port's readings are there", |bronze| seqs(bronze, "right").len() == 10).await;

    let cut = left.frame();
    port.wire.write_all(&cut[..cut.len() / 2]).unwrap();
    drop(port); // unplugged in the middle of a frame
    let mut port = Port::plug(&first);
    port.wire.write_all(&left.frame()).unwrap();
    other.wire.write_all(&right.frame()).unwrap();
    gateway.until("both go on", |b| seqs(b, "left").len() == 20 && seqs(b, "right").len() == 20).await;

    let (summary, bronze) = gateway.stop().await;
    assert_eq!(
        seqs(&bronze, "left"),
        (0..10).chain(20..30).collect::<Vec<_>>(),
        "the cut frame's are a hole"
    );
    assert_eq!(summary.dropped.get(Drop::Malformed), 1, "the garbage; half a frame without an end is none");
    let now = ingot_gateway::clock::now_ms();
    for (_, boot, _, _, at_ms, _, quality) in bronze.rows.keys() {
        assert_eq!((*boot, *quality), (7, Quality::RESTAMPED.0));
        assert!((now - 60_000..=now).contains(at_ms), "{at_ms} is no time of this test");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_megabyte_of_noise_is_counted_and_the_next_frame_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("port");
    let port = Port::plug(&path);
    let gateway = Gateway::start(&format!("[[source]]\nkind = \"serial\"\npath = {path:?}\n"), Vec::new());
    let mut node = Node::new("node");
    let mut wire = port.wire.try_clone().unwrap();
    // Blocks while the gateway is slower than the noise.
    let noise = tokio::task::spawn_blocking(move || {
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..256 {
            let bytes: Vec<u8> = (0..4_096).map(|_| random.u8(..)).collect();
            wire.write_all(&bytes).unwrap();
        }
        wire.write_all(&[0]).unwrap();
        wire.write_all(&node.frame()).unwrap();
    });
    noise.await.unwrap();
    gateway.until("the frame after the noise is there", |bronze| bronze.rows.len() == 10).await;
    let (summary, _) = gateway.stop().await;
    assert!(summary.dropped.get(Drop::Malformed) > 1_000, "{summary}");
}
