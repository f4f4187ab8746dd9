//! What a driver of branch 580 consists of, with the names in its own installer's list.

/// Libraries: name before `.so`, and the version in the SONAME (`""`: the whole version).
pub const LIBRARIES: [(&str, &str); 37] = [
    ("libnvidia-cfg", "1"),
    ("libnvidia-nscq", "2"),
    ("libnvidia-sandboxutils", "1"),
    ("libcudadebugger", "1"),
    ("libnvidia-opencl", "1"),
    ("libnvidia-ptxjitcompiler", "1"),
    ("libnvidia-nvvm", "4"),
    ("libnvidia-allocator", "1"),
    ("libnvidia-compiler", ""),
    ("libnvidia-gpucomp", ""),
    ("libnvidia-pkcs11", ""),
    ("libnvidia-pkcs11-openssl3", ""),
    ("libnvidia-encode", "1"),
    ("libnvidia-opticalflow", "1"),
    ("libnvcuvid", "1"),
    ("libnvidia-vksc-core", "1"),
    ("libnvidia-eglcore", ""),
    ("libnvidia-glcore", ""),
    ("libnvidia-tls", ""),
    ("libnvidia-glsi", ""),
    ("libnvidia-fbc", "1"),
    ("libnvidia-rtcore", ""),
    ("libnvoptix", "1"),
    ("libGLX_nvidia", "0"),
    ("libEGL_nvidia", "0"),
    ("libGLESv2_nvidia", "2"),
    ("libGLESv1_CM_nvidia", "1"),
    ("libnvidia-glvkspirv", ""),
    ("libnvidia-ngx", "1"),
    ("libnvidia-api", "1"),
    ("libnvidia-present", ""),
    ("libnvidia-wayland-client", ""),
    ("libnvidia-gtk3", ""),
    ("libnvidia-tileiras", ""),
    ("libnvidia-nvvm70", "4"),
    ("vdpau/libvdpau_nvidia", "1"),
    ("libnvidia-gtk2", ""),
];

/// Libraries with a version of their own: the SONAME, and the rest of the version.
pub const OWN_VERSION: [(&str, &str); 4] = [
    ("libnvidia-egl-gbm.so.1", "1.2"),
    ("libnvidia-egl-wayland.so.1", "1.19"),
    ("libnvidia-egl-xcb.so.1", "0.2"),
    ("libnvidia-egl-xlib.so.1", "0.2"),
];

/// The 32-bit libraries.
pub const LIBRARIES_32: [(&str, &str); 6] = [
    ("libcuda", "1"),
    ("libnvidia-ml", "1"),
    ("libnvidia-ptxjitcompiler", "1"),
    ("libnvidia-glcore", ""),
    ("libGLX_nvidia", "0"),
    ("libnvidia-encode", "1"),
];

/// Programs that no test runs. They are ELF files, as a real driver's are.
pub const PROGRAMS: [&str; 9] = [
    "nvidia-imex",
    "nvidia-imex-ctl",
    "nvidia-xconfig",
    "nvidia-debugdump",
    "nvidia-persistenced",
    "nvidia-cuda-mps-control",
    "nvidia-cuda-mps-server",
    "nvidia-ngx-updater",
    "nv-fabricmanager",
];

/// Data files.
pub const FILES: [(&str, &str); 10] = [
    ("lib/firmware/nvidia/{version}/gsp_ga10x.bin", "firmware"),
    ("lib/firmware/nvidia/{version}/gsp_tu10x.bin", "firmware"),
    (
        "usr/share/glvnd/egl_vendor.d/10_nvidia.json",
        "{\"file_format_version\":\"1.0.0\",\"ICD\":{\"library_path\":\"libEGL_nvidia.so.0\"}}\n",
    ),
    (
        "usr/share/egl/egl_external_platform.d/15_nvidia_gbm.json",
        "{}\n",
    ),
    (
        "usr/share/vulkan/icd.d/nvidia_icd.json",
        "{\"file_format_version\":\"1.0.1\",\"ICD\":{\"library_path\":\"libGLX_nvidia.so.0\"}}\n",
    ),
    (
        "usr/share/vulkan/implicit_layer.d/nvidia_layers.json",
        "{}\n",
    ),
    ("usr/share/nvidia/nvoptix.bin", "optix"),
    ("etc/OpenCL/vendors/nvidia.icd", "libnvidia-opencl.so.1\n"),
    ("usr/lib/xorg/modules/drivers/nvidia_drv.so", "x"),
    (
        "usr/lib/xorg/modules/extensions/libglxserver_nvidia.so.{version}",
        "x",
    ),
];

/// The major of the GPU nodes. The next two are dynamic on a real host; these numbers are far from those that kernels
/// assign.
pub const MAJOR: u64 = 195;
/// `nvidia-uvm`
pub const UVM_MAJOR: u64 = 389;
/// `nvidia-caps`
pub const CAPS_MAJOR: u64 = 388;
/// The major of features' nodes, made up like the two above.
pub const FEATURE_MAJOR: u64 = 390;
/// The major of `nvidia-caps-imex-channels`, made up too.
pub const IMEX_MAJOR: u64 = 391;
/// DRM (Linux Documentation/admin-guide/devices.txt).
pub const DRM_MAJOR: u64 = 226;
