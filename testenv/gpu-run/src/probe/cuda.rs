//! The CUDA program: adds two vectors on every device and compares every element of the sum.

use std::ffi::{CString, c_int};

use gpu_run::probe_output::{self, Device, Sum};

use crate::ffi::{CudaError, CudaLibrary, Library};

/// Not a multiple of the block size, so that the kernel's bounds check is needed too.
const ELEMENTS: u32 = 1_000_003;
/// The result's content before the kernel runs: elements that were not computed cannot pass.
const BEFORE: u32 = 0xdead_beef;

const NO_DEVICE: c_int = 100;
const NOT_SUPPORTED: c_int = 801;
/// `CUDA_ERROR_INVALID_PTX`, `_UNSUPPORTED_PTX_VERSION`, `_NO_BINARY_FOR_GPU`.
const PTX_REFUSED: [c_int; 3] = [218, 222, 209];

/// The oldest target that today's drivers compile for, and a newer one for the day when they no longer do.
const TARGETS: [(&str, &str); 2] = [("6.0", "sm_50"), ("6.3", "sm_75")];

/// `sum[i] = a[i] + b[i]` for `i` below `length`.
const KERNEL: &str = "
.address_size 64
.visible .entry add(.param .u64 a, .param .u64 b, .param .u64 sum, .param .u32 length)
{
    .reg .pred %p;
    .reg .b32 %r<9>;
    .reg .b64 %d<8>;
    mov.u32 %r1, %ctaid.x;
    mov.u32 %r2, %ntid.x;
    mov.u32 %r3, %tid.x;
    mad.lo.u32 %r4, %r1, %r2, %r3;
    ld.param.u32 %r5, [length];
    setp.ge.u32 %p, %r4, %r5;
    @%p bra DONE;
    mul.wide.u32 %d1, %r4, 4;
    ld.param.u64 %d2, [a];
    cvta.to.global.u64 %d2, %d2;
    add.u64 %d3, %d2, %d1;
    ld.global.u32 %r6, [%d3];
    ld.param.u64 %d4, [b];
    cvta.to.global.u64 %d4, %d4;
    add.u64 %d5, %d4, %d1;
    ld.global.u32 %r7, [%d5];
    add.u32 %r8, %r6, %r7;
    ld.param.u64 %d6, [sum];
    cvta.to.global.u64 %d6, %d6;
    add.u64 %d7, %d6, %d1;
    st.global.u32 [%d7], %r8;
DONE:
    ret;
}
";

fn error_text(e: &CudaError) -> String {
    format!("{}: error {}", e.call, e.code)
}

pub(crate) fn query() -> probe_output::Cuda {
    let library = match Library::open(c"libcuda.so.1") {
        Ok(library) => library,
        Err(why) => return probe_output::Cuda::NoLibrary { why },
    };
    let cuda = match CudaLibrary::load(library) {
        Ok(cuda) => cuda,
        Err(why) => return probe_output::Cuda::Failed { why },
    };
    match cuda.init() {
        Err(e) if e.code == NO_DEVICE => {
            return probe_output::Cuda::NoDevice {
                why: error_text(&e),
            };
        }
        Err(e) => {
            return probe_output::Cuda::Failed {
                why: error_text(&e),
            };
        }
        Ok(()) => {}
    }
    match devices(&cuda) {
        Ok((version, devices)) => probe_output::Cuda::Devices { version, devices },
        Err(e) => probe_output::Cuda::Failed {
            why: error_text(&e),
        },
    }
}

fn devices(cuda: &CudaLibrary) -> Result<(i32, Vec<Device>), CudaError> {
    let version = cuda.version()?;
    let mut devices = Vec::new();
    for ordinal in 0..cuda.count()? {
        let device = cuda.device(ordinal)?;
        devices.push(Device {
            name: cuda.name(device)?,
            uuid: uuid_text(cuda.uuid(device)?),
            sum: add_vectors(cuda, device),
        });
    }
    Ok((version, devices))
}

fn uuid_text(bytes: [u8; 16]) -> String {
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    let groups = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    format!("GPU-{}", groups.join("-"))
}

fn add_vectors(cuda: &CudaLibrary, device: i32) -> Sum {
    let mut outcome = Sum::Failed {
        why: "no kernel was tried".to_owned(),
    };
    for (version, target) in TARGETS {
        outcome = match on_target(cuda, device, version, target) {
            Err(e) if PTX_REFUSED.contains(&e.code) => Sum::Failed {
                why: error_text(&e),
            },
            Err(e) if e.call == "cuLaunchKernel" && e.code == NOT_SUPPORTED => {
                return Sum::DoesNotCompute;
            }
            Err(e) => {
                return Sum::Failed {
                    why: error_text(&e),
                };
            }
            Ok(sum) => return sum,
        };
    }
    outcome
}

fn on_target(
    cuda: &CudaLibrary,
    device: i32,
    version: &str,
    target: &str,
) -> Result<Sum, CudaError> {
    let ptx = CString::new(format!(".version {version}\n.target {target}{KERNEL}"));
    let ptx = ptx.expect("no part of it has a NUL");
    let a: Vec<u32> = (0..ELEMENTS)
        .map(|i| i.wrapping_mul(2_654_435_761))
        .collect();
    let b: Vec<u32> = (0..ELEMENTS).map(|i| i ^ 0x5555_5555).collect();
    let kernel = cuda.kernel(device, &ptx, c"add")?;
    let vectors = [
        kernel.upload(&a)?,
        kernel.upload(&b)?,
        kernel.upload(&vec![BEFORE; a.len()])?,
    ];
    kernel.launch(vectors, ELEMENTS)?;
    let sum = kernel.download(vectors[2])?;
    for memory in vectors {
        kernel.free(memory)?;
    }
    Ok(compared(&a, &b, &sum))
}

fn compared(a: &[u32], b: &[u32], sum: &[u32]) -> Sum {
    let is_wrong = |i: &usize| sum.get(*i) != Some(&a[*i].wrapping_add(b[*i]));
    match (0..a.len()).find(is_wrong) {
        None => Sum::Passed { elements: a.len() },
        Some(at) => Sum::Failed {
            why: format!("element {at} of the sum is wrong"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_element_and_a_missing_one_are_found() {
        let (a, b) = ([1, 2, u32::MAX], [10, 20, 1]);
        assert_eq!(compared(&a, &b, &[11, 22, 0]), Sum::Passed { elements: 3 });
        for wrong in [&[11, 22, BEFORE][..], &[11, 22], &[BEFORE; 3]] {
            assert!(
                matches!(compared(&a, &b, wrong), Sum::Failed { .. }),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn a_uuid_is_written_as_the_driver_writes_it() {
        let bytes = std::array::from_fn(|i| u8::try_from(i).unwrap() * 0x11);
        assert_eq!(uuid_text(bytes), "GPU-00112233-4455-6677-8899-aabbccddeeff");
    }
}
