//! A web server on the loopback interface, with faults on demand and a memory of what it was asked for.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What goes wrong with one file.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// The connection ends after so many bytes of content, and at the next try, before any; then all is well.
    CutAfter(usize),
    /// The byte at this place is another one; always.
    Corrupt(usize),
    /// The answer is this status; always.
    Status(u16),
    /// Ranges are not understood, and more follows than the file has; always.
    WholeAndMore(usize),
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The path.
    pub path: String,
    /// The `Range` header, if there was one.
    pub range: Option<String>,
}

#[derive(Debug, Default)]
struct Shared {
    files: BTreeMap<String, Arc<Vec<u8>>>,
    faults: HashMap<String, Fault>,
    requests: Vec<Request>,
}

/// A running server. It lives as long as the test process; a test has its own.
#[derive(Debug, Clone)]
pub struct Server {
    /// `http://127.0.0.1:<port>`
    pub url: String,
    shared: Arc<Mutex<Shared>>,
}

impl Server {
    /// Serves files by their path without a leading slash.
    #[must_use]
    pub fn start(files: BTreeMap<String, Arc<Vec<u8>>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Mutex::new(Shared { files, ..Shared::default() }));
        let own = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&own);
                // A client that goes away in the middle is part of the tests.
                std::thread::spawn(move || drop(answer(&stream, &shared)));
            }
        });
        Self { url, shared }
    }

    /// Puts a file in place of another, or in addition.
    pub fn replace(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.shared.lock().unwrap().files.insert(path.to_owned(), Arc::new(bytes.into()));
    }

    /// A file's content.
    #[must_use]
    pub fn file(&self, path: &str) -> Vec<u8> {
        let shared = self.shared.lock().unwrap();
        shared.files.get(path).unwrap_or_else(|| panic!("the mirror has no `{path}`")).to_vec()
    }

    /// Lets something go wrong with a file.
    pub fn fault(&self, path: &str, fault: Fault) {
        let mut shared = self.shared.lock().unwrap();
        assert!(shared.files.contains_key(path), "the mirror has no `{path}`");
        shared.faults.insert(path.to_owned(), fault);
    }

    /// Ends all faults.
    pub fn mend(&self) {
        self.shared.lock().unwrap().faults.clear();
    }

    /// What was asked for since the last call.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.shared.lock().unwrap().requests)
    }
}

fn answer(stream: &TcpStream, shared: &Mutex<Shared>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or("/").trim_start_matches('/').to_owned();
    let mut range = None;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("range")
        {
            range = Some(value.trim().to_owned());
        }
    }
    let (file, fault) = {
        let mut shared = shared.lock().unwrap();
        shared.requests.push(Request { path: path.clone(), range: range.clone() });
        let fault = shared.faults.get(&path).copied();
        match fault {
            Some(Fault::CutAfter(0)) => drop(shared.faults.remove(&path)),
            Some(Fault::CutAfter(_)) => drop(shared.faults.insert(path.clone(), Fault::CutAfter(0))),
            _ => {}
        }
        (shared.files.get(&path).cloned(), fault)
    };
    respond(stream, file, range.as_deref(), fault)?;
    stream.shutdown(Shutdown::Write)
}

fn respond(
    mut stream: &TcpStream,
    file: Option<Arc<Vec<u8>>>,
    range: Option<&str>,
    fault: Option<Fault>,
) -> std::io::Result<()> {
    let status = match (&fault, &file) {
        (Some(Fault::Status(status)), _) => *status,
        (_, None) => 404,
        _ => 200,
    };
    let Some(file) = file.filter(|_| status == 200) else {
        return write!(stream, "HTTP/1.1 {status} Odd\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let mut bytes = file.to_vec();
    if let Some(Fault::Corrupt(at)) = fault {
        bytes[at] ^= 1;
    }
    let range = range.filter(|_| !matches!(fault, Some(Fault::WholeAndMore(_))));
    if let Some(Fault::WholeAndMore(more)) = fault {
        bytes.resize(bytes.len() + more, b'!');
    }
    let from = range.and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let head = match from {
        Some(from) => format!("206 Part\r\nContent-Range: bytes {from}-{}/{}", bytes.len() - 1, bytes.len()),
        None => "200 Fine".to_owned(),
    };
    let rest = &bytes[from.unwrap_or(0)..];
    write!(stream, "HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", rest.len())?;
    match fault {
        Some(Fault::CutAfter(count)) => stream.write_all(&rest[..count.min(rest.len())]),
        _ => stream.write_all(rest),
    }
}
