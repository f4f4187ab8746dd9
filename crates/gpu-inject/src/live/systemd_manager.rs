//! Reads and sets properties of a systemd unit over D-Bus.
//!
//! Like `systemctl` as root, it connects to systemd's own socket, or to the system bus if that socket does not exist.

use std::cell::{Cell, RefCell};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::unistd::geteuid;

use super::dbus::{ANSWER, BusMessage, ERROR, MethodCall, Reader, Writer};

/// A connection to the service manager of this host.
#[derive(Debug)]
pub struct SystemdManager {
    stream: RefCell<BufReader<UnixStream>>,
    /// The serial of the last message that was sent.
    serial: Cell<u32>,
    /// Whether the connection is to the system bus, which needs a `Hello` call first.
    is_bus: bool,
    is_open: Cell<bool>,
}

/// Whether systemd is the service manager of this host, determined as `sd_booted(3)` does.
pub(super) fn is_systemd_here() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

const PRIVATE: &str = "/run/systemd/private";
const BUS: &str = "/run/dbus/system_bus_socket";
/// Time limit of a call. systemd does not answer while it reloads, which can take seconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// Maximum bytes of a line before the first message.
const MAX_LINE: u64 = 256;
/// Maximum number of messages that are skipped before a reply: systemd sends signals to every client on its socket.
const MAX_PASSED: usize = 10_000;

const DESTINATION: &str = "org.freedesktop.systemd1";
const UNITS: &str = "/org/freedesktop/systemd1/unit/";

/// What a unit's properties say about devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DevicePolicy {
    /// systemd allows every device, so it makes no rules.
    Everything,
    /// systemd makes rules for the devices that the unit names.
    Named,
    /// systemd attaches a program that the low-level runtime has made and pinned, as crun does.
    Program,
}

impl SystemdManager {
    /// Connects, if systemd runs here. Nothing is sent before the first call.
    #[must_use]
    pub fn connect() -> Option<Self> {
        if !is_systemd_here() {
            return None;
        }
        Self::connect_to(PRIVATE, false).or_else(|| Self::connect_to(BUS, true))
    }

    fn connect_to(path: &str, is_bus: bool) -> Option<Self> {
        let stream = UnixStream::connect(path).ok()?;
        Some(Self {
            stream: RefCell::new(BufReader::new(stream)),
            serial: Cell::new(0),
            is_bus,
            is_open: Cell::new(false),
        })
    }

    /// What the scope's properties say about devices. A scope that systemd does not know has none.
    pub(super) fn device_policy(&self, scope: &str) -> io::Result<DevicePolicy> {
        let policy = self.property(scope, "DevicePolicy")?;
        let policy = Reader::new(&policy)
            .after_signature("s")
            .and_then(Reader::text);
        let policy = policy.ok_or_else(|| io::Error::other("systemd's DevicePolicy is no text"))?;
        if policy != "auto" || self.has_entries(scope, "DeviceAllow")? {
            return Ok(DevicePolicy::Named);
        }
        // systemd before 249 has no such property.
        Ok(match self.has_entries(scope, "BPFProgram") {
            Ok(true) => DevicePolicy::Program,
            // An answer that is an error. No answer at all is no statement about the scope.
            Err(e) if e.kind() != io::ErrorKind::Unsupported => return Err(e),
            _ => DevicePolicy::Everything,
        })
    }

    fn has_entries(&self, scope: &str, property: &str) -> io::Result<bool> {
        let answer = self.property(scope, property)?;
        let length = Reader::new(&answer)
            .after_signature("a(ss)")
            .and_then(Reader::word);
        Ok(length != Some(0))
    }

    /// Adds devices that the unit may read and write, until the unit ends. systemd includes them in all rules that it
    /// makes from now on.
    pub(super) fn allow_devices(&self, unit: &str, devices: &[String]) -> io::Result<()> {
        let mut body = Writer::default();
        body.text(unit);
        // The parameter `runtime`: the setting is not kept across a reboot.
        body.word(1);
        let properties = body.begin_array();
        body.align(8);
        let start = body.0.len();
        body.text("DeviceAllow");
        body.signature("a(ss)");
        let list = body.begin_array();
        body.align(8);
        let first = body.0.len();
        for device in devices {
            body.align(8);
            body.text(device);
            body.text("rw");
        }
        body.end_array(list, first);
        body.end_array(properties, start);
        let call = MethodCall {
            path: "/org/freedesktop/systemd1",
            interface: "org.freedesktop.systemd1.Manager",
            member: "SetUnitProperties",
            signature: "sba(sv)",
        };
        self.call(DESTINATION, &call, &body.0).map(drop)
    }

    /// The variant with the property's value.
    fn property(&self, scope: &str, name: &str) -> io::Result<Vec<u8>> {
        let mut body = Writer::default();
        body.text("org.freedesktop.systemd1.Scope");
        body.text(name);
        let path = format!("{UNITS}{}", escaped(scope));
        let call = MethodCall {
            path: &path,
            interface: "org.freedesktop.DBus.Properties",
            member: "Get",
            signature: "ss",
        };
        self.call(DESTINATION, &call, &body.0)
    }

    /// Returns the body of the answer.
    fn call(&self, to: &str, call: &MethodCall<'_>, body: &[u8]) -> io::Result<Vec<u8>> {
        if !self.is_open.get() {
            self.open()?;
        }
        self.call_opened(to, call, body)
    }

    fn call_opened(&self, to: &str, call: &MethodCall<'_>, body: &[u8]) -> io::Result<Vec<u8>> {
        let serial = self.serial.get() + 1;
        self.serial.set(serial);
        self.send(&call.message(to, serial, body)?)?;
        for _ in 0..MAX_PASSED {
            let message = self.receive()?;
            if message.reply_to != Some(serial) {
                continue;
            }
            match message.kind {
                ANSWER => return Ok(message.body),
                ERROR => {
                    let why = Reader::new(&message.body).text();
                    return Err(io::Error::new(
                        io::ErrorKind::Unsupported,
                        why.unwrap_or_else(|| "no reason given".into()),
                    ));
                }
                _ => {}
            }
        }
        Err(io::Error::other("systemd does not answer"))
    }

    /// Authenticates by our user ID, which the other side checks through the socket.
    fn open(&self) -> io::Result<()> {
        let socket = self.stream.borrow();
        socket.get_ref().set_read_timeout(Some(PATIENCE))?;
        socket.get_ref().set_write_timeout(Some(PATIENCE))?;
        drop(socket);
        let user: String = geteuid()
            .to_string()
            .bytes()
            .map(|b| format!("{b:02x}"))
            .collect();
        let words = format!("\0AUTH EXTERNAL {user}\r\nBEGIN\r\n");
        self.send(words.as_bytes())?;
        let mut line = Vec::new();
        let mut stream = self.stream.borrow_mut();
        stream
            .by_ref()
            .take(MAX_LINE)
            .read_until(b'\n', &mut line)?;
        drop(stream);
        if !line.starts_with(b"OK ") {
            return Err(io::Error::other("systemd does not let us in"));
        }
        self.is_open.set(true);
        if self.is_bus {
            let hello = MethodCall {
                path: "/org/freedesktop/DBus",
                interface: "org.freedesktop.DBus",
                member: "Hello",
                signature: "",
            };
            self.call_opened("org.freedesktop.DBus", &hello, &[])?;
        }
        Ok(())
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.stream.borrow_mut().get_mut().write_all(bytes)
    }

    fn receive(&self) -> io::Result<BusMessage> {
        BusMessage::read(&mut *self.stream.borrow_mut())
    }
}

/// Escapes a unit's name for the path of its object: every character that is not a letter or digit becomes `_` and
/// two hexadecimal digits.
fn escaped(unit: &str) -> String {
    let mut path = String::with_capacity(2 * unit.len());
    for (at, byte) in unit.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (at > 0 && byte.is_ascii_digit()) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("_{byte:02x}"));
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread::{self, JoinHandle};

    use super::super::dbus::{PATH, REPLY_SERIAL, SIGNATURE};
    use super::*;

    /// A stand-in for systemd that accepts the connection and then sends these replies, one for each call, after a
    /// signal. Returns everything that it received.
    fn systemd(
        answers: Vec<Vec<u8>>,
    ) -> (tempfile::TempDir, SystemdManager, JoinHandle<Vec<Vec<u8>>>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("private");
        let listener = UnixListener::bind(&path).unwrap();
        let heard = thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            let mut start = [0; 64];
            let length = peer.read(&mut start).unwrap();
            let mut heard = vec![start[..length].to_vec()];
            peer.write_all(b"OK 0123456789abcdef0123456789abcdef\r\n")
                .unwrap();
            for answer in answers {
                let mut message = [0; 4096];
                let length = peer.read(&mut message).unwrap();
                heard.push(message[..length].to_vec());
                peer.write_all(&signal()).unwrap();
                peer.write_all(&answer).unwrap();
            }
            heard
        });
        let manager = SystemdManager::connect_to(path.to_str().unwrap(), false).unwrap();
        (dir, manager, heard)
    }

    /// A message with these header fields (code, signature, value) and body.
    fn message(kind: u8, fields: &[(u8, &str, &[u8])], body: &[u8]) -> Vec<u8> {
        let mut message = Writer(vec![b'l', kind, 0, 1]);
        message.word(u32::try_from(body.len()).unwrap());
        message.word(77);
        let length = message.begin_array();
        let first = message.0.len();
        for (code, signature, value) in fields {
            message.align(8);
            message.0.push(*code);
            message.signature(signature);
            if *signature != "g" {
                message.align(4);
            }
            message.0.extend_from_slice(value);
        }
        message.end_array(length, first);
        message.align(8);
        message.0.extend_from_slice(body);
        message.0
    }

    fn signal() -> Vec<u8> {
        message(
            4,
            &[(PATH, "o", b"\x02\0\0\0/o\0"), (SIGNATURE, "g", b"\x01s\0")],
            b"\x01\0\0\0x\0",
        )
    }

    fn answer(to: u32, kind: u8, body: &[u8]) -> Vec<u8> {
        message(
            kind,
            &[
                (SIGNATURE, "g", b"\x01v\0"),
                (REPLY_SERIAL, "u", &to.to_le_bytes()),
            ],
            body,
        )
    }

    fn policy(text: &str) -> Vec<u8> {
        let mut body = Writer::default();
        body.signature("s");
        body.text(text);
        body.0
    }

    fn list(is_empty: bool) -> Vec<u8> {
        let mut body = Writer::default();
        body.signature("a(ss)");
        body.word(if is_empty { 0 } else { 16 });
        body.0
    }

    #[test]
    fn what_a_scope_says_about_devices_is_asked() {
        for (answers, expected) in [
            (vec![policy("strict")], DevicePolicy::Named),
            (vec![policy("auto"), list(false)], DevicePolicy::Named),
            (
                vec![policy("auto"), list(true), list(false)],
                DevicePolicy::Program,
            ),
            (
                vec![policy("auto"), list(true), list(true)],
                DevicePolicy::Everything,
            ),
        ] {
            let answers = (1..)
                .zip(&answers)
                .map(|(to, body)| answer(to, ANSWER, body));
            let (_dir, manager, heard) = systemd(answers.collect());
            assert_eq!(manager.device_policy("docker-1.scope").unwrap(), expected);
            let heard = heard.join().unwrap();
            assert!(heard[0].starts_with(b"\0AUTH EXTERNAL "), "{:?}", heard[0]);
            let path = b"/org/freedesktop/systemd1/unit/docker_2d1_2escope\0";
            assert!(heard[1].windows(path.len()).any(|part| part == path));
        }
    }

    #[test]
    fn devices_are_added_to_the_unit() {
        let (_dir, manager, heard) = systemd(vec![answer(1, ANSWER, &[])]);
        let devices = ["/dev/char/195:0".to_owned(), "/dev/char/195:255".to_owned()];
        manager.allow_devices("docker-1.scope", &devices).unwrap();
        let heard = heard.join().unwrap();
        // The bytes from the unit's name on: each value aligned to a multiple of its size, each array preceded by its
        // length in bytes.
        let mut body = b"\x0e\0\0\0docker-1.scope\0\0\x01\0\0\0".to_vec();
        body.extend_from_slice(b"\x5f\0\0\0\0\0\0\0\x0b\0\0\0DeviceAllow\0\x05a(ss)\0\0");
        body.extend_from_slice(b"\x3f\0\0\0\0\0\0\0\x0f\0\0\0/dev/char/195:0\0\x02\0\0\0rw\0\0");
        assert!(
            heard[1].windows(body.len()).any(|part| part == body),
            "{}",
            heard[1].escape_ascii()
        );
    }

    #[test]
    fn what_systemd_says_against_it_is_reported() {
        let mut why = Writer::default();
        why.text("Unit docker-1.scope not found.");
        let (_dir, manager, heard) = systemd(vec![answer(1, ERROR, &why.0)]);
        let error = manager.allow_devices("docker-1.scope", &[]).unwrap_err();
        assert_eq!(error.to_string(), "Unit docker-1.scope not found.");
        heard.join().unwrap();
        // The connection ends in the middle of a message.
        let (_dir, manager, heard) = systemd(vec![answer(1, ANSWER, &[])[..20].to_vec()]);
        assert!(manager.allow_devices("docker-1.scope", &[]).is_err());
        heard.join().unwrap();
    }
}
