//! The GPU, and whether its driver fits the kernel's.

use std::path::Path;

use super::{Check, For};
use crate::gpu::{Graphics, Node, Root, nodes};

const NAME: &str = "GPU";

pub(super) fn check(driver_root: &Path) -> Check {
    match Root::at(driver_root) {
        Ok(root) => judge(&Graphics::of(&root, true), &nodes()),
        Err(error) => Check::lacks(
            For::Recipes,
            NAME,
            format!("`{}`: {error}", driver_root.display()),
            "recipes with `gpu = true` are refused",
            "set `driver-root` in hatchway.toml to where the driver is installed",
        ),
    }
}

fn judge(graphics: &Graphics, nodes: &[Node]) -> Check {
    const SOFTWARE: &str =
        "tools of recipes with `gpu = true` draw with the software renderers of their environment";
    let shown = format!("{} device nodes", nodes.len());
    match &graphics.module {
        Some(module) if !graphics.matches() => Check::lacks(
            For::Recipes,
            NAME,
            format!("NVIDIA's kernel module {module}, and its libraries: {}", graphics.installed()),
            "the two must be of one version: recipes with `gpu = true` are refused",
            format!("restart the machine, or install the driver's libraries of version {module}"),
        ),
        Some(module) if nodes.is_empty() => Check::lacks(
            For::Recipes,
            NAME,
            format!("NVIDIA {module}, module and libraries, and no device nodes"),
            SOFTWARE,
            "`nvidia-modprobe -c 0 -u` makes them",
        )
        .less(),
        Some(module) => Check::works(
            For::Recipes,
            NAME,
            format!(
                "NVIDIA {module}, module and {} libraries of it, {} manifests, {shown}",
                graphics.libraries.len(),
                graphics.manifests.len()
            ),
        ),
        None if !nodes.is_empty() => Check::works(
            For::Recipes,
            NAME,
            format!("{shown} of the kernel's own drivers; Mesa comes from the environment"),
        ),
        None => Check::lacks(
            For::Recipes,
            NAME,
            format!("none (no `/dev/dri`, no module of NVIDIA's; its libraries: {})", graphics.installed()),
            SOFTWARE,
            "load the GPU's kernel module, if there is a GPU",
        )
        .less(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn a_driver_of_another_version_than_the_module_is_told() {
        let graphics = Graphics {
            module: Some("550.54.14".to_owned()),
            installed: ["535.183.01".to_owned()].into(),
            ..Graphics::default()
        };
        let check = judge(&graphics, &[]);
        assert_eq!(check.state, State::Missing);
        assert!(check.found.contains("550.54.14") && check.found.contains("535.183.01"), "{check:?}");
        let none = judge(&Graphics::default(), &[]);
        assert!(none.state == State::Less && none.found.contains("libraries: none"), "{none:?}");
        let node = Node { path: "/dev/dri/renderD128".into(), mode: 0o660, gid: 1 };
        assert_eq!(judge(&Graphics::default(), &[node]).state, State::Works);
    }
}
