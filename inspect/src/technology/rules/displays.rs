//! Toolkits, displays and GPUs.

use super::Sign::{File, FileLike, Import, Interpreter, Library, LibraryPrefix, Mark, Path};
use super::{Rule, S, W, rule};
use crate::TechnologyKind::{Gpu, Gui};

/// Toolkits and display systems: the sonames of their own libraries.
pub(super) const GUIS: &[Rule] = &[
    rule(Gui, "Qt 4", &[(Library("libQtGui.so.4"), S), (Import("qtgui4"), S)]),
    rule(
        Gui,
        "Qt 5",
        &[
            (Library("libQt5Gui"), S),
            (Library("libQt5Widgets"), S),
            (LibraryPrefix("libQt5Quick"), S),
            (Library("libQt5WebEngineCore"), S),
            (FileLike("libqt5gui", ""), S),
            (Import("qt5gui"), S),
        ],
    ),
    rule(
        Gui,
        "Qt 6",
        &[
            (Library("libQt6Gui"), S),
            (Library("libQt6Widgets"), S),
            (LibraryPrefix("libQt6Quick"), S),
            (Library("libQt6WebEngineCore"), S),
            (FileLike("libqt6gui", ""), S),
            (Import("qt6gui"), S),
        ],
    ),
    rule(Gui, "GTK 2", &[(Library("libgtk-x11-2.0"), S), (Import("libgtk-win32-2.0"), S)]),
    rule(Gui, "GTK 3", &[(Library("libgtk-3"), S), (Import("libgtk-3"), S)]),
    rule(Gui, "GTK 4", &[(Library("libgtk-4"), S), (Import("libgtk-4"), S)]),
    rule(
        Gui,
        "wxWidgets",
        &[(LibraryPrefix("libwx_gtk"), S), (LibraryPrefix("libwx_base"), W), (Import("wxmsw"), S)],
    ),
    rule(Gui, "FLTK", &[(LibraryPrefix("libfltk"), S), (Mark("FLTK_"), W)]),
    rule(
        Gui,
        "Tk",
        &[
            (LibraryPrefix("libtk8"), S),
            (LibraryPrefix("libtcl9tk"), S),
            (Interpreter("wish"), S),
            (Import("tk8"), S),
        ],
    ),
    rule(Gui, "Motif", &[(Library("libXm"), S), (Library("libMrm"), S)]),
    rule(
        Gui,
        "X11",
        &[(Library("libX11"), S), (Library("libxcb"), S), (Library("libXt"), S), (Path("/tmp/.X11-unix"), S)],
    ),
    rule(Gui, "Wayland", &[(Library("libwayland-client"), S), (Library("libwayland-egl"), S)]),
    rule(
        Gui,
        "Electron",
        &[
            (File("chrome_100_percent.pak"), W),
            (File("app.asar"), S),
            (File("v8_context_snapshot.bin"), W),
            (File("chrome-sandbox"), W),
            (Mark("ELECTRON_RUN_AS_NODE"), S),
        ],
    ),
    rule(
        Gui,
        "Chromium Embedded Framework",
        &[(Library("libcef"), S), (FileLike("libcef", ""), S), (Import("libcef"), S)],
    ),
    rule(Gui, "Swing", &[(FileLike("libawt_xawt", ".so"), S), (File("libfontmanager.so"), W)]),
    rule(
        Gui,
        "JavaFX",
        &[
            (FileLike("libglass", ".so"), W),
            (FileLike("javafx", ".jar"), S),
            (FileLike("libprism_", ".so"), W),
        ],
    ),
    rule(Gui, "VTK", &[(LibraryPrefix("libvtk"), S), (Import("vtk"), S)]),
    rule(Gui, "OpenCV highgui", &[(LibraryPrefix("libopencv_highgui"), S), (Import("opencv_highgui"), S)]),
    rule(
        Gui,
        "SDL",
        &[
            (LibraryPrefix("libSDL2"), S),
            (LibraryPrefix("libSDL-1.2"), S),
            (LibraryPrefix("libSDL3"), S),
            (Import("sdl2"), S),
        ],
    ),
    rule(Gui, "GLFW", &[(Library("libglfw"), S), (Import("glfw3"), S)]),
    rule(Gui, "WebKitGTK", &[(LibraryPrefix("libwebkit2gtk"), S), (LibraryPrefix("libwebkitgtk"), S)]),
    rule(Gui, "Windows Forms", &[(File("System.Windows.Forms.dll"), S)]),
    rule(
        Gui,
        "MFC",
        &[
            (Import("mfc1"), S),
            (Import("mfc4"), S),
            (Import("mfc7"), S),
            (Import("mfc8"), S),
            (Import("mfc9"), S),
        ],
    ),
];

/// Computing and drawing on a GPU: the loaders and vendor libraries.
pub(super) const GPUS: &[Rule] = &[
    rule(
        Gpu,
        "CUDA",
        &[
            (Library("libcuda"), S),
            (LibraryPrefix("libcudart"), S),
            (LibraryPrefix("libcublas"), S),
            (Library("libcufft"), S),
            (LibraryPrefix("libcudnn"), S),
            (Library("libcusolver"), S),
            (Library("libcusparse"), S),
            (Library("libcurand"), S),
            (Library("libnvrtc"), S),
            (Library("libnvJitLink"), S),
            (Import("nvcuda"), S),
            (Import("cudart"), S),
            (Mark("__cudaRegisterFatBinary"), S),
            (Mark("CUDA_VISIBLE_DEVICES"), W),
            (Mark("cudaGetErrorString"), W),
            (File("ptxas"), S),
        ],
    ),
    rule(
        Gpu,
        "OpenCL",
        &[
            (Library("libOpenCL"), S),
            (Import("opencl"), S),
            (Path("/etc/OpenCL/vendors"), S),
            (Mark("clGetPlatformIDs"), W),
            (Mark("OPENCL_VENDOR_PATH"), W),
        ],
    ),
    rule(Gpu, "Vulkan", &[(Library("libvulkan"), S), (Import("vulkan-1"), S)]),
    rule(
        Gpu,
        "OpenGL",
        &[
            (Library("libGL"), S),
            (Library("libEGL"), S),
            (Library("libGLX"), S),
            (Library("libOpenGL"), S),
            (Library("libGLESv2"), S),
            (Library("libOSMesa"), S),
            (Import("opengl32"), S),
        ],
    ),
    rule(
        Gpu,
        "ROCm",
        &[
            (Library("libamdhip64"), S),
            (Library("libhsa-runtime64"), S),
            (Library("librocblas"), S),
            (Path("/dev/kfd"), S),
            (Path("/opt/rocm"), W),
        ],
    ),
    rule(
        Gpu,
        "Level Zero",
        &[(Library("libze_loader"), S), (Library("libze_intel_gpu"), S), (Import("ze_loader"), S)],
    ),
    rule(Gpu, "NVML", &[(Library("libnvidia-ml"), S), (Import("nvml"), S)]),
    rule(
        Gpu,
        "NVENC",
        &[(Library("libnvidia-encode"), S), (Library("libnvcuvid"), S), (Import("nvencodeapi"), S)],
    ),
    rule(Gpu, "VA-API", &[(Library("libva"), S), (Library("libva-drm"), S)]),
    rule(Gpu, "VDPAU", &[(Library("libvdpau"), S)]),
    rule(Gpu, "Direct3D", &[(Import("d3d9"), S), (Import("d3d11"), S), (Import("d3d12"), S)]),
];
