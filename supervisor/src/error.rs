//! The one error type of the program. `Display` never repeats its source; `report` prints the chain and the hints.

use std::path::PathBuf;

use crate::recipe::Diagnostic;

/// What can go wrong in a command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A recipe is wrong; the text has file, line, column and caret.
    #[error("{0}")]
    Recipe(Diagnostic),
    /// The configuration is wrong.
    #[error("{0}")]
    Config(Diagnostic),
    /// No recipe of that name.
    #[error("there is no recipe `{name}`")]
    NoRecipe {
        /// The name.
        name: String,
        /// Where it was looked for.
        tried: Vec<PathBuf>,
    },
    /// A recipe of that name is there already.
    #[error("`{}` is there already", .0.display())]
    RecipeExists(PathBuf),
    /// A recipe asks for what this version does not carry out.
    #[error("the recipe `{name}` asks for what this version of Hatchway does not carry out: {}", what.join(", "))]
    Unsupported {
        /// The recipe.
        name: String,
        /// Its keys.
        what: Vec<String>,
    },
    /// An artifact needs a rung on which it runs only when a person has said how.
    #[error("`{name}` needs the {rung} rung, and its recipe does not ask for it")]
    Rung {
        /// The tool.
        name: String,
        /// The rung.
        rung: String,
        /// Why it was chosen.
        reasons: Vec<String>,
        /// What the recipe would have to say.
        ways: Vec<String>,
    },
    /// A vendor's file is neither in the store nor beside the recipe.
    #[error("the artifact `{file}` is not in the store")]
    NoArtifact {
        /// Its name.
        file: String,
        /// The recipe's folder.
        folder: PathBuf,
    },
    /// A shipped recipe's artifact that nobody has supplied yet.
    #[error("the recipe `{name}` leaves it to you which file `{file}` is")]
    Placeholder {
        /// The file's name, of some version.
        file: String,
        /// The recipe.
        name: String,
    },
    /// A patch that is not beside the recipe.
    #[error("the patch `{file}` is not beside the recipe")]
    NoPatch {
        /// Its name.
        file: String,
        /// The recipe's folder.
        folder: PathBuf,
    },
    /// A base without an index of packages lacks libraries.
    #[error("the base {base} lacks what the artifacts need:\n{}", missing.join("\n"))]
    Missing {
        /// `none`, or which image.
        base: String,
        /// One line for each library.
        missing: Vec<String>,
    },
    /// The lock is of an older recipe.
    #[error("the lock of `{0}` does not fit its recipe any more")]
    StaleLock(String),
    /// A recipe that others than root may change.
    #[error("`{}` may be changed by others than root, and root does not run such a recipe", .0.display())]
    ForeignRecipe(PathBuf),
    /// The daemon has not done it.
    #[error("{message}")]
    Problem {
        /// Why.
        message: String,
        /// For programs.
        code: crate::daemon::problem::Code,
        /// What to do.
        hints: Vec<String>,
    },
    /// No lock.
    #[error("`{0}` has no lock")]
    NoLock(String),
    /// A program for another processor.
    #[error("`{program}` is a program for {machine}, which this version of Hatchway does not run")]
    Machine {
        /// Its path in the artifact.
        program: String,
        /// `i386`, `aarch64` …
        machine: String,
    },
    /// A program for an architecture that the recipe does not name.
    #[error("`{program}` is for {architecture}, which the recipe does not name")]
    Architecture {
        /// Its path in the artifact, or the package.
        program: String,
        /// `i386`
        architecture: String,
    },
    /// `run --suite` and the like on a recipe that has its lock.
    #[error("`{option}` is for a vendor's file; `{name}` is a recipe, and its lock is the choice")]
    Locked {
        /// The option.
        option: &'static str,
        /// The recipe.
        name: String,
    },
    /// `run FILE` would replace the recipe of another file that calls itself the same.
    #[error("`{}` is there already, for another file", path.display())]
    OtherFile {
        /// The recipe.
        path: PathBuf,
        /// Its name.
        name: String,
    },
    /// A `debian:` name that is not one.
    #[error(
        "`{0}` does not name a package of Debian's archive: `debian:<suite>/<component>/<package>[:i386]`"
    )]
    BadSpec(String),
    /// Neither a file, nor a recipe, nor a package of the archive.
    #[error("`{0}` is neither a file nor a recipe")]
    Nothing(String),
    /// Several programs and no way to tell which is meant.
    #[error("`{name}` has several programs: {}", programs.join(", "))]
    WhichProgram {
        /// The tool.
        name: String,
        /// Their paths.
        programs: Vec<String>,
    },
    /// Nothing that can be started.
    #[error("`{0}` has no program to run")]
    NoProgram(String),
    /// A wheel that no Python is given for.
    #[error("`{0}` is a wheel, and the recipe has no Python to install it for")]
    WheelWithoutPython(String),
    /// An installer with a licence that the recipe does not accept.
    #[error("the installer `{file}` has a licence to accept: {evidence}")]
    Licence {
        /// The artifact.
        file: String,
        /// By what it is known.
        evidence: String,
        /// The recipe.
        recipe: PathBuf,
    },
    /// What an installer writes and what it is given change each other without an end.
    #[error(
        "what the installers of `{0}` write changes the packages that are chosen, and these what they write"
    )]
    Unsettled(String),
    /// `lock --upgrade RECIPE`.
    #[error("`--upgrade` takes what follows it for packages: the recipe comes before it")]
    RecipeFirst {
        /// The word that is a recipe's name.
        recipe: Option<String>,
        /// The others.
        packages: Vec<String>,
    },
    /// A wrong value of an option.
    #[error("{0}")]
    Usage(String),
    /// The shim is not where it should be.
    #[error("the program `hatchway-shim` is missing beside `{}`", .0.display())]
    NoShim(PathBuf),
    /// Inspection failed.
    #[error(transparent)]
    Inspect(#[from] hatchway_inspect::Error),
    /// Locking, building or the store failed.
    #[error(transparent)]
    Envs(#[from] hatchway_envs::Error),
    /// An engine of containers did something that nobody expects.
    #[error("the container engine: {0}")]
    Engine(String),
    /// A guest did something that nobody expects.
    #[error("the guest: {0}")]
    Guest(String),
    /// A lock without a kernel.
    #[error("the lock of `{name}` has no kernel for a guest")]
    NoGuestKernel {
        /// The recipe.
        name: String,
        /// What it stands on.
        base: String,
    },
    /// A guest cannot be made.
    #[error(transparent)]
    Vm(#[from] hatchway_vm::Error),
    /// An image cannot be written, or an engine does not take it.
    #[error(transparent)]
    Images(#[from] hatchway_images::Error),
    /// The sandbox cannot be made.
    #[error(transparent)]
    Sandbox(#[from] hatchway_envs::sandbox::Error),
    /// Nothing of it runs that one could come to.
    #[error("`{unit}` does not run")]
    NotRunning {
        /// The unit.
        unit: String,
    },
    /// It has pipes.
    #[error("`{unit}` has no terminal")]
    NoTerminal {
        /// The unit.
        unit: String,
    },
    /// One at a time writes to a terminal.
    #[error("{by} writes to the terminal of `{unit}`")]
    Occupied {
        /// The unit.
        unit: String,
        /// Who.
        by: String,
    },
    /// This host does not allow a sandbox.
    #[error("{message}")]
    Host {
        /// What is missing.
        message: String,
        /// The setting.
        hints: Vec<String>,
    },
}

impl Error {
    /// What was tried and all that it failed for, in a line.
    #[must_use]
    pub fn whole(&self) -> String {
        use std::error::Error as _;
        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        text
    }

    /// The next command or the setting that helps.
    #[must_use]
    pub fn hints(&self) -> Vec<String> {
        let hint = match self {
            Self::NoRecipe { name, tried } => {
                let places: Vec<String> = tried.iter().map(|p| p.display().to_string()).collect();
                return vec![
                    format!("looked in: {}", places.join(", ")),
                    format!("make one with `hatchway new FILE --name {name}`"),
                ];
            }
            Self::Unsupported { .. } => {
                "take those keys out of the recipe; CHANGELOG.md says what is there".into()
            }
            Self::Rung { reasons, rung, ways, .. } => return rung_hints(reasons, rung, ways),
            Self::NoArtifact { file, folder } => {
                format!("put `{file}` into `{}` and run the command again", folder.display())
            }
            Self::Placeholder { .. }
            | Self::RecipeExists(_)
            | Self::NoPatch { .. }
            | Self::Missing { .. }
            | Self::BadSpec(_)
            | Self::Nothing(_)
            | Self::WheelWithoutPython(_) => self.input_hint(),
            Self::StaleLock(name) | Self::NoLock(name) => format!("run `hatchway lock {name}`"),
            Self::Machine { .. } => "look for the vendor's file for x86-64 (amd64) or i386".into(),
            Self::Architecture { architecture, .. } => {
                format!("set `architectures = [\"amd64\", \"{architecture}\"]` in [environment]")
            }
            Self::Locked { option, name } if *option == "--suite" => {
                format!("run `hatchway lock {name} --suite …`")
            }
            Self::Locked { name, .. } => format!("run `hatchway lock {name}` to choose anew"),
            Self::OtherFile { path, name } => {
                return vec![
                    format!("give this file's recipe another name: `--name {name}-2`"),
                    format!("or remove `{}`; the new file then gets that tool's state", path.display()),
                ];
            }
            Self::ForeignRecipe(path) => format!(
                "as its owner run hatchway without root, or `chown root {0}` and `chmod go-w {0}`",
                path.display()
            ),
            Self::WhichProgram { programs, .. } => {
                format!("choose one: `--program {}`", programs.first().map_or("PATH", String::as_str))
            }
            Self::NoProgram(name) => {
                format!("name one with `--program PATH`, or look with `hatchway shell {name}`")
            }
            Self::Licence { recipe, .. } => return licence_hints(recipe),
            Self::Unsettled(_) => {
                "name the packages that its programs need: `packages` in [environment]".into()
            }
            Self::RecipeFirst { recipe, packages } => {
                let words = [recipe.as_deref().unwrap_or("RECIPE"), "--upgrade"];
                let words = words.into_iter().chain(packages.iter().map(String::as_str));
                format!("run `hatchway lock {}`", words.collect::<Vec<_>>().join(" "))
            }
            Self::NoGuestKernel { name, base } => kernel_hint(name, base),
            Self::NoShim(_) => "build and install both with `cargo xtask build`".into(),
            _ => return self.part_hints(),
        };
        vec![hint]
    }

    /// What the part says that the error comes from.
    fn part_hints(&self) -> Vec<String> {
        match self {
            Self::Inspect(source) | Self::Envs(hatchway_envs::Error::Archive(source)) => {
                archive_hint(source).map(str::to_owned).into_iter().collect()
            }
            Self::Envs(error) => error.hints(),
            Self::Images(error) => error.hints(),
            Self::Vm(error) => error.hint().into_iter().collect(),
            Self::Sandbox(error) => error.hint().map(|h| vec![h]).unwrap_or_default(),
            Self::Host { hints, .. } | Self::Problem { hints, .. } => hints.clone(),
            _ => self.terminal_hints(),
        }
    }

    /// What to do where one cannot come to a unit's terminal.
    fn terminal_hints(&self) -> Vec<String> {
        match self {
            Self::NotRunning { unit } => {
                vec![format!("`hatchway why {unit}` says why, `hatchway logs {unit}` what it said")]
            }
            Self::NoTerminal { unit } => vec![
                format!("`hatchway logs {unit} -f` follows what it says"),
                "`terminal = true` in [service] of its recipe gives it one at its next start".to_owned(),
            ],
            Self::Occupied { .. } => {
                vec!["`--read-only` only watches; `--take` takes it over, and tells them".to_owned()]
            }
            _ => Vec::new(),
        }
    }

    /// What to do about an input that is not there.
    fn input_hint(&self) -> String {
        match self {
            Self::Placeholder { name, .. } => {
                format!("get it from its maker, compare its checksum with theirs, then `hatchway recipe adopt {name} FILE`")
            }
            Self::NoPatch { file, folder } => {
                format!("put `{file}` into `{}`, or take its line out of [environment.patch]", folder.display())
            }
            Self::RecipeExists(_) => {
                "give the new one another name with `--name NAME`, or `--force` to replace it".into()
            }
            Self::Missing { .. } => "bring them with another [[artifact]], or take a base that has them; a library that only an unused \
                                     part wants is left out with exclude = [\"libNAME.so.1\"] in [environment]"
                .into(),
            Self::WheelWithoutPython(_) => {
                "say which in [environment]: python = { version = \"3.11\" }; or unpack it as an archive: unpack = \"/opt/…\""
                    .into()
            }
            Self::BadSpec(_) => "for example `debian:trixie/non-free/rar`".into(),
            Self::Nothing(_) => "give a vendor's file, or the name of a recipe in `recipes/`".into(),
            _ => String::new(),
        }
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

/// Why it needs that rung, and what can be done without it.
fn rung_hints(reasons: &[String], rung: &str, ways: &[String]) -> Vec<String> {
    let all_the_same = match rung {
        "vm" => {
            "`rung = \"fhs\"` in [run] of the recipe runs it all the same, where this machine's kernel has what it needs"
        }
        _ => "`rung = \"fhs\"` in [run] of the recipe runs it all the same, without what that rung would add",
    };
    reasons.iter().chain(ways).cloned().chain([all_the_same.to_owned()]).collect()
}

fn kernel_hint(name: &str, base: &str) -> String {
    if base.starts_with("debian:") {
        format!("run `hatchway lock {name}`: locks name a kernel since this version, where the suite has one")
    } else {
        "only a base of Debian has kernels: `base = \"debian:bookworm\"` in [environment], or another rung"
            .into()
    }
}

fn licence_hints(recipe: &std::path::Path) -> Vec<String> {
    vec![
        "read the licence; `hatchway inspect` shows where it is".into(),
        format!(
            "if you accept it, set `accept-licence = true` at `install` in {}; its questions are then answered with `y`",
            recipe.display()
        ),
    ]
}

fn archive_hint(error: &hatchway_inspect::Error) -> Option<&'static str> {
    use hatchway_inspect::Error as Inspect;
    match error {
        Inspect::Truncated { .. } | Inspect::Corrupt { .. } | Inspect::Control { .. } => {
            Some("fetch the file again, and compare its size and checksum with what the vendor says")
        }
        Inspect::Hostile { .. } => {
            Some("nothing was unpacked; no honest packaging tool writes this: ask the vendor")
        }
        Inspect::Limit { .. } => Some(
            "nothing was unpacked; if the vendor's file is really that large, unpack it by hand and pack the part you need",
        ),
        Inspect::Unsupported { .. } => {
            Some("unpack it with the vendor's tool and give the folder's tar to `hatchway new`")
        }
        _ => None,
    }
}
