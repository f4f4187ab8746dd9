//! Initializes CUDA by the driver's libcuda.so.1, as every CUDA program does first, and prints the
//! number of devices. It is a program of its own because a static one can load no library.

use std::ffi::{c_int, c_uint};
use std::process::ExitCode;

use libloading::{Library, Symbol};

const LIBRARY: &str = "libcuda.so.1";

type CuInit = unsafe extern "C" fn(c_uint) -> c_int;
type CuDeviceGetCount = unsafe extern "C" fn(*mut c_int) -> c_int;

fn main() -> ExitCode {
    match devices() {
        Ok(devices) => {
            println!("{devices} CUDA devices");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn devices() -> Result<c_int, String> {
    // SAFETY: loading the driver's library runs its initializers, which is what this program tests.
    let library = unsafe { Library::new(LIBRARY) }.map_err(|e| e.to_string())?;
    let missing = |e: libloading::Error| e.to_string();
    // SAFETY: the types are those of cuda.h, which are stable.
    let (init, count): (Symbol<'_, CuInit>, Symbol<'_, CuDeviceGetCount>) = unsafe {
        (
            library.get(b"cuInit\0").map_err(missing)?,
            library.get(b"cuDeviceGetCount\0").map_err(missing)?,
        )
    };
    let ended = |call: &str, code| match code {
        0 => Ok(()),
        code => Err(format!("{call}: CUDA error {code}")),
    };
    // SAFETY: cuInit takes flags, which must be 0.
    ended("cuInit", unsafe { init(0) })?;
    let mut devices: c_int = 0;
    // SAFETY: the pointer is valid for the call.
    ended("cuDeviceGetCount", unsafe { count(&raw mut devices) })?;
    Ok(devices)
}
