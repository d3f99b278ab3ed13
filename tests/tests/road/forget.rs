//! `forget` as a privacy officer runs it: readings come by a real gateway, the commands are the user's, and the scan
//! is over every byte of the lake.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ingot_tests::{TempLake, binary, gateway, one_json, succeeded, workspace};

const KEY: &str = "0123456789abcdef0123456789abcdef";
const DEVICE: &str = "bedroom-of-ann";
const EMAIL: &str = "ann.gone@mail.example";

fn processor(lake: &TempLake, args: &[&str], stdin: Option<&str>) -> Output {
    let mut command = Command::new(binary("ingot-processor"));
    command.args(args).arg("--lake").arg(lake.url()).current_dir(workspace()).env("INGOT_PSEUDONYM_KEY", KEY);
    command.env("RUST_LOG", "debug").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), stdin.unwrap_or_default().as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn holding(lake: &TempLake, text: &str) -> Vec<PathBuf> {
    let holds =
        |file: &PathBuf| std::fs::read(file).unwrap().windows(text.len()).any(|part| part == text.as_bytes());
    files(lake.path()).into_iter().filter(holds).collect()
}

#[test]
fn a_forgotten_device_and_person_are_in_no_byte_of_the_lake() {
    let lake = TempLake::new();
    let spool = tempfile::tempdir().unwrap();
    let readings: String = (0..40)
        .map(|n| {
            let device = if n % 2 == 0 { DEVICE } else { "kitchen" };
            let value = if n == 10 { 500.0 } else { 20.0 };
            format!("{{\"device\":\"{device}\",\"channel\":\"temperature\",\"value\":{value},\"at\":\"2026-01-01T00:00:{n:02}Z\",\"seq\":{},\"boot\":1}}\n", n / 2)
        })
        .collect();
    succeeded(gateway(&lake, spool.path(), &readings));
    let order = |n: u32, email: &str| {
        format!(
            "{{\"order_id\":\"A{n}\",\"status\":\"paid\",\"amount\":5,\"currency\":\"EUR\",\"created_at\":\"2026-01-01T10:00:00Z\",\"customer_email\":\"{email}\"}}\n"
        )
    };
    lake.write(
        "bronze/orders/dt=2026-01-01/a.ndjson",
        [order(1, EMAIL), order(2, "bob@mail.example")].concat(),
    );
    succeeded(processor(&lake, &["run"], None));
    let others = "SELECT * FROM silver.sensor_readings WHERE device = 'kitchen' ORDER BY seq";
    let kitchen = lake.query(others);
    assert!(!holding(&lake, DEVICE).is_empty() && !holding(&lake, EMAIL).is_empty());

    let keyless = lake.processor(&["forget", "--subject", "device=d1"]);
    assert_eq!(keyless.status.code(), Some(2));
    let nobody = processor(&lake, &["forget", "--subject", "status=paid"], None);
    assert_eq!(nobody.status.code(), Some(2));

    let mut said = Vec::new();
    for (subject, stdin) in
        [(format!("device={DEVICE}"), None), ("-".to_owned(), Some(format!("customer_email={EMAIL}\n")))]
    {
        let args = ["forget", "--alone", "--format", "json", "--subject", &subject];
        let output = succeeded(processor(&lake, &args, stdin.as_deref()));
        let report = one_json(&output);
        let receipt = lake.path().join(report["receipt"].as_str().unwrap());
        let named = stdin.as_deref().unwrap_or(&subject).trim().to_owned();
        let verify = ["forget", "--verify", receipt.to_str().unwrap(), "--subject"];
        said.push(succeeded(processor(&lake, &[&verify[..], &[&named]].concat(), None)));
        assert_eq!(processor(&lake, &[&verify[..], &["device=other"]].concat(), None).status.code(), Some(1));
        std::fs::write(
            &receipt,
            std::fs::read_to_string(&receipt).unwrap().replace("_rows\": ", "_rows\": 1"),
        )
        .unwrap();
        assert_eq!(processor(&lake, &verify[..3], None).status.code(), Some(1), "a changed receipt");
        said.push(output);
    }
    for text in [DEVICE, EMAIL] {
        assert_eq!(holding(&lake, text), Vec::<PathBuf>::new());
        for output in &said {
            let words = [&output.stdout[..], &output.stderr].concat();
            assert!(
                !String::from_utf8_lossy(&words).contains(text),
                "the commands do not name whom they erase"
            );
        }
    }
    assert_eq!(lake.query(others), kitchen);
    succeeded(processor(&lake, &["run"], None));
    let balance = one_json(&succeeded(processor(&lake, &["audit", "--format", "json"], None)));
    assert_eq!(balance["discarded"].as_u64(), Some(21), "{balance}");
    let into = tempfile::tempdir().unwrap();
    let into = format!("file://{}/lake", into.path().display());
    let rebuilt = succeeded(processor(&lake, &["rebuild", "--format", "json", "--into", &into], None));
    assert_eq!(one_json(&rebuilt)["equal"], true);
    assert_eq!(lake.processor(&["run"]).status.code(), Some(1), "without its key the lake is not processed");
}
