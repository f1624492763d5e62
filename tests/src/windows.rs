//! Windows programs and installers from real tools: the MinGW-w64 compilers, makensis, wixl.

use std::path::Path;
use std::process::Command;

/// A 64-bit program.
#[must_use]
pub fn program(source: &str, flags: &[&str]) -> Vec<u8> {
    compiled("x86_64-w64-mingw32-gcc", "gcc-mingw-w64-x86-64-win32", source, flags)
}

/// A 32-bit one.
#[must_use]
pub fn program_32(source: &str) -> Vec<u8> {
    compiled("i686-w64-mingw32-gcc", "gcc-mingw-w64-i686-win32", source, &[])
}

/// A program that calls a function of a library, which need not be there: without an argument it only says `begin`.
#[must_use]
pub fn program_calling(library: &str, function: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("it.def"), format!("LIBRARY {library}\nEXPORTS\n{function}\n"))
        .unwrap();
    let mut dlltool = Command::new("x86_64-w64-mingw32-dlltool");
    done(folder.path(), dlltool.args(["-d", "it.def", "-l", "libit.a"]), "binutils-mingw-w64-x86-64");
    let source = format!(
        "#include <stdio.h>\n__declspec(dllimport) int {function}(void);\n\
         int main(int count, char **words) {{ puts(\"begin\"); fflush(stdout); return count > 1 ? {function}() : 0; }}\n"
    );
    let search = format!("-L{}", folder.path().display());
    program(&source, &[&search, "-lit"])
}

fn compiled(compiler: &str, package: &str, source: &str, flags: &[&str]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("source.c"), source).unwrap();
    done(
        folder.path(),
        Command::new(compiler).args(["-O1", "-s", "-o", "out.exe", "source.c"]).args(flags),
        package,
    );
    std::fs::read(folder.path().join("out.exe")).unwrap()
}

/// An installer by NSIS, 64-bit, that puts one program and a value of the registry somewhere.
#[must_use]
pub fn nsis(program: &[u8]) -> Vec<u8> {
    let script = "Unicode true\nTarget amd64-unicode\nName Acme\nOutFile setup.exe\nRequestExecutionLevel admin\n\
                  InstallDir \"$PROGRAMFILES64\\Acme Pump\"\nSection\nSetOutPath $INSTDIR\nFile pump.exe\n\
                  WriteRegStr HKLM Software\\Acme Pump $INSTDIR\nSectionEnd\n";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pump.exe"), program).unwrap();
    std::fs::write(folder.path().join("setup.nsi"), script).unwrap();
    done(folder.path(), Command::new("makensis").args(["-V1", "setup.nsi"]), "nsis");
    std::fs::read(folder.path().join("setup.exe")).unwrap()
}

/// A Windows installer database that does the same.
#[must_use]
pub fn msi(program: &[u8]) -> Vec<u8> {
    let source = r#"<?xml version="1.0"?>
<Wix xmlns="http://schemas.microsoft.com/wix/2006/wi">
<Product Id="12345678-1234-1234-1234-123456789012" UpgradeCode="12345678-1234-1234-1234-111111111111" Name="Acme"
 Version="1.0.0" Manufacturer="Acme Ltd" Language="1033">
<Package InstallerVersion="200" Compressed="yes"/>
<Media Id="1" Cabinet="a.cab" EmbedCab="yes"/>
<Directory Id="TARGETDIR" Name="SourceDir"><Directory Id="ProgramFiles64Folder">
<Directory Id="INSTALLDIR" Name="Acme Gauge">
<Component Id="Main" Guid="12345678-1234-1234-1234-222222222222" Win64="yes">
<File Id="exe" Name="gauge.exe" Source="gauge.exe" DiskId="1" KeyPath="yes"/>
<RegistryKey Root="HKLM" Key="Software\Acme"><RegistryValue Type="string" Name="Gauge" Value="[INSTALLDIR]"/></RegistryKey>
</Component></Directory></Directory></Directory>
<Feature Id="All" Level="1"><ComponentRef Id="Main"/></Feature>
</Product></Wix>"#;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("gauge.exe"), program).unwrap();
    std::fs::write(folder.path().join("acme.wxs"), source).unwrap();
    done(folder.path(), Command::new("wixl").args(["-a", "x64", "-o", "acme.msi", "acme.wxs"]), "wixl");
    std::fs::read(folder.path().join("acme.msi")).unwrap()
}

fn done(folder: &Path, command: &mut Command, package: &str) {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.current_dir(folder).output();
    let output = output.unwrap_or_else(|_| panic!("{name} is missing: install the package `{package}`"));
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
}
