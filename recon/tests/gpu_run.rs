//! Plans that ask for a graphics card, by the program and the library. With the feature `gpu` the card is Mesa's software
//! adapter (`apt-get install mesa-vulkan-drivers`) or the machine's; without it there is none, which is told.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod desk;

use serde_json::Value;

use desk::Desk;

/// A desk with the files of the 2-D scan.
fn simulated() -> Desk {
    let desk = Desk::new();
    let outputs = ["--scan", "scan.mdf", "--calibration", "calibration.mdf", "--truth", "truth.mdf"];
    desk.ok(&[&["simulate", "lissajous-2d.toml"][..], &outputs].concat());
    desk
}

/// Puts a table before the solver's.
fn with_device(desk: &Desk, device: &str) {
    desk.change("reconstruct-2d.toml", "[solver]", &format!("[device]\n{device}\n\n[solver]"));
}

fn reconstructed(desk: &Desk) -> (String, Value) {
    let output = desk.recon(&["reconstruct", "reconstruct-2d.toml", "--force", "--json"]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    (errors, serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn a_plan_for_a_card_that_is_not_there_goes_on_with_a_warning_or_ends() {
    let desk = simulated();
    with_device(&desk, "use = \"gpu\"\nadapter = \"no such card\"");
    let (errors, figures) = reconstructed(&desk);
    let begin = "no graphics card can be used: ";
    let why = if cfg!(feature = "gpu") {
        "none has `no such card` in its name: "
    } else {
        "this program was built without the feature `gpu`"
    };
    assert!(errors.contains(&format!("warning: {begin}{why}")), "{errors}");
    assert!(errors.contains("; the processor computes instead"), "{errors}");
    let device = figures["device"].as_str().unwrap();
    assert!(device.starts_with("CPU, ") && device.contains(why), "{device}");
    assert!(figures["warnings"][0].as_str().unwrap().contains(why));

    desk.change("reconstruct-2d.toml", "[solver]", "fall-back = false\n\n[solver]");
    let errors = desk.fails(&["reconstruct", "reconstruct-2d.toml", "--force"]);
    assert!(errors.contains(&format!("error: {begin}{why}")), "{errors}");
}

#[test]
fn a_plan_without_a_device_says_what_computed() {
    let desk = simulated();
    let text = desk.ok(&["reconstruct", "reconstruct-2d.toml"]);
    assert!(text.lines().any(|line| line.starts_with("device    ")), "{text}");
    desk.change("reconstruct-2d.toml", "[solver]", "[device]\nuse = \"cpu\"\n\n[solver]");
    let text = desk.ok(&["reconstruct", "reconstruct-2d.toml", "--force"]);
    let is_told = |line: &str| line.starts_with("device    CPU, ") && line.ends_with(" (as asked for)");
    assert!(text.lines().any(is_told), "{text}");
}

#[test]
fn devices_are_listed_with_what_auto_means() {
    let desk = Desk::new();
    let text = desk.ok(&["devices"]);
    let listed: Value = serde_json::from_str(&desk.ok(&["devices", "--json"])).unwrap();
    let adapters = listed["adapters"].as_array().unwrap();
    assert_eq!(adapters.is_empty(), !cfg!(feature = "gpu"), "{listed}");
    for adapter in adapters {
        assert!(text.contains(adapter["name"].as_str().unwrap()), "{text}");
        assert!(adapter["binding-bytes-max"].as_u64().unwrap() > 0, "{adapter}");
    }
    let reason = listed["auto"]["reason"].as_str().unwrap();
    assert!(text.lines().last().unwrap().starts_with("auto is ") && text.contains(reason), "{text}");
    match listed["auto"]["adapter"].as_u64() {
        Some(index) => assert_ne!(adapters[usize::try_from(index).unwrap()]["kind"], "software"),
        None => assert!(reason.starts_with("no graphics card can be used: "), "{reason}"),
    }
}

#[cfg(feature = "gpu")]
mod card {
    use std::path::Path;
    use std::sync::Mutex;

    use hatchway_recon::Error;
    use hatchway_recon::online::{Door, Pace, ServePlan, Stop, Watcher, play, serve_on};
    use hatchway_recon::run::{DevicePlan, Done, Hardware, ReconstructPlan, Use, read_plan, reconstruct_on};
    use hatchway_recon::solve::{Control, Progress};

    use super::*;

    const CARD: &str = "use = \"gpu\"\nallow-software = true";

    fn difference(found: &[f32], expected: &[f32]) -> f64 {
        let square = |value: f32| f64::from(value).powi(2);
        let size: f64 = expected.iter().map(|value| square(*value)).sum();
        (found.iter().zip(expected).map(|(a, b)| square(a - b)).sum::<f64>() / size).sqrt()
    }

    #[test]
    fn an_image_by_a_card_is_that_of_the_processor() {
        let desk = simulated();
        desk.ok(&["reconstruct", "reconstruct-2d.toml"]);
        let expected = desk.image("image.mdf");
        with_device(&desk, CARD);
        let (errors, figures) = reconstructed(&desk);
        assert!(!errors.contains("warning"), "{errors}");
        let device = figures["device"].as_str().unwrap();
        assert!(device.contains(", 1 shard, ") && device.contains(" MiB ("), "{device}");
        let difference = difference(&desk.image("image.mdf").data, &expected.data);
        assert!(difference < 1e-5, "{difference:e}");
    }

    #[test]
    fn a_matrix_too_large_for_the_card_is_told_with_numbers() {
        let desk = simulated();
        with_device(&desk, &format!("{CARD}\nmemory-mib = 1"));
        let (errors, figures) = reconstructed(&desk);
        assert!(errors.contains("has no room for a matrix of 513 rows and 784 columns"), "{errors}");
        assert!(
            errors.contains("1048576 are free") && errors.contains("the processor computes instead"),
            "{errors}"
        );
        assert!(figures["device"].as_str().unwrap().starts_with("CPU, "), "{figures}");
        desk.change("reconstruct-2d.toml", "memory-mib", "fall-back = false\nmemory-mib");
        let errors = desk.fails(&["reconstruct", "reconstruct-2d.toml", "--force"]);
        assert!(errors.contains("error: the graphics card") && errors.contains("has no room"), "{errors}");
    }

    #[test]
    fn a_lambda_for_every_voxel_is_left_to_the_processor_and_told() {
        let desk = simulated();
        let all = vec!["0.01"; 784].join(", ");
        desk.change("reconstruct-2d.toml", "lambda = 0.01", &format!("lambda = [{all}]"));
        with_device(&desk, CARD);
        let (errors, figures) = reconstructed(&desk);
        assert!(errors.contains("a lambda for every voxel is the processor's"), "{errors}");
        assert!(figures["device"].as_str().unwrap().starts_with("CPU, "), "{figures}");
    }

    /// Reconstructs, and takes the card away after the third iteration on it.
    fn robbed(folder: &Path, fall_back: bool) -> Result<Done, Error> {
        let plan: ReconstructPlan = read_plan(&folder.join("reconstruct-2d.toml")).unwrap();
        let wish = DevicePlan { uses: Use::Gpu, allow_software: true, fall_back, ..DevicePlan::default() };
        let hardware = Hardware::open(&wish).unwrap();
        let card =
            hardware.card().expect("a card or a software adapter: apt-get install mesa-vulkan-drivers");
        let tell = |progress: Progress| {
            if progress.iteration == 3 {
                std::thread::scope(|scope| {
                    scope.spawn(|| card.destroy());
                });
            }
        };
        reconstruct_on(&hardware, &plan, folder, &Control { progress: Some(&tell), ..Control::default() })
    }

    #[test]
    fn a_card_that_is_lost_in_the_middle_is_told_and_the_processor_begins_again() {
        let desk = simulated();
        desk.ok(&["reconstruct", "reconstruct-2d.toml"]);
        let done = robbed(desk.folder.path(), true).unwrap();
        let [warning] = &done.summary.warnings[..] else { panic!("{:?}", done.summary.warnings) };
        assert!(
            warning.contains(" was lost: ") && warning.ends_with("; the processor began again"),
            "{warning}"
        );
        let device = &done.summary.device;
        assert!(device.starts_with("CPU, ") && device.contains(" was lost: "), "{device}");
        assert_eq!(done.summary.solver.iterations, [20]);
        let difference = difference(&done.image.data, &desk.image("image.mdf").data);
        assert!(difference < 1e-6, "{difference:e}");

        let error = robbed(desk.folder.path(), false).unwrap_err();
        assert!(matches!(error, Error::GpuLost { .. }), "{error}");
    }

    /// Ends the service also when the test fails: it would be waited for without end.
    struct SaidAtTheEnd<'a>(&'a Stop);

    impl Drop for SaidAtTheEnd<'_> {
        fn drop(&mut self) {
            self.0.say();
        }
    }

    /// Serves a scan of 20 frames, and takes the card away after the fifth image.
    #[test]
    fn a_service_goes_on_when_its_card_is_lost() {
        let desk = simulated();
        desk.change("serve-2d.toml", "policy = \"newest\"", "policy = \"every\"");
        for (door, port) in [("frames", 5030), ("images", 5031)] {
            desk.change("serve-2d.toml", &format!("tcp:127.0.0.1:{port}"), &format!("unix:{door}.sock"));
        }
        desk.change("serve-2d.toml", "open-igt-link", "# open-igt-link");
        desk.change("serve-2d.toml", "metrics", "# metrics");
        let folder = desk.folder.path();
        let plan: ServePlan = read_plan(&folder.join("serve-2d.toml")).unwrap();
        let wish = DevicePlan { uses: Use::Gpu, allow_software: true, ..DevicePlan::default() };
        let hardware = Hardware::open(&wish).unwrap();
        let stop = Stop::new().unwrap();
        let said = Mutex::new(String::new());
        let (told, ready) = std::sync::mpsc::channel();
        let say = |text: String| said.lock().unwrap().push_str(&(text + "\n"));
        let door = |name: &str| Door::Unix(folder.join(format!("{name}.sock")));
        let served = std::thread::scope(|scope| {
            let _ends = SaidAtTheEnd(&stop);
            let service = scope.spawn({
                let (hardware, plan, stop, say) = (&hardware, &plan, &stop, &say);
                move || serve_on(hardware, plan, folder, stop, say, || told.send(()).unwrap())
            });
            ready.recv().unwrap();
            let mut watcher = Watcher::connect(&door("images"), &stop).unwrap();
            let mut stream = door("frames").connect().unwrap();
            scope.spawn({
                let (path, stop) = (folder.join("scan.mdf"), &stop);
                move || play(&path, &mut stream, Pace::Taken, 1, stop, &drop).unwrap()
            });
            // The scan has ten background frames before and after.
            while let Some(seen) = watcher.image().unwrap() {
                match seen.head.number {
                    15 => hardware.card().unwrap().destroy(),
                    29 => break,
                    _ => {}
                }
            }
            stop.say();
            service.join().unwrap().unwrap()
        });
        let said = said.into_inner().unwrap();
        assert_eq!((served.counts.images, served.counts.failed), (20, 0), "{said}");
        assert!(said.contains("device is ") && said.contains(" 1 shard, "), "{said}");
        assert!(said.contains(" was lost: ") && said.contains("; the processor began again"), "{said}");
    }
}
