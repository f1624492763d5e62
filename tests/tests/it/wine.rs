//! Windows programs: Wine of the host's archive in the tree, programs by MinGW, installers by makensis and wixl.
//!
//! Wine is 100 MB and its prefix takes a while, so one bench serves all that needs it to run.

use std::fs;
use std::io::Read;
use std::path::PathBuf;

use hatchway_tests::bench::{Bench, Outcome};
use hatchway_tests::keys::Key;
use hatchway_tests::mirror::{Mirror, Suite, three_suites};
use hatchway_tests::package::{Package, sha256};
use hatchway_tests::{compile, tar, windows};

use super::hinted;

/// A Windows program that does as it is told.
const TOOL: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>
int main(int count, char **words) {
    const char *verb = count > 1 ? words[1] : "";
    if (!strcmp(verb, "exit")) return atoi(words[2]);
    if (!strcmp(verb, "crash")) { *(volatile int *)0 = 1; }
    if (!strcmp(verb, "copy")) { int c; while ((c = getchar()) != EOF) putchar(c); return 0; }
    if (!strcmp(verb, "wait")) { puts("waiting"); fflush(stdout); Sleep(60000); }
    if (!strcmp(verb, "user")) { char name[99]; DWORD size = 99; GetUserNameA(name, &size); return puts(name) < 0; }
    if (!strcmp(verb, "window")) {
        HWND window = CreateWindowA("STATIC", "acme", WS_OVERLAPPEDWINDOW | WS_VISIBLE, 1, 1, 300, 200, 0, 0, 0, 0);
        return printf(window ? "a window\n" : "no window\n") < 0;
    }
    if (!strcmp(verb, "add")) {
        FILE *file = fopen("C:\\count", "a");
        if (!file) return 3;
        fputs("x", file);
        fseek(file, 0, SEEK_END);
        printf("%ld\n", ftell(file));
        return fclose(file) != 0;
    }
    for (int i = 1; i < count; i++) printf("<%s>", words[i]);
    puts("");
    return 0;
}
"#;

/// Opens a window, draws a point in it, and looks at the point and at the size of the screen.
const DRAWS: &str = r#"
#include <stdio.h>
#include <windows.h>
int main(void) {
    HWND window = CreateWindowA("STATIC", "acme", WS_OVERLAPPEDWINDOW | WS_VISIBLE, 1, 1, 300, 200, 0, 0, 0, 0);
    MSG message;
    while (PeekMessage(&message, 0, 0, 0, PM_REMOVE)) DispatchMessage(&message);
    HDC drawing = GetDC(window);
    SetPixel(drawing, 20, 20, RGB(1, 2, 3));
    int width = GetSystemMetrics(SM_CXSCREEN), height = GetSystemMetrics(SM_CYSCREEN);
    return printf("%dx%d %06lx\n", width, height, GetPixel(drawing, 20, 20)) < 0;
}
"#;

/// Asks a pump over `COM1`, as programs for instruments do: speed, time limits, a command, its answer.
pub(super) const ASKS: &str = r#"
#include <stdio.h>
#include <string.h>
#include <windows.h>
int main(void) {
    HANDLE port = CreateFileA("\\\\.\\COM1", GENERIC_READ | GENERIC_WRITE, 0, 0, OPEN_EXISTING, 0, 0);
    if (port == INVALID_HANDLE_VALUE) return printf("COM1: error %lu\n", GetLastError()), 2;
    DCB line = {sizeof line};
    if (!GetCommState(port, &line)) return 3;
    line.BaudRate = 115200; line.ByteSize = 8; line.Parity = NOPARITY; line.StopBits = ONESTOPBIT;
    line.fOutX = line.fInX = FALSE;
    COMMTIMEOUTS limits = {50, 0, 5000, 0, 5000};
    if (!SetCommState(port, &line) || !SetCommTimeouts(port, &limits)) return 4;
    DWORD count;
    if (!WriteFile(port, "\x01 TPA\r", 6, &count, 0)) return 5;
    unsigned char answer[64];
    int got = 0;
    while (got < 64 && ReadFile(port, answer + got, 1, &count, 0) && count == 1 && answer[got++] != '\r');
    for (int i = 0; i < got; i++) printf("%02x ", answer[i]);
    return puts("") < 0;
}
"#;

/// The pump: answers on a pseudo terminal with what it got, the speed, and a byte that is no text. Then runs a command.
const PUMP: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
int main(int count, char **words) {
    int pump = posix_openpt(O_RDWR | O_NOCTTY), line;
    if (pump < 0 || grantpt(pump) || unlockpt(pump) || (line = open(ptsname(pump), O_RDWR | O_NOCTTY)) < 0) return 91;
    pid_t answers = fork();
    if (!answers) {
        signal(SIGTERM, SIG_IGN);
        struct termios is;
        char byte, text[64];
        for (int got = 0; read(pump, &byte, 1) == 1;) {
            got++;
            if (byte != '\r' || tcgetattr(line, &is)) continue;
            int size = snprintf(text, sizeof text, "%d%c\xff\r", got, cfgetospeed(&is) == B115200 ? 'f' : 's');
            write(pump, text, size);
            got = 0;
        }
        _exit(0);
    }
    pid_t asks = fork();
    if (!asks) { execvp(words[1], words + 1); _exit(127); }
    int status;
    waitpid(asks, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 92;
}
"#;

const RECIPE: &str = "[environment]\nbase = \"debian:bookworm\"\n[run]\nrunner = \"wine\"\n";
const SLOTS: &str = "[[device]]\nname = \"valve\"\nclass = \"serial\"\n[[device]]\nname = \"pump\"\nclass = \"serial\"\n\
                     port = \"COM7\"\n";

/// A recipe `acme` with these artifacts, each with what stands in its table.
fn recipe(bench: &Bench, artifacts: &[(&str, &[u8], &str)], more: &str) {
    let folder = bench.path("work/recipes/acme");
    fs::create_dir_all(&folder).unwrap();
    bench.allow("work/recipes");
    bench.allow("work/recipes/acme");
    let mut text = "schema = 1\n[package]\nname = \"acme\"\n".to_owned();
    for (file, bytes, table) in artifacts {
        fs::write(folder.join(file), bytes).unwrap();
        text += &format!("[[artifact]]\nfile = \"{file}\"\nsha256 = \"{}\"\n{table}\n", sha256(bytes));
    }
    bench.put("recipes/acme/recipe.toml", text + more);
}

fn run(bench: &Bench, arguments: &[&str]) -> Outcome {
    bench.hatchway(&[&["run", "-q", "acme"], arguments].concat())
}

fn prefix(bench: &Bench) -> PathBuf {
    bench.state("/var/lib/wine")
}

/// The recipe's tree is built once; what is asked of it comes after.
#[test]
fn windows_programs_run_in_a_prefix_of_their_own() {
    let bench = Bench::new().exact().with_hosts_archive();
    let programs = tar::zip(&[
        ("tool.exe", &windows::program(TOOL, &[])),
        ("asks.exe", &windows::program(ASKS, &[])),
        ("lost.exe", &windows::program_calling("acmevendor.dll", "AcmeOpen")),
        ("lacks.exe", &windows::program_calling("kernel32.dll", "AcmeNoSuchFunction")),
        ("pump", &compile::program(PUMP)),
    ]);
    let unpack = "unpack = \"/opt/acme\"\n";
    let program = "program = \"/opt/acme/tool.exe\"\n";
    recipe(&bench, &[("acme.zip", &programs, unpack)], &format!("{RECIPE}{program}{SLOTS}"));
    let locked = bench.hatchway(&["lock", "acme"]).ok();
    assert!(locked.stderr.contains("rung fhs, runner wine"), "{locked}");
    drop(bench.hatchway(&["build", "acme"]).ok());
    streams_codes_and_signals(&bench);
    state_and_identity(&bench);
    ports(&bench);
    what_is_missing_is_named(&bench);
    other_prefixes_are_refused(&bench);
    installers(&bench);
}

#[test]
fn windows_are_drawn_by_an_x_server_of_the_tools_own() {
    let bench = Bench::new().exact().with_hosts_archive();
    let program = windows::program(DRAWS, &["-lgdi32"]);
    let keys = format!("{RECIPE}program = \"/opt/acme/tool.exe\"\n");
    let artifacts: [(&str, &[u8], &str); 1] = [("tool.exe", &program, "unpack = \"/opt/acme\"\n")];
    recipe(&bench, &artifacts, &keys);
    drop(bench.hatchway(&["lock", "-q", "acme"]).ok());
    // Without a display Wine draws in memory, on a screen of its own making.
    assert_eq!(run(&bench, &[]).ok().stdout, "1024x768 030201\r\n");
    recipe(&bench, &artifacts, &format!("{keys}display = \"nested\"\n"));
    drop(bench.hatchway(&["lock", "-q", "acme"]).ok());
    // A prefix of before counts as another's.
    fs::rename(prefix(&bench), bench.path("data/before")).unwrap();
    let outcome = bench.script("DISPLAY= \"$HATCHWAY\" run -q acme").ok();
    assert_eq!(outcome.stdout, "1280x800 030201\r\n", "{outcome}");
    let explained = bench.script("DISPLAY= \"$HATCHWAY\" run -q acme --explain").ok();
    assert!(explained.stdout.contains("Xvfb"), "{explained}");
    let pattern = format!("Xvfb.*{}", bench.path("").display());
    let left = std::process::Command::new("pgrep").args(["-f", &pattern]).status().unwrap();
    assert!(!left.success(), "its X server stays");
}

fn streams_codes_and_signals(bench: &Bench) {
    assert_eq!(run(bench, &["--", "a b", "\"c\""]).ok().stdout, "<a b><\"c\">\r\n");
    assert_eq!(run(bench, &["--", "exit", "7"]).code, Some(7));
    let copied = bench.script("printf 'x\\ny' | \"$HATCHWAY\" run -q acme -- copy").ok();
    assert_eq!(copied.stdout, "x\r\ny");
    // Without a debugger and without a dialog that nobody would close.
    let crashed = run(bench, &["--", "crash"]);
    assert_eq!((crashed.code, crashed.stderr.contains("Unhandled page fault")), (Some(5), true), "{crashed}");
    assert!(!crashed.stderr.contains("Register dump"), "{crashed}");
    assert_eq!(run(bench, &["--", "window"]).ok().stdout, "a window\r\n");
    let mut running = bench.start(&["run", "-q", "acme", "--", "wait"]);
    let mut said = [0; 7];
    running.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    let second = run(bench, &["--", "exit", "0"]);
    assert_eq!(second.code, Some(125), "{second}");
    assert!(second.stderr.contains("`acme` runs already"), "{second}");
    let pid = running.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(running.wait().unwrap().code(), Some(143));
}

fn state_and_identity(bench: &Bench) {
    assert_eq!(run(bench, &["--", "add"]).ok().stdout, "1\r\n");
    assert_eq!(run(bench, &["--", "add"]).ok().stdout, "2\r\n");
    assert_eq!(run(bench, &["--", "user"]).ok().stdout, "tool\r\n");
    let value = ["--program", "reg.exe", "--", "add", "HKCU\\Software\\Acme", "/v", "x", "/d", "kept", "/f"];
    drop(run(bench, &value).ok());
    let asked = run(bench, &["--program", "reg.exe", "--", "query", "HKCU\\Software\\Acme"]).ok();
    assert!(asked.stdout.contains("kept"), "{asked}");
    let system = fs::read_to_string(prefix(bench).join("system.reg")).unwrap();
    let identity = system.lines().find(|line| line.starts_with("\"MachineGuid\"=")).unwrap();
    assert!(!identity.contains("00000000-"), "{identity}");
    // Wine's own files are links into the tree, so that a prefix is small.
    let library = prefix(bench).join("drive_c/windows/system32/kernel32.dll");
    assert!(fs::read_link(&library).unwrap().starts_with("/usr/lib"), "{}", library.display());
}

fn ports(bench: &Bench) {
    let bound = ["--bind", "valve=by-id:hatchway-none", "--bind", "pump=by-id:hatchway-none"];
    drop(run(bench, &[&bound[..], &["--", "exit", "0"]].concat()).ok());
    let link = |name: &str| fs::read_link(prefix(bench).join("dosdevices").join(name)).ok();
    assert_eq!(link("com1"), Some("/dev/valve".into()));
    assert_eq!(link("com7"), Some("/dev/pump".into()));
    drop(run(bench, &[&bound[2..], &["--", "exit", "0"]].concat()).ok());
    assert_eq!((link("com1"), link("com7")), (None, Some("/dev/pump".into())));
    // No device of this host answers, so the port is a pseudo terminal of the sandbox's own here.
    let script =
        "wine reg add 'HKLM\\Software\\Wine\\Ports' /v COM1 /d /dev/pts/0 /f >/dev/null && wineserver -k
        exec /opt/acme/pump wine /opt/acme/asks.exe";
    let asked = bench.hatchway(&["shell", "-q", "acme", "--", "-c", script]).ok();
    assert_eq!(asked.stdout, "36 66 ff 0d \r\n", "6 bytes at a fast line\n{asked}");
}

fn what_is_missing_is_named(bench: &Bench) {
    let lost = run(bench, &["--program", "/opt/acme/lost.exe"]);
    assert_eq!(lost.code, Some(125), "{lost}");
    assert!(lost.stderr.contains("has `acmevendor.dll` (wanted by `lost.exe`)"), "{lost}");
    for arguments in [&[][..], &["--", "call"]] {
        let lacks = run(bench, &[&["--program", "/opt/acme/lacks.exe"], arguments].concat());
        assert!(lacks.stderr.contains("calls `AcmeNoSuchFunction` of `kernel32.dll`"), "{lacks}");
        assert_eq!(
            (lacks.code == Some(0), lacks.stdout.as_str()),
            (arguments.is_empty(), "begin\r\n"),
            "{lacks}"
        );
    }
}

fn other_prefixes_are_refused(bench: &Bench) {
    let mark = prefix(bench).join(".hatchway");
    let text = fs::read_to_string(&mark).unwrap();
    fs::write(&mark, "Wine 1.0\nff\n").unwrap();
    let refused = run(bench, &["--", "exit", "0"]);
    assert_eq!(refused.code, Some(125), "{refused}");
    assert!(refused.stderr.contains("was made by Wine 1.0, and that of its tree by Wine "), "{refused}");
    assert!(refused.stderr.contains("hint: to begin anew"), "{refused}");
    fs::write(&mark, text).unwrap();
    assert_eq!(run(bench, &["--", "add"]).ok().stdout, "3\r\n");
    let old = prefix(bench).with_file_name("old");
    fs::rename(prefix(bench), old).unwrap();
    assert_eq!(run(bench, &["--", "add"]).ok().stdout, "1\r\n");
}

/// Two installers in one recipe, each run once over the tree of those before; the programs are on drive C:.
fn installers(bench: &Bench) {
    let tool = windows::program(TOOL, &[]);
    let artifacts: [(&str, &[u8], &str); 2] = [
        ("setup.exe", &windows::nsis(&tool), "install = { run = [\"wine\", \"./setup.exe\", \"/S\"] }\n"),
        (
            "acme.msi",
            &windows::msi(&tool),
            "install = { run = [\"wine\", \"msiexec\", \"/i\", \"acme.msi\", \"/qn\"] }\n",
        ),
    ];
    let program = "program = \"/var/lib/wine/drive_c/Program Files/Acme Gauge/gauge.exe\"\n";
    recipe(bench, &artifacts, &format!("{RECIPE}{program}"));
    let locked = bench.hatchway(&["lock", "acme"]).ok();
    assert!(!locked.stderr.contains("something else each time"), "{locked}");
    let record = bench.read("recipes/acme/acme.msi.captured");
    assert!(record.contains("/Acme\\040Gauge/gauge.exe type=file"), "{record}");
    drop(bench.hatchway(&["build", "acme"]).ok());
    // The tool's state is the prefix without them.
    let refused = run(bench, &["--", "a"]);
    assert!(refused.stderr.contains("with other software on it"), "{refused}");
    fs::rename(prefix(bench), prefix(bench).with_file_name("older")).unwrap();
    assert_eq!(run(bench, &["--", "a"]).ok().stdout, "<a>\r\n");
    let pump = "/var/lib/wine/drive_c/Program Files/Acme Pump/pump.exe";
    assert_eq!(run(bench, &["--program", pump, "--", "b"]).ok().stdout, "<b>\r\n");
    let asked = run(bench, &["--program", "reg.exe", "--", "query", "HKLM\\Software\\Acme"]).ok();
    assert!(asked.stdout.contains("C:\\Program Files\\Acme Gauge\\"), "{asked}");
    assert!(asked.stdout.contains("C:\\Program Files\\Acme Pump"), "{asked}");
}

/// Stand-ins for Wine: what is locked shows, and nothing is run.
fn suites() -> Vec<Suite> {
    let [bookworm, trixie, bullseye] = <[Suite; 3]>::try_from(three_suites()).unwrap();
    let with = |suite: Suite, version: &str| {
        ["wine", "wine64", "libgnutls30"]
            .iter()
            .fold(suite, |suite, name| suite.with(Package::new(name, version)))
    };
    vec![with(bookworm, "8.0~repack-4"), with(trixie, "10.0~repack-6"), with(bullseye, "5.0.3-3")]
}

#[test]
fn the_newest_wine_of_the_suites_is_locked() {
    let (bench, _server) = Bench::new().with_mirror(&Mirror::new(suites(), Key::new(1)));
    let program = windows::program(TOOL, &[]);
    // Nothing in the recipe asks for Wine: the file does.
    recipe(&bench, &[("acme.exe", &program, "unpack = \"/opt/acme\"")], "");
    drop(bench.hatchway(&["lock", "acme"]).ok());
    let lock = bench.read("recipes/acme/recipe.lock");
    assert!(lock.contains("base = \"debian:trixie\"") && lock.contains("runner = \"wine\""), "{lock}");
    drop(bench.hatchway(&["lock", "acme", "--suite", "bookworm", "--suite", "trixie"]).ok());
    // A person's order counts.
    drop(bench.hatchway(&["lock", "acme", "--upgrade", "--suite", "bookworm"]).ok());
    let lock = bench.read("recipes/acme/recipe.lock");
    assert!(lock.contains("base = \"debian:bookworm\""), "{lock}");
}

#[test]
fn a_32_bit_program_asks_for_its_half_of_wine() {
    let (bench, _server) = Bench::new().with_mirror(&Mirror::new(suites(), Key::new(1)));
    recipe(&bench, &[("acme.exe", &windows::program_32(TOOL), "unpack = \"/opt/acme\"")], "");
    let refused = bench.hatchway(&["lock", "acme"]);
    hinted(&refused, "`acme.exe` is for i386, which the recipe does not name");
    bench.put("acme32.exe", windows::program_32(TOOL));
    drop(bench.hatchway(&["new", "acme32.exe"]).ok());
    let recipe = bench.read("recipes/acme32/recipe.toml");
    assert!(
        recipe.contains("architectures = [\"amd64\", \"i386\"]  # acme32.exe is a 32-bit Windows program"),
        "{recipe}"
    );
    assert!(recipe.contains("runner = \"wine\"  # "), "{recipe}");
}

#[test]
fn a_new_recipe_runs_an_installer_unattended() {
    let bench = Bench::ordinary();
    let tool = windows::program(TOOL, &[]);
    bench.put("setup.exe", windows::nsis(&tool));
    bench.put("acme.msi", windows::msi(&tool));
    for (file, name, install) in [
        (
            "setup.exe",
            "setup",
            "install = { run = [\"wine\", \"./setup.exe\", \"/S\"] }  # an installer made by NSIS",
        ),
        (
            "acme.msi",
            "acme",
            "install = { run = [\"wine\", \"msiexec\", \"/i\", \"acme.msi\", \"/qn\"] }  # a Windows",
        ),
    ] {
        drop(bench.hatchway(&["new", file, "--name", name]).ok());
        let recipe = bench.read(&format!("recipes/{name}/recipe.toml"));
        assert!(recipe.contains(install) && recipe.contains("runner = \"wine\""), "{recipe}");
    }
}
