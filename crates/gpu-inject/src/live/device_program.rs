//! Generates the instructions of device programs (eBPF, `BPF_PROG_TYPE_CGROUP_DEVICE`): a program that allows devices
//! and continues with another program, and a program that applies the rules of config.json.

use gpu_host::DeviceNode;

use super::device_rules::{AccessRule, NodeKind};
use crate::linux::bpf::Insn;

// Opcodes of include/uapi/linux/bpf.h and bpf_common.h.
const LOAD_WORD: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const MOVE: u8 = 0xbf; // BPF_ALU64 | BPF_MOV | BPF_X
const MOVE_CONST: u8 = 0xb7; // BPF_ALU64 | BPF_MOV | BPF_K
const MOVE_CONST_32: u8 = 0xb4; // BPF_ALU | BPF_MOV | BPF_K
const XOR_WITH: u8 = 0xaf; // BPF_ALU64 | BPF_XOR | BPF_X
const XOR_WITH_32: u8 = 0xac; // BPF_ALU | BPF_XOR | BPF_X
const AND: u8 = 0x57; // BPF_ALU64 | BPF_AND | BPF_K
const SHIFT_RIGHT: u8 = 0x77; // BPF_ALU64 | BPF_RSH | BPF_K
const JUMP_NE: u8 = 0x55; // BPF_JMP | BPF_JNE | BPF_K
const JUMP_EQ: u8 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT
/// `BPF_DEVCG_DEV_BLOCK`.
const BLOCK: i32 = 1;
/// `BPF_DEVCG_DEV_CHAR`.
const CHAR: i32 = 2;
/// `BPF_DEVCG_ACC_MKNOD`; the other two accesses are reading and writing.
const MKNOD: i32 = 1;
/// The kernel's own register, in which it puts blinded constants (`BPF_REG_AX`). A program that names it cannot be
/// loaded.
const HIDDEN_REGISTER: u8 = 11;
/// Instructions for one device.
const PER_DEVICE: i16 = 4;
/// Maximum number of devices: a jump over all their instructions must fit in 15 bits.
pub(super) const MAX_DEVICES: usize = 8191;

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
pub(super) fn with_devices(nodes: &[DeviceNode], rest: &[Insn]) -> Vec<Insn> {
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
        // For devices other than character devices and for mknod, jump to the original program.
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

/// Whether the kernel has put the constants of this program into its hidden register, as it does with
/// `net.core.bpf_jit_harden` = 2 (`bpf_jit_blind_insn` in kernel/bpf/core.c). Such a program cannot be loaded.
pub(super) fn is_blinded(code: &[Insn]) -> bool {
    uses(code, HIDDEN_REGISTER)
}

fn uses(code: &[Insn], register: u8) -> bool {
    code.iter()
        .any(|i| to(*i) == register || from(*i) == register)
}

/// Makes a blinded program loadable again. No loaded program may name the hidden register, but any register that the
/// program leaves unused can replace it. No program may read a register that it has not set, so a register that the
/// kernel zeroes by an exclusive or with itself is set to the constant 0. `None` if the program uses all registers.
pub(super) fn unblinded(mut code: Vec<Insn>) -> Option<Vec<Insn>> {
    // Registers 6 to 9 keep their value across calls, as the hidden register does; 10 is the stack pointer.
    let free = (6..10).find(|r| !uses(&code, *r))?;
    let renamed = |register| {
        if register == HIDDEN_REGISTER {
            free
        } else {
            register
        }
    };
    for insn in &mut code {
        insn.registers = renamed(from(*insn)) << 4 | renamed(to(*insn));
        let clears = match insn.code {
            XOR_WITH => MOVE_CONST,
            XOR_WITH_32 => MOVE_CONST_32,
            _ => continue,
        };
        if to(*insn) == from(*insn) {
            insn.code = clears;
            insn.registers = to(*insn);
        }
    }
    Some(code)
}

fn to(insn: Insn) -> u8 {
    insn.registers & 15
}

fn from(insn: Insn) -> u8 {
    insn.registers >> 4
}

/// The program for these rules of config.json. For each access, the last rule that matches the device and covers the
/// access decides. An access that no rule covers is refused.
pub(super) fn by_rules(rules: &[AccessRule]) -> Vec<Insn> {
    // r2: the accesses that are not decided yet.
    let mut code = vec![
        insn(LOAD_WORD, 2, 1, 0, 0),
        insn(MOVE, 3, 2, 0, 0),
        insn(AND, 3, 0, 0, 0xffff),
        insn(SHIFT_RIGHT, 2, 0, 0, 16),
        insn(LOAD_WORD, 4, 1, 4, 0),
        insn(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules.iter().rev() {
        code.extend(by_rule(rule));
    }
    code.extend(answer(0));
    code
}

fn answer(is_allowed: i32) -> [Insn; 2] {
    [
        insn(MOVE_CONST, 0, 0, 0, is_allowed),
        insn(EXIT, 0, 0, 0, 0),
    ]
}

fn by_rule(rule: &AccessRule) -> Vec<Insn> {
    let mut then = Vec::new();
    let access = i32::from(rule.access);
    if rule.allows {
        then.push(insn(AND, 2, 0, 0, !access));
        then.push(insn(JUMP_NE, 2, 0, 2, 0));
        then.extend(answer(1));
    } else {
        then.push(insn(MOVE, 0, 2, 0, 0));
        then.push(insn(AND, 0, 0, 0, access));
        then.push(insn(JUMP_EQ, 0, 0, 2, 0));
        then.extend(answer(0));
    }
    let kind = rule.kind.map(|kind| match kind {
        NodeKind::Block => BLOCK,
        NodeKind::Char => CHAR,
    });
    // A register and the value that it must have.
    let conditions = [(3, kind), (4, rule.major), (5, rule.minor)];
    let conditions: Vec<(u8, i32)> = conditions
        .into_iter()
        .filter_map(|(register, value)| Some((register, value?)))
        .collect();
    let mut code = Vec::new();
    // Each condition jumps over the conditions after it, of which there are at most two, and over `then`.
    for (left, (register, value)) in (0i16..)
        .zip(conditions.iter().rev())
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
    {
        let over = i16::try_from(then.len()).unwrap_or_default() + left;
        code.push(insn(JUMP_NE, *register, 0, over, *value));
    }
    code.extend(then);
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    const XOR: u8 = 0xa7; // BPF_ALU64 | BPF_XOR | BPF_K
    const LOAD_HALF: u8 = 0x69; // BPF_LDX | BPF_MEM | BPF_H
    const JUMP_NE_WITH: u8 = 0x5d; // BPF_JMP | BPF_JNE | BPF_X

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
                LOAD_HALF => registers[to] = i64::from(words[0] & 0xffff),
                JUMP_NE_WITH if registers[to] != registers[from] => {
                    at += usize::try_from(insn.offset).unwrap();
                }
                MOVE => registers[to] = registers[from],
                XOR => registers[to] ^= i64::from(insn.immediate),
                MOVE_CONST => registers[to] = i64::from(insn.immediate),
                AND => registers[to] &= i64::from(insn.immediate),
                SHIFT_RIGHT => registers[to] >>= insn.immediate,
                JUMP_NE if registers[to] != i64::from(insn.immediate) => {
                    at += usize::try_from(insn.offset).unwrap();
                }
                JUMP_EQ if registers[to] == i64::from(insn.immediate) => {
                    at += usize::try_from(insn.offset).unwrap();
                }
                JUMP_NE_WITH | JUMP_NE | JUMP_EQ => {}
                EXIT => return registers[0],
                other => panic!("{other:#x}"),
            }
        }
    }

    #[test]
    fn our_devices_are_allowed_and_others_go_to_the_original_program() {
        // The original program returns 7, which our part never does.
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

    fn rule(allows: bool, kind: Option<NodeKind>, number: (i32, i32), access: u8) -> AccessRule {
        let part = |n: i32| (n >= 0).then_some(n);
        AccessRule {
            allows,
            kind,
            major: part(number.0),
            minor: part(number.1),
            access,
        }
    }

    #[test]
    fn of_rules_the_last_one_for_an_access_decides() {
        let (mknod, read, write) = (1, 2, 4);
        let char = Some(NodeKind::Char);
        let rules = [
            rule(false, None, (-1, -1), 7),
            rule(true, char, (-1, -1), 1),
            rule(true, char, (1, 3), 7),
            rule(true, char, (195, -1), 6),
            rule(false, char, (195, 1), 4),
            rule(true, Some(NodeKind::Block), (8, 0), 2),
        ];
        let code = by_rules(&rules);
        let block = BLOCK;
        for (context, expected) in [
            ((read | write | mknod, CHAR, 1, 3), 1),
            ((read, CHAR, 1, 5), 0),
            ((mknod, CHAR, 1, 5), 1),
            ((read | mknod, CHAR, 1, 5), 0),
            ((read | write, CHAR, 195, 0), 1),
            ((read | mknod, CHAR, 195, 0), 1),
            ((read, CHAR, 195, 1), 1),
            ((read | write, CHAR, 195, 1), 0),
            ((read, block, 195, 0), 0),
            ((read, block, 8, 0), 1),
            ((write, block, 8, 0), 0),
        ] {
            assert_eq!(run(&code, context), expected, "{context:?}");
        }
        assert_eq!(run(&by_rules(&[]), (read, CHAR, 1, 3)), 0);
        let all = by_rules(&[rule(true, None, (-1, -1), 7)]);
        assert_eq!(run(&all, (read | write, block, 8, 1)), 1);
        // Our part in front of it.
        let both = with_devices(&[node(1)], &code);
        assert_eq!(run(&both, (read | write, CHAR, 195, 1)), 1);
        assert_eq!(run(&both, (write, CHAR, 1, 5)), 0);
    }

    /// Linux 6.18 returned this for a program that was loaded with `net.core.bpf_jit_harden` = 2. The program returns
    /// 1 for character device 195:1 and 0 for all others.
    #[test]
    fn a_blinded_program_becomes_loadable() {
        let hidden = HIDDEN_REGISTER;
        let blinded = vec![
            insn(LOAD_HALF, 2, 1, 0, 0),
            insn(LOAD_WORD, 4, 1, 4, 0),
            insn(LOAD_WORD, 5, 1, 8, 0),
            insn(MOVE_CONST, hidden, 0, 0, -0x504f_4572),
            insn(XOR, hidden, 0, 0, -0x504f_4574),
            insn(JUMP_NE_WITH, 2, hidden, 10, 0),
            insn(MOVE_CONST, hidden, 0, 0, -0x25d0_c1c5),
            insn(XOR, hidden, 0, 0, -0x25d0_c108),
            insn(JUMP_NE_WITH, 4, hidden, 7, 0),
            insn(MOVE_CONST, hidden, 0, 0, 0x6a48_f4a9),
            insn(XOR, hidden, 0, 0, 0x6a48_f4a8),
            insn(JUMP_NE_WITH, 5, hidden, 4, 0),
            insn(MOVE_CONST, hidden, 0, 0, 0x0aba_709b),
            insn(XOR, hidden, 0, 0, 0x0aba_709a),
            insn(MOVE, 0, hidden, 0, 0),
            insn(EXIT, 0, 0, 0, 0),
            insn(XOR_WITH, 0, 0, 0, 0),
            insn(EXIT, 0, 0, 0, 0),
        ];
        assert!(is_blinded(&blinded));
        let code = unblinded(blinded).unwrap();
        assert!(!is_blinded(&code));
        assert!(code.iter().all(|i| to(*i) < 10 && from(*i) < 10));
        assert!(code.iter().all(|i| i.code != XOR_WITH));
        assert_eq!(run(&code, (2, CHAR, 195, 1)), 1);
        for other in [(2, CHAR, 195, 2), (2, CHAR, 1, 1), (2, BLOCK, 195, 1)] {
            assert_eq!(run(&code, other), 0, "{other:?}");
        }
        let plain = vec![insn(MOVE_CONST, 0, 0, 0, 1), insn(EXIT, 0, 0, 0, 0)];
        assert!(!is_blinded(&plain));
        // Every register is in use.
        let mut full: Vec<Insn> = (6..10).map(|r| insn(MOVE_CONST, r, 0, 0, 0)).collect();
        full.push(insn(XOR, hidden, 0, 0, 1));
        assert_eq!(unblinded(full), None);
    }
}
