//! Every call into the driver: libraries are opened and functions looked up by name, with the signatures of the C
//! headers of CUDA, Vulkan and EGL. All unsafe code of the probe is here.
//!
//! Longer than 400 lines, since all unsafe code of the probe is in this one place.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::mem::transmute;
use std::ptr::{null, null_mut};

/// An open library. It is never closed: drivers leave threads behind.
#[derive(Clone, Copy)]
pub(crate) struct Library(*mut c_void);

impl Library {
    /// Opens a library by its SONAME, as any program would.
    pub(crate) fn open(name: &CStr) -> Result<Self, String> {
        // SAFETY: a C string; the library's constructors are what every program that loads it runs.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) };
        if !handle.is_null() {
            return Ok(Self(handle));
        }
        // SAFETY: dlerror gives null or a string that lives until the next call of the dl functions.
        let message = unsafe { libc::dlerror() };
        if message.is_null() {
            return Err("dlopen failed without a message".to_owned());
        }
        // SAFETY: as above; it is copied at once.
        let message = unsafe { CStr::from_ptr(message) };
        Err(message.to_string_lossy().into_owned())
    }

    fn symbol(self, name: &str) -> Result<*mut c_void, String> {
        let c_name = CString::new(name).map_err(|e| e.to_string())?;
        // SAFETY: a handle of dlopen that was never closed, and a C string.
        let address = unsafe { libc::dlsym(self.0, c_name.as_ptr()) };
        if address.is_null() {
            return Err(format!("the library has no {name}"));
        }
        Ok(address)
    }
}

/// Declares a table of functions of one library, with a field for each under the function's own name.
macro_rules! functions {
    ($table:ident: $($symbol:ident($($argument:ty),*) -> $result:ty;)*) => {
        #[allow(non_snake_case, reason = "the libraries' own names")]
        pub(crate) struct $table { $($symbol: unsafe extern "C" fn($($argument),*) -> $result,)* }

        impl $table {
            pub(crate) fn load(library: Library) -> Result<Self, String> {
                Ok(Self {$(
                    // SAFETY: a function's address, not null; the signature is that of the header.
                    $symbol: unsafe {
                        transmute::<*mut c_void, unsafe extern "C" fn($($argument),*) -> $result>(
                            library.symbol(stringify!($symbol))?,
                        )
                    },
                )*})
            }
        }
    };
}

/// An address in a device's memory.
type Address = u64;

functions! { CudaLibrary:
    cuInit(c_uint) -> c_int;
    cuDriverGetVersion(*mut c_int) -> c_int;
    cuDeviceGetCount(*mut c_int) -> c_int;
    cuDeviceGet(*mut c_int, c_int) -> c_int;
    cuDeviceGetName(*mut c_char, c_int, c_int) -> c_int;
    cuDeviceGetUuid_v2(*mut [u8; 16], c_int) -> c_int;
    cuCtxCreate_v2(*mut *mut c_void, c_uint, c_int) -> c_int;
    cuCtxDestroy_v2(*mut c_void) -> c_int;
    cuModuleLoadData(*mut *mut c_void, *const c_void) -> c_int;
    cuModuleGetFunction(*mut *mut c_void, *mut c_void, *const c_char) -> c_int;
    cuMemAlloc_v2(*mut Address, usize) -> c_int;
    cuMemFree_v2(Address) -> c_int;
    cuMemcpyHtoD_v2(Address, *const c_void, usize) -> c_int;
    cuMemcpyDtoH_v2(*mut c_void, Address, usize) -> c_int;
    cuLaunchKernel(*mut c_void, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, *mut c_void, *mut *mut c_void,
        *mut *mut c_void) -> c_int;
    cuCtxSynchronize() -> c_int;
}

/// A call that failed: its name and the library's error number.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CudaError {
    pub(crate) call: &'static str,
    pub(crate) code: c_int,
}

fn ensure_success(call: &'static str, code: c_int) -> Result<(), CudaError> {
    if code == 0 {
        Ok(())
    } else {
        Err(CudaError { call, code })
    }
}

/// Memory of a device. It is freed with its context.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    address: Address,
    elements: usize,
}

/// A context, and the kernel of a module loaded in it. The context is destroyed when this is dropped.
pub(crate) struct Kernel<'a> {
    cuda: &'a CudaLibrary,
    context: *mut c_void,
    function: *mut c_void,
}

impl CudaLibrary {
    pub(crate) fn init(&self) -> Result<(), CudaError> {
        // SAFETY: flags have to be 0.
        ensure_success("cuInit", unsafe { (self.cuInit)(0) })
    }

    pub(crate) fn version(&self) -> Result<i32, CudaError> {
        let mut version = 0;
        // SAFETY: a place for an int.
        ensure_success("cuDriverGetVersion", unsafe {
            (self.cuDriverGetVersion)(&raw mut version)
        })?;
        Ok(version)
    }

    pub(crate) fn count(&self) -> Result<i32, CudaError> {
        let mut count = 0;
        // SAFETY: a place for an int.
        ensure_success("cuDeviceGetCount", unsafe {
            (self.cuDeviceGetCount)(&raw mut count)
        })?;
        Ok(count)
    }

    pub(crate) fn device(&self, ordinal: i32) -> Result<i32, CudaError> {
        let mut device = 0;
        // SAFETY: a place for an int.
        ensure_success("cuDeviceGet", unsafe {
            (self.cuDeviceGet)(&raw mut device, ordinal)
        })?;
        Ok(device)
    }

    pub(crate) fn name(&self, device: i32) -> Result<String, CudaError> {
        let mut name = [0_u8; 256];
        // SAFETY: the buffer has 256 bytes and the call is given 255, so the last byte stays 0.
        let code = unsafe { (self.cuDeviceGetName)(name.as_mut_ptr().cast(), 255, device) };
        ensure_success("cuDeviceGetName", code)?;
        Ok(text(&name))
    }

    pub(crate) fn uuid(&self, device: i32) -> Result<[u8; 16], CudaError> {
        let mut uuid = [0; 16];
        // SAFETY: a CUuuid is 16 bytes.
        ensure_success("cuDeviceGetUuid", unsafe {
            (self.cuDeviceGetUuid_v2)(&raw mut uuid, device)
        })?;
        Ok(uuid)
    }

    /// Makes a context on the device, loads the PTX and looks up the function.
    pub(crate) fn kernel(
        &self,
        device: i32,
        ptx: &CStr,
        name: &CStr,
    ) -> Result<Kernel<'_>, CudaError> {
        let mut kernel = Kernel {
            cuda: self,
            context: null_mut(),
            function: null_mut(),
        };
        // SAFETY: a place for a handle.
        let code = unsafe { (self.cuCtxCreate_v2)(&raw mut kernel.context, 0, device) };
        ensure_success("cuCtxCreate", code)?;
        let mut module = null_mut();
        // SAFETY: a place for a handle, and PTX that ends in NUL.
        let code = unsafe { (self.cuModuleLoadData)(&raw mut module, ptx.as_ptr().cast()) };
        ensure_success("cuModuleLoadData", code)?;
        // SAFETY: a place for a handle, the module of above, a C string.
        let code =
            unsafe { (self.cuModuleGetFunction)(&raw mut kernel.function, module, name.as_ptr()) };
        ensure_success("cuModuleGetFunction", code)?;
        Ok(kernel)
    }
}

impl Kernel<'_> {
    /// Copies the numbers to the device.
    pub(crate) fn upload(&self, numbers: &[u32]) -> Result<Memory, CudaError> {
        let mut memory = Memory {
            address: 0,
            elements: numbers.len(),
        };
        // SAFETY: a place for an address.
        let code =
            unsafe { (self.cuda.cuMemAlloc_v2)(&raw mut memory.address, size_of_val(numbers)) };
        ensure_success("cuMemAlloc", code)?;
        // SAFETY: both sides have that many bytes.
        let code = unsafe {
            (self.cuda.cuMemcpyHtoD_v2)(
                memory.address,
                numbers.as_ptr().cast(),
                size_of_val(numbers),
            )
        };
        ensure_success("cuMemcpyHtoD", code)?;
        Ok(memory)
    }

    pub(crate) fn download(&self, memory: Memory) -> Result<Vec<u32>, CudaError> {
        let mut numbers = vec![0_u32; memory.elements];
        let bytes = size_of_val(numbers.as_slice());
        // SAFETY: both sides have that many bytes.
        let code = unsafe {
            (self.cuda.cuMemcpyDtoH_v2)(numbers.as_mut_ptr().cast(), memory.address, bytes)
        };
        ensure_success("cuMemcpyDtoH", code)?;
        Ok(numbers)
    }

    pub(crate) fn free(&self, memory: Memory) -> Result<(), CudaError> {
        // SAFETY: an address that cuMemAlloc gave and that is not used again.
        ensure_success("cuMemFree", unsafe {
            (self.cuda.cuMemFree_v2)(memory.address)
        })
    }

    /// Starts the kernel with three vectors and their length, and waits until it ends.
    pub(crate) fn launch(&self, [a, b, sum]: [Memory; 3], length: u32) -> Result<(), CudaError> {
        const BLOCK: u32 = 256;
        let mut addresses = [a.address, b.address, sum.address];
        let mut length = length;
        let [first, second, third] = addresses.each_mut().map(|a| (&raw mut *a).cast::<c_void>());
        let mut arguments = [first, second, third, (&raw mut length).cast()];
        // SAFETY: the kernel takes three addresses and a u32, which `arguments` point to; no shared memory, no
        // stream.
        let code = unsafe {
            (self.cuda.cuLaunchKernel)(
                self.function,
                length.div_ceil(BLOCK),
                1,
                1,
                BLOCK,
                1,
                1,
                0,
                null_mut(),
                arguments.as_mut_ptr(),
                null_mut(),
            )
        };
        ensure_success("cuLaunchKernel", code)?;
        // SAFETY: no arguments.
        ensure_success("cuCtxSynchronize", unsafe {
            (self.cuda.cuCtxSynchronize)()
        })
    }
}

impl Drop for Kernel<'_> {
    fn drop(&mut self) {
        if !self.context.is_null() {
            // SAFETY: a context that was made here and is not used again. An error of this call changes nothing.
            let _ = unsafe { (self.cuda.cuCtxDestroy_v2)(self.context) };
        }
    }
}

functions! { VulkanLibrary:
    vkCreateInstance(*const InstanceInfo, *const c_void, *mut *mut c_void) -> c_int;
    vkEnumeratePhysicalDevices(*mut c_void, *mut u32, *mut *mut c_void) -> c_int;
    vkGetPhysicalDeviceProperties(*mut c_void, *mut Properties) -> ();
}

/// `VkInstanceCreateInfo`.
#[repr(C)]
pub(crate) struct InstanceInfo {
    kind: c_int,
    next: *const c_void,
    flags: u32,
    application: *const c_void,
    layers: u32,
    layer_names: *const *const c_char,
    extensions: u32,
    extension_names: *const *const c_char,
}

/// The beginning of `VkPhysicalDeviceProperties`, which has 824 bytes, and room for all of it.
#[repr(C, align(8))]
pub(crate) struct Properties {
    api: u32,
    driver: u32,
    vendor: u32,
    device: u32,
    kind: u32,
    name: [u8; 256],
    rest: [u8; 2048],
}

impl VulkanLibrary {
    /// PCI vendor and name of each device. The instance is not destroyed, since the process ends soon.
    pub(crate) fn devices(&self) -> Result<Vec<(u32, String)>, String> {
        let info = InstanceInfo {
            kind: 1,
            next: null(),
            flags: 0,
            application: null(),
            layers: 0,
            layer_names: null(),
            extensions: 0,
            extension_names: null(),
        };
        let mut instance = null_mut();
        // SAFETY: a structure of kind VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO and a place for a handle.
        let code = unsafe { (self.vkCreateInstance)(&raw const info, null(), &raw mut instance) };
        if code == -9 {
            // VK_ERROR_INCOMPATIBLE_DRIVER: the loader found no driver that works.
            return Ok(Vec::new());
        }
        if code != 0 {
            return Err(format!("vkCreateInstance: {code}"));
        }
        let mut handles = [null_mut(); 64];
        let mut count = 64;
        // SAFETY: there is room for 64 handles, which is what `count` says.
        let code = unsafe {
            (self.vkEnumeratePhysicalDevices)(instance, &raw mut count, handles.as_mut_ptr())
        };
        // 5 is VK_INCOMPLETE: there are more than 64.
        if code != 0 && code != 5 {
            return Err(format!("vkEnumeratePhysicalDevices: {code}"));
        }
        let devices = handles.iter().take(usize::try_from(count).unwrap_or(0));
        Ok(devices
            .map(|device| {
                let mut properties = Properties {
                    api: 0,
                    driver: 0,
                    vendor: 0,
                    device: 0,
                    kind: 0,
                    name: [0; 256],
                    rest: [0; 2048],
                };
                // SAFETY: a device of that instance, and a buffer larger than the structure.
                unsafe { (self.vkGetPhysicalDeviceProperties)(*device, &raw mut properties) };
                (properties.vendor, text(&properties.name))
            })
            .collect())
    }
}

functions! { EglLibrary: eglGetProcAddress(*const c_char) -> *mut c_void; }

type QueryDevices = unsafe extern "C" fn(c_int, *mut *mut c_void, *mut c_int) -> c_uint;
type QueryDeviceString = unsafe extern "C" fn(*mut c_void, c_int) -> *const c_char;
const EGL_EXTENSIONS: c_int = 0x3055;

impl EglLibrary {
    fn extension(&self, name: &CStr) -> Result<*mut c_void, String> {
        // SAFETY: a C string.
        let address = unsafe { (self.eglGetProcAddress)(name.as_ptr()) };
        if address.is_null() {
            return Err(format!("EGL has no {}", name.to_string_lossy()));
        }
        Ok(address)
    }

    /// The extension string of each device. It shows which vendor the device is from.
    pub(crate) fn devices(&self) -> Result<Vec<String>, String> {
        let query = self.extension(c"eglQueryDevicesEXT")?;
        // SAFETY: a function's address, not null; the signature is eglext.h's.
        let query = unsafe { transmute::<*mut c_void, QueryDevices>(query) };
        let string = self.extension(c"eglQueryDeviceStringEXT")?;
        // SAFETY: as above.
        let string = unsafe { transmute::<*mut c_void, QueryDeviceString>(string) };
        let mut handles = [null_mut(); 64];
        let mut count = 0;
        // SAFETY: there is room for 64 handles, which is what the call is given.
        if unsafe { query(64, handles.as_mut_ptr(), &raw mut count) } == 0 {
            return Ok(Vec::new());
        }
        let devices = handles.iter().take(usize::try_from(count).unwrap_or(0));
        Ok(devices
            .map(|device| {
                // SAFETY: a device that EGL listed. The string belongs to EGL and is never freed.
                let extensions = unsafe { string(*device, EGL_EXTENSIONS) };
                if extensions.is_null() {
                    return String::new();
                }
                // SAFETY: not null, a C string.
                unsafe { CStr::from_ptr(extensions) }
                    .to_string_lossy()
                    .into_owned()
            })
            .collect())
    }
}

/// The text up to the first NUL.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
