//! Device rules in cgroup v2: eBPF programs, all of which must allow a device. Each attached
//! program is replaced by one that first allows our devices and then continues with the original
//! instructions.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use gpu_host::DeviceNode;

use super::cgroup_paths::{below, cgroup_mounts};
use crate::error::Error;
use crate::linux::bpf::{self, Insn};

/// The container's directory in the v2 tree.
pub(super) fn directory(cgroup: &str, mountinfo: &str) -> Option<PathBuf> {
    let path = cgroup.lines().find_map(|l| l.strip_prefix("0::"))?;
    cgroup_mounts(mountinfo)
        .filter(|(_, _, kind, _)| *kind == "cgroup2")
        .find_map(|(root, point, ..)| below(root, point, path))
}

pub(super) fn allow(dir: &Path, nodes: &[DeviceNode]) -> Result<(), Error> {
    let cgroup = File::open(dir).map_err(Error::host(dir))?;
    let failed = |what: &str| Error::system(format!("{}: {what}", dir.display()));
    let (ids, flags) = bpf::device_programs(cgroup.as_fd())
        .map_err(failed("ask for the cgroup's device programs"))?;
    // Without an attached program every device is allowed.
    if !ids.is_empty() && nodes.len() > MAX_DEVICES {
        let why = format!(
            "{} device nodes: one of the kernel's device programs lets {MAX_DEVICES} through; ask for fewer GPUs",
            nodes.len()
        );
        return Err(Error::State(why.into()));
    }
    for id in ids {
        let old = bpf::program(id).map_err(failed("open device program"))?;
        let code = bpf::instructions(old.as_fd()).map_err(failed("read device program"))?;
        let new = bpf::load(&with_devices(nodes, &code)).map_err(failed("load device program"))?;
        bpf::replace(cgroup.as_fd(), old.as_fd(), new.as_fd(), flags)
            .map_err(failed("replace device program"))?;
    }
    Ok(())
}

// Opcodes of include/uapi/linux/bpf.h and bpf_common.h.
const LOAD_WORD: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const MOVE: u8 = 0xbf; // BPF_ALU64 | BPF_MOV | BPF_X
const MOVE_CONST: u8 = 0xb7; // BPF_ALU64 | BPF_MOV | BPF_K
const AND: u8 = 0x57; // BPF_ALU64 | BPF_AND | BPF_K
const SHIFT_RIGHT: u8 = 0x77; // BPF_ALU64 | BPF_RSH | BPF_K
const JUMP_NE: u8 = 0x55; // BPF_JMP | BPF_JNE | BPF_K
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT
/// `BPF_DEVCG_DEV_CHAR`.
const CHAR: i32 = 2;
/// `BPF_DEVCG_ACC_MKNOD`; reading and writing are the other two.
const MKNOD: i32 = 1;
/// Instructions for one device.
const PER_DEVICE: i16 = 4;
/// Maximum number of devices: a jump over all their instructions must fit in 15 bits.
const MAX_DEVICES: usize = 8191;

fn insn(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Insn {
    Insn {
        code,
        registers: from << 4 | to,
        offset,
        immediate,
    }
}

/// A program that allows these nodes and otherwise continues with `rest`.
///
/// The context is `struct bpf_cgroup_dev_ctx`: access << 16 | type, major, minor. At its start a
/// program may rely only on r1, so r2 to r5 are free for our part.
fn with_devices(nodes: &[DeviceNode], rest: &[Insn]) -> Vec<Insn> {
    let nodes = &nodes[..nodes.len().min(MAX_DEVICES)];
    // At most 32,764, so that adding one does not overflow.
    let ours = i16::try_from(nodes.len())
        .unwrap_or_default()
        .saturating_mul(PER_DEVICE);
    let mut code = vec![
        insn(LOAD_WORD, 2, 1, 0, 0),
        insn(MOVE, 3, 2, 0, 0),
        insn(AND, 3, 0, 0, 0xffff),
        insn(SHIFT_RIGHT, 2, 0, 0, 16),
        insn(AND, 2, 0, 0, MKNOD),
        insn(LOAD_WORD, 4, 1, 4, 0),
        insn(LOAD_WORD, 5, 1, 8, 0),
        // For other than character devices and for mknod, jump to the original program.
        insn(JUMP_NE, 3, 0, ours + 1, CHAR),
        insn(JUMP_NE, 2, 0, ours, 0),
    ];
    for node in nodes {
        // Device numbers have 12 and 20 bits, so they always fit.
        let number = |n: u32| i32::try_from(n).unwrap_or(-1);
        code.push(insn(JUMP_NE, 4, 0, 3, number(node.major)));
        code.push(insn(JUMP_NE, 5, 0, 2, number(node.minor)));
        code.push(insn(MOVE_CONST, 0, 0, 0, 1));
        code.push(insn(EXIT, 0, 0, 0, 0));
    }
    code.extend_from_slice(rest);
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(minor: u32) -> DeviceNode {
        DeviceNode {
            path: "/dev/x".into(),
            host_path: "/dev/x".into(),
            major: 195,
            minor,
            mode: 0,
            uid: 0,
            gid: 0,
        }
    }

    /// Runs the few opcodes that we use, for (access, type, major, minor). Returns the program's answer.
    fn run(code: &[Insn], context: (i32, i32, i32, i32)) -> i64 {
        let words = [context.0 << 16 | context.1, context.2, context.3];
        let mut registers = [0i64; 11];
        let mut at = 0usize;
        loop {
            let insn = code[at];
            let (to, from) = (
                usize::from(insn.registers & 15),
                usize::from(insn.registers >> 4),
            );
            at += 1;
            match insn.code {
                LOAD_WORD => {
                    registers[to] = i64::from(words[usize::try_from(insn.offset).unwrap() / 4]);
                }
                MOVE => registers[to] = registers[from],
                MOVE_CONST => registers[to] = i64::from(insn.immediate),
                AND => registers[to] &= i64::from(insn.immediate),
                SHIFT_RIGHT => registers[to] >>= insn.immediate,
                JUMP_NE if registers[to] != i64::from(insn.immediate) => {
                    at += usize::try_from(insn.offset).unwrap();
                }
                JUMP_NE => {}
                EXIT => return registers[0],
                other => panic!("{other:#x}"),
            }
        }
    }

    #[test]
    fn our_devices_are_allowed_and_others_go_to_the_original_program() {
        // The original program answers 7, which our part never does.
        let rest = [insn(MOVE_CONST, 0, 0, 0, 7), insn(EXIT, 0, 0, 0, 0)];
        let code = with_devices(&[node(0), node(255)], &rest);
        let (read, write, mknod, block) = (2, 4, 1, 1);
        assert_eq!(run(&code, (read, CHAR, 195, 0)), 1);
        assert_eq!(run(&code, (read | write, CHAR, 195, 255)), 1);
        for other in [
            (read, CHAR, 195, 1),
            (read, CHAR, 1, 0),
            (read, block, 195, 0),
            (read | mknod, CHAR, 195, 0),
        ] {
            assert_eq!(run(&code, other), 7, "{other:?}");
        }
        assert_eq!(run(&with_devices(&[], &rest), (read, CHAR, 195, 0)), 7);
    }

    #[test]
    fn the_longest_jump_leads_to_the_original_program() {
        let rest = [insn(MOVE_CONST, 0, 0, 0, 7), insn(EXIT, 0, 0, 0, 0)];
        let last = u32::try_from(MAX_DEVICES).unwrap() - 1;
        let nodes: Vec<_> = (0..=last + 1000).map(node).collect();
        let code = with_devices(&nodes, &rest);
        let (read, block) = (2, 1);
        assert_eq!(run(&code, (read, CHAR, 195, last.try_into().unwrap())), 1);
        assert_eq!(run(&code, (read, CHAR, 195, i32::MAX)), 7);
        assert_eq!(run(&code, (read, block, 195, 0)), 7);
    }

    #[test]
    fn the_unified_tree_is_found() {
        let mounts = "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let scope_dir = directory("0::/system.slice/docker-1.scope\n", mounts);
        assert_eq!(
            scope_dir,
            Some("/sys/fs/cgroup/system.slice/docker-1.scope".into())
        );
    }
}
