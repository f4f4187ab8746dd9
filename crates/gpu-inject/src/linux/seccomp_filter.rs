//! Makes a seccomp program that refuses system calls by their numbers.
//!
//! The program is a binary search that ends in short lists. A plain list of comparisons would be
//! slow: Linux 5.11 and later run the program once for each of some 460 system calls when it is
//! installed (`seccomp_cache_prepare` in kernel/seccomp.c), and earlier kernels run it at every
//! call.

use std::io;
use std::ops::Range;

use libc::sock_filter;

// Codes of linux/bpf_common.h.
const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

// Offsets in `struct seccomp_data`.
const NR: u32 = 0;
const ARCH: u32 = 4;
/// The lower half of the first argument: both machines are little-endian. Each argument has 8 bytes.
const ARGUMENTS: u32 = 16;

const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs();
/// Numbers from here on are those of the x32 ABI, which has other numbers for the same calls.
const X32: u32 = 0x4000_0000;
/// Maximum length of the lists at the end of the search.
const LIST: usize = 4;

/// A call that is allowed only if one of its arguments has a certain value. Only the lower 32 bits of the argument
/// are compared, because the kernel uses no others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OnlyWith {
    pub(crate) call: libc::c_long,
    /// Index of the argument, from 0.
    pub(crate) argument: u8,
    pub(crate) value: libc::c_int,
}

/// The program: it returns `EPERM` for these calls, ends the process if a call comes from another architecture, and
/// allows everything else.
pub(super) fn refusing(
    calls: &[libc::c_long],
    only_with: &[OnlyWith],
) -> io::Result<Vec<sock_filter>> {
    // AUDIT_ARCH_X86_64, AUDIT_ARCH_AARCH64 of linux/audit.h.
    let arch = match std::env::consts::ARCH {
        "x86_64" => 0xc000_003e,
        "aarch64" => 0xc000_00b7,
        _ => return Err(io::ErrorKind::Unsupported.into()),
    };
    let number = |call| u32::try_from(call).map_err(|_| io::ErrorKind::InvalidInput);
    let all = calls
        .iter()
        .copied()
        .chain(only_with.iter().map(|only| only.call));
    let mut numbers = all.map(number).collect::<Result<Vec<_>, _>>()?;
    numbers.sort_unstable();
    let mut code = vec![
        insn(LOAD, 0, 0, ARCH),
        insn(EQUAL, 1, 0, arch),
        insn(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        insn(LOAD, 0, 0, NR),
        insn(AT_LEAST, 0, 1, X32),
        insn(RETURN, 0, 0, REFUSE),
    ];
    let mut lists = Vec::new();
    search(&numbers, &mut code, &mut lists)?;
    // All lists share one ending of each kind, because the kernel compiles a shorter program faster.
    let (let_through, refuse) = (code.len(), code.len() + 1);
    code.push(insn(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    code.push(insn(RETURN, 0, 0, REFUSE));
    let mut ends = Vec::new();
    for only in only_with {
        ends.push((number(only.call)?, code.len()));
        code.extend([
            insn(LOAD, 0, 0, ARGUMENTS + 8 * u32::from(only.argument)),
            insn(EQUAL, 0, 1, only.value.cast_unsigned()),
            insn(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
            insn(RETURN, 0, 0, REFUSE),
        ]);
    }
    for list in lists {
        code[list.end - 1].jf = distance(list.end, let_through)?;
        for at in list {
            let end = ends.iter().find(|(call, _)| *call == code[at].k);
            code[at].jt = distance(at + 1, end.map_or(refuse, |(_, end)| *end))?;
        }
    }
    Ok(code)
}

fn insn(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// Appends the search for these numbers, which are sorted. Adds to `lists` the positions of the
/// comparisons whose jumps are still to be filled in.
fn search(
    numbers: &[u32],
    code: &mut Vec<sock_filter>,
    lists: &mut Vec<Range<usize>>,
) -> io::Result<()> {
    if numbers.len() <= LIST {
        let start = code.len();
        code.extend(numbers.iter().map(|number| insn(EQUAL, 0, 0, *number)));
        if start < code.len() {
            lists.push(start..code.len());
        }
        return Ok(());
    }
    let (below, not_below) = numbers.split_at(numbers.len() / 2);
    let branch = code.len();
    code.push(insn(AT_LEAST, 0, 0, not_below[0]));
    search(below, code, lists)?;
    code[branch].jt = distance(branch + 1, code.len())?;
    search(not_below, code, lists)
}

/// The length of a forward jump, which can be at most 255 instructions.
fn distance(from: usize, to: usize) -> io::Result<u8> {
    u8::try_from(to - from).map_err(|_| io::ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would. Returns the result and the number of steps.
    fn run(code: &[sock_filter], arch: u32, nr: u32) -> (u32, usize) {
        run_with(code, arch, nr, [0; 6])
    }

    fn run_with(code: &[sock_filter], arch: u32, nr: u32, arguments: [u64; 6]) -> (u32, usize) {
        let (mut at, mut loaded, mut steps) = (0, 0, 0);
        loop {
            let insn = &code[at];
            steps += 1;
            at += 1;
            let jump = match insn.code {
                LOAD => {
                    loaded = match insn.k {
                        NR => nr,
                        ARCH => arch,
                        at => {
                            let place = usize::try_from(at - ARGUMENTS).unwrap();
                            assert_eq!(place % 8, 0);
                            u32::try_from(arguments[place / 8] & 0xffff_ffff).unwrap()
                        }
                    };
                    continue;
                }
                RETURN => return (insn.k, steps),
                EQUAL => loaded == insn.k,
                AT_LEAST => loaded >= insn.k,
                other => panic!("{other:#x}"),
            };
            at += usize::from(if jump { insn.jt } else { insn.jf });
        }
    }

    fn native() -> u32 {
        refusing(&[], &[]).unwrap()[1].k
    }

    #[test]
    fn only_listed_calls_are_refused() {
        // The numbers are unsorted and the lists have every length, so that the binary search splits them in many
        // ways.
        let spread: Vec<libc::c_long> = (0..70).map(|n| n * 7 % 463).collect();
        let lists = (0..=spread.len()).map(|length| &spread[..length]);
        for calls in lists.chain([&[0, 1023][..], &[7, 7, 7, 7, 7, 7]]) {
            let code = refusing(calls, &[]).unwrap();
            for nr in (0..1024).chain([0x3fff_ffff]) {
                let expected = if calls.contains(&nr) {
                    REFUSE
                } else {
                    libc::SECCOMP_RET_ALLOW
                };
                let number = u32::try_from(nr).unwrap();
                assert_eq!(
                    run(&code, native(), number).0,
                    expected,
                    "{nr} of {calls:?}"
                );
                assert_eq!(run(&code, native(), number | X32).0, REFUSE, "x32: {nr}");
            }
            assert_eq!(run(&code, native(), u32::MAX).0, REFUSE);
            // AUDIT_ARCH_I386, which `int 0x80` uses, and AUDIT_ARCH_ARM.
            for other in [native() ^ 1, 0x4000_0003, 0x4000_0028] {
                for nr in [1, 59, u32::MAX] {
                    assert_eq!(run(&code, other, nr).0, libc::SECCOMP_RET_KILL_PROCESS);
                }
            }
        }
    }

    #[test]
    fn a_call_with_another_argument_is_refused() {
        let only = [(3, 0, 7), (9, 1, 5)].map(|(call, argument, value)| OnlyWith {
            call,
            argument,
            value,
        });
        let code = refusing(&[4, 8], &only).unwrap();
        let is_refused = |nr, arguments| run_with(&code, native(), nr, arguments).0 == REFUSE;
        assert!(!is_refused(3, [7, 0, 0, 0, 0, 0]) && is_refused(3, [6, 7, 7, 7, 7, 7]));
        assert!(!is_refused(9, [0, 5, 0, 0, 0, 0]) && is_refused(9, [5, 4, 5, 5, 5, 5]));
        for nr in (0..20).filter(|nr| ![3, 9].contains(nr)) {
            assert_eq!(
                is_refused(nr, [7, 5, 0, 0, 0, 0]),
                [4, 8].contains(&nr),
                "{nr}"
            );
        }
    }

    #[test]
    fn the_program_is_a_binary_search() {
        let calls: Vec<libc::c_long> = (0..47).map(|n| n * 10).collect();
        let code = refusing(&calls, &[]).unwrap();
        let longest = (0..600).map(|nr| run(&code, native(), nr).1).max().unwrap();
        assert!(
            longest <= 4 + 4 + LIST + 1 && code.len() < 80,
            "{longest} of {}",
            code.len()
        );
    }

    #[test]
    fn unencodable_numbers_and_jumps_are_errors() {
        assert!(refusing(&[-1], &[]).is_err());
        assert!(refusing(&(0..2000).collect::<Vec<_>>(), &[]).is_err());
    }
}
