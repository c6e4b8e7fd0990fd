//! System calls that no service needs and that have often been a way into the kernel; and those
//! that only a supervisor may make for an instance without namespaces.
//!
//! A short list of what is refused, not a long one of what is allowed: software of any kind runs
//! here, and the other walls do the main work. Refused calls fail with EPERM. Calls of another
//! architecture are refused altogether. See seccomp(2) and seccomp_unotify(2).
//!
//! An instance without namespaces shares the machine's network and its user's processes. There
//! [`supervised`] leaves it stream sockets only, whose addresses the supervisor reads before the
//! kernel does, and hands it every call that names another process.

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W,
    c_int, c_long, sock_filter,
};

use crate::heap;

const REFUSED: [c_long; 30] = [
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_init_module,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setns,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
];

/// Refused where nothing inside has to trace others.
const TRACING: [c_long; 3] = [
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
];

/// Refused where processes of others can be named: a descriptor may stand for any of them.
const BY_DESCRIPTOR: [c_long; 4] = [
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
];

/// Refused where files of others can be named: Landlock (Linux 6.18) leaves them to everybody.
const OF_FILES: [c_long; 19] = [
    libc::SYS_fanotify_init,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fremovexattr,
    libc::SYS_fsetxattr,
    libc::SYS_inotify_add_watch,
    libc::SYS_lremovexattr,
    libc::SYS_lsetxattr,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    libc::SYS_msgctl,
    libc::SYS_msgget,
    libc::SYS_msgrcv,
    libc::SYS_msgsnd,
    libc::SYS_removexattr,
    libc::SYS_semctl,
    libc::SYS_semget,
    libc::SYS_setxattr,
    libc::SYS_utimensat,
];

/// Calls with paths that proot does not know, and one whose flags lie in memory. Whoever hears that
/// there is no such call uses the older one.
const UNKNOWN: [c_long; 6] = [
    libc::SYS_clone3,
    libc::SYS_execveat,
    libc::SYS_faccessat2,
    libc::SYS_fchmodat2,
    libc::SYS_openat2,
    libc::SYS_statx,
];

/// What is refused of files, in older words that only some architectures have.
#[cfg(target_arch = "x86_64")]
const OF_FILES_OLD: [c_long; 5] = [
    libc::SYS_chown,
    libc::SYS_futimesat,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
];
#[cfg(not(target_arch = "x86_64"))]
const OF_FILES_OLD: [c_long; 0] = [];

/// Sets the mode of a file by path, in the word that only some architectures have.
#[cfg(target_arch = "x86_64")]
pub const CHMOD: Option<c_long> = Some(libc::SYS_chmod);
#[cfg(not(target_arch = "x86_64"))]
pub const CHMOD: Option<c_long> = None;

/// Made by the supervisor, or allowed by it.
pub const ASKED: [c_long; 17] = [
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_listen,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_prlimit64,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
    libc::SYS_setpriority,
    libc::SYS_ioprio_set,
];

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: Option<u32> = Some(0xc000_003e);
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: Option<u32> = Some(0xc000_00b7);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ARCHITECTURE: Option<u32> = None;

/// x86-64 numbers from here on are calls of the x32 variant.
const X32: u32 = 0x4000_0000;

/// Returns the filter for an instance with namespaces; none on an architecture for which we do not
/// know it.
pub fn filter() -> Option<Vec<sock_filter>> {
    let mut program = begin()?;
    for number in REFUSED.into_iter().chain(TRACING) {
        program.extend(on(number, vec![answer(REFUSE)])?);
    }
    program.push(answer(libc::SECCOMP_RET_ALLOW));
    Some(program)
}

/// Returns the filter for one without; whoever loads it gets the descriptor on which it asks.
pub fn supervised() -> Option<Vec<sock_filter>> {
    let mut program = begin()?;
    let refused = REFUSED.into_iter().chain(BY_DESCRIPTOR);
    for number in refused.chain(OF_FILES).chain(OF_FILES_OLD) {
        program.extend(on(number, vec![answer(REFUSE)])?);
    }
    for number in UNKNOWN {
        program.extend(on(number, vec![answer(NO_CALL)])?);
    }
    program.extend(on(libc::SYS_mmap, maps()?)?);
    program.extend(on(
        libc::SYS_clone,
        vec![
            load_argument(0),
            jump(BPF_JSET, NEW_OR_UNTRACED, 0, 1),
            answer(REFUSE),
            answer(libc::SECCOMP_RET_ALLOW),
        ],
    )?);
    for number in ASKED.into_iter().chain(CHMOD) {
        program.extend(on(number, vec![answer(libc::SECCOMP_RET_USER_NOTIF)])?);
    }
    program.extend(on(libc::SYS_socket, sockets())?);
    program.extend(on(libc::SYS_socketpair, stream_of_unix())?);
    // With TCP Fast Open these connect.
    for (number, flags) in [
        (libc::SYS_sendto, 3),
        (libc::SYS_sendmsg, 2),
        (libc::SYS_sendmmsg, 3),
    ] {
        program.extend(on(
            number,
            vec![
                load_argument(flags),
                jump(BPF_JSET, number_of(libc::MSG_FASTOPEN)?, 0, 1),
                answer(REFUSE),
                answer(libc::SECCOMP_RET_ALLOW),
            ],
        )?);
    }
    // A descriptor that is written to can signal a process: whom is asked, the rest refused.
    program.extend(on(
        libc::SYS_fcntl,
        vec![
            load_argument(1),
            jump(BPF_JEQ, number_of(libc::F_SETOWN)?, 0, 1),
            answer(libc::SECCOMP_RET_USER_NOTIF),
            jump(BPF_JEQ, F_SETOWN_EX, 0, 1),
            answer(REFUSE),
            answer(libc::SECCOMP_RET_ALLOW),
        ],
    )?);
    program.extend(on(
        libc::SYS_ioctl,
        vec![
            load_argument(1),
            jump(BPF_JEQ, FIOSETOWN, 1, 0),
            jump(BPF_JEQ, SIOCSPGRP, 0, 1),
            answer(REFUSE),
            answer(libc::SECCOMP_RET_ALLOW),
        ],
    )?);
    program.push(answer(libc::SECCOMP_RET_ALLOW));
    Some(program)
}

const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs();
const NO_FAMILY: u32 = libc::SECCOMP_RET_ERRNO | libc::EAFNOSUPPORT.unsigned_abs();
const NO_TYPE: u32 = libc::SECCOMP_RET_ERRNO | libc::ESOCKTNOSUPPORT.unsigned_abs();
const NO_PROTOCOL: u32 = libc::SECCOMP_RET_ERRNO | libc::EPROTONOSUPPORT.unsigned_abs();

const NO_CALL: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();

/// Flags of clone(2): namespaces, and what traces us does not trace the child.
const NEW_OR_UNTRACED: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_UNTRACED)
    .cast_unsigned();

/// `F_SETOWN_EX`, `FIOSETOWN` and `SIOCSPGRP` of the kernel's headers.
const F_SETOWN_EX: u32 = 15;
const FIOSETOWN: u32 = 0x8901;
const SIOCSPGRP: u32 = 0x8902;

/// The part of a socket's type that is no flag.
const TYPE: u32 = 0xf;

/// Asks for maps that may be what proot makes of brk(2), see [`heap`].
fn maps() -> Option<Vec<sock_filter>> {
    Some(vec![
        load_argument(1),
        jump(BPF_JEQ, u32::try_from(heap::len()).ok()?, 0, 5),
        load_argument(3),
        jump(BPF_JEQ, heap::FLAGS, 0, 3),
        // C libraries for the most part write an `int` here, with an empty upper half.
        load_upper(4),
        jump(BPF_JEQ, u32::MAX, 0, 1),
        answer(libc::SECCOMP_RET_USER_NOTIF),
        answer(libc::SECCOMP_RET_ALLOW),
    ])
}

/// Streams of the three families: an address in a datagram would be read by the kernel alone.
fn sockets() -> Vec<sock_filter> {
    let unix = stream_of_unix();
    let to_inet = u8::try_from(unix.len() + 2).unwrap_or(u8::MAX);
    let mut block = vec![
        load_argument(0),
        jump(BPF_JEQ, libc::AF_UNIX.unsigned_abs(), 3, 0),
        jump(BPF_JEQ, libc::AF_INET.unsigned_abs(), to_inet, 0),
        jump(BPF_JEQ, libc::AF_INET6.unsigned_abs(), to_inet - 1, 0),
        answer(NO_FAMILY),
    ];
    block.extend(unix);
    block.extend([
        load_argument(1),
        step(BPF_ALU | BPF_AND | BPF_K, TYPE, 0, 0),
        jump(BPF_JEQ, libc::SOCK_STREAM.unsigned_abs(), 1, 0),
        answer(NO_TYPE),
        load_argument(2),
        jump(BPF_JEQ, 0, 2, 0),
        jump(BPF_JEQ, libc::IPPROTO_TCP.unsigned_abs(), 1, 0),
        answer(NO_PROTOCOL),
        answer(libc::SECCOMP_RET_ALLOW),
    ]);
    block
}

/// Local sockets that stay with the one they are connected to.
fn stream_of_unix() -> Vec<sock_filter> {
    vec![
        load_argument(1),
        step(BPF_ALU | BPF_AND | BPF_K, TYPE, 0, 0),
        jump(BPF_JEQ, libc::SOCK_STREAM.unsigned_abs(), 2, 0),
        jump(BPF_JEQ, libc::SOCK_SEQPACKET.unsigned_abs(), 1, 0),
        answer(NO_TYPE),
        answer(libc::SECCOMP_RET_ALLOW),
    ]
}

/// Refuses other architectures and loads the number of the call.
fn begin() -> Option<Vec<sock_filter>> {
    // struct seccomp_data: the number at 0, the architecture at 4.
    Some(vec![
        load(4),
        jump(BPF_JEQ, ARCHITECTURE?, 1, 0),
        answer(REFUSE),
        load(0),
        jump(BPF_JGE, X32, 0, 1),
        answer(REFUSE),
    ])
}

/// Does `block`, which ends with an answer on every way, if the call has this number.
fn on(number: c_long, block: Vec<sock_filter>) -> Option<Vec<sock_filter>> {
    let past = u8::try_from(block.len()).ok()?;
    let mut all = vec![jump(BPF_JEQ, u32::try_from(number).ok()?, 0, past)];
    all.extend(block);
    Some(all)
}

fn number_of(flag: c_int) -> Option<u32> {
    u32::try_from(flag).ok()
}

fn load(offset: u32) -> sock_filter {
    step(BPF_LD | BPF_W | BPF_ABS, offset, 0, 0)
}

/// Loads the lower half of an argument: what the kernel reads of one that is an `int`.
fn load_argument(index: u32) -> sock_filter {
    load_half(index, cfg!(target_endian = "big"))
}

/// Loads the upper half of an argument.
fn load_upper(index: u32) -> sock_filter {
    load_half(index, cfg!(target_endian = "little"))
}

fn load_half(index: u32, is_second: bool) -> sock_filter {
    load(16 + 8 * index + 4 * u32::from(is_second))
}

fn jump(kind: u32, k: u32, yes: u8, no: u8) -> sock_filter {
    step(BPF_JMP | kind | BPF_K, k, yes, no)
}

fn answer(value: u32) -> sock_filter {
    step(BPF_RET | BPF_K, value, 0, 0)
}

fn step(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter {
        code: u16::try_from(code).unwrap_or_default(),
        jt,
        jf,
        k,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the few instructions that we use.
    fn run(program: &[sock_filter], data: &[u32; 16]) -> u32 {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let step = program[at];
            at += 1;
            let mut go = |yes: bool| at += usize::from(if yes { step.jt } else { step.jf });
            match u32::from(step.code) {
                code if code == BPF_LD | BPF_W | BPF_ABS => {
                    loaded = data[usize::try_from(step.k / 4).unwrap()];
                }
                code if code == BPF_ALU | BPF_AND | BPF_K => loaded &= step.k,
                code if code == BPF_JMP | BPF_JEQ | BPF_K => go(loaded == step.k),
                code if code == BPF_JMP | BPF_JGE | BPF_K => go(step.k <= loaded),
                code if code == BPF_JMP | BPF_JSET | BPF_K => go(loaded & step.k != 0),
                code => {
                    assert_eq!(code, BPF_RET | BPF_K);
                    return step.k;
                }
            }
        }
    }

    /// A call with its first arguments, as the filter sees it.
    fn call(number: c_long, arguments: &[i32]) -> [u32; 16] {
        let mut data = [0; 16];
        data[0] = u32::try_from(number).unwrap();
        data[1] = ARCHITECTURE.unwrap();
        for (index, argument) in arguments.iter().enumerate() {
            data[4 + 2 * index] = argument.cast_unsigned();
        }
        data
    }

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const ASK: u32 = libc::SECCOMP_RET_USER_NOTIF;
    const HARMLESS: [c_long; 4] = [
        libc::SYS_read,
        libc::SYS_openat,
        libc::SYS_execve,
        libc::SYS_clone,
    ];

    #[test]
    fn listed_calls_are_refused_and_others_allowed() {
        let program = filter().unwrap();
        for number in REFUSED.into_iter().chain(TRACING) {
            assert_eq!(run(&program, &call(number, &[])), REFUSE);
        }
        for number in HARMLESS.into_iter().chain(ASKED) {
            assert_eq!(run(&program, &call(number, &[])), ALLOW);
        }
    }

    #[test]
    fn other_architectures_are_refused() {
        for program in [filter().unwrap(), supervised().unwrap()] {
            let mut foreign = call(libc::SYS_read, &[]);
            foreign[1] = 1;
            assert_eq!(run(&program, &foreign), REFUSE);
            let mut x32 = call(libc::SYS_read, &[]);
            x32[0] = X32;
            assert_eq!(run(&program, &x32), REFUSE);
        }
    }

    #[test]
    fn supervisor_is_asked_for_addresses_and_for_other_processes() {
        let program = supervised().unwrap();
        for number in ASKED {
            assert_eq!(run(&program, &call(number, &[])), ASK);
        }
        for number in REFUSED.into_iter().chain(BY_DESCRIPTOR).chain(OF_FILES) {
            assert_eq!(run(&program, &call(number, &[])), REFUSE);
        }
        let len = i32::try_from(heap::len()).unwrap();
        let mmap = |len, flags, upper| {
            let mut call = call(libc::SYS_mmap, &[0, len, 3, flags, -1, 0]);
            call[13] = upper;
            run(&program, &call)
        };
        assert_eq!(mmap(len, 0x22, u32::MAX), ASK);
        assert_eq!(mmap(len, 0x22, 0), ALLOW);
        assert_eq!(mmap(len, 0x32, u32::MAX), ALLOW);
        assert_eq!(mmap(4096, 0x22, u32::MAX), ALLOW);
        let clone = |flags| run(&program, &call(libc::SYS_clone, &[flags]));
        assert_eq!(
            clone(libc::CLONE_VM | libc::CLONE_THREAD | libc::SIGCHLD),
            ALLOW
        );
        assert_eq!(clone(libc::CLONE_NEWUSER), REFUSE);
        assert_eq!(clone(libc::CLONE_UNTRACED | libc::SIGCHLD), REFUSE);
        for number in UNKNOWN {
            assert_eq!(run(&program, &call(number, &[])), NO_CALL);
        }
        // What shows the tree as the root traces whom it starts.
        for number in HARMLESS.into_iter().chain(TRACING) {
            assert_eq!(run(&program, &call(number, &[])), ALLOW);
        }
        let fcntl = |command| run(&program, &call(libc::SYS_fcntl, &[3, command]));
        assert_eq!(fcntl(libc::F_SETOWN), ASK);
        assert_eq!(fcntl(15), REFUSE);
        assert_eq!(fcntl(libc::F_SETFL), ALLOW);
        let ioctl = |request| run(&program, &call(libc::SYS_ioctl, &[3, request]));
        assert_eq!([ioctl(0x8901), ioctl(0x8902)], [REFUSE; 2]);
        assert_eq!(ioctl(0x5401), ALLOW);
    }

    #[test]
    fn only_streams_are_left_of_sockets() {
        let program = supervised().unwrap();
        let socket = |arguments: [i32; 3]| run(&program, &call(libc::SYS_socket, &arguments));
        let cloexec = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        for lawful in [
            [libc::AF_UNIX, libc::SOCK_STREAM | cloexec, 0],
            [libc::AF_UNIX, libc::SOCK_SEQPACKET, 0],
            [libc::AF_INET, libc::SOCK_STREAM, 0],
            [
                libc::AF_INET6,
                libc::SOCK_STREAM | cloexec,
                libc::IPPROTO_TCP,
            ],
        ] {
            assert_eq!(socket(lawful), ALLOW, "{lawful:?}");
        }
        for (other, refused) in [
            ([libc::AF_NETLINK, libc::SOCK_RAW, 0], NO_FAMILY),
            ([libc::AF_PACKET, libc::SOCK_RAW, 0], NO_FAMILY),
            ([libc::AF_VSOCK, libc::SOCK_STREAM, 0], NO_FAMILY),
            ([libc::AF_UNIX, libc::SOCK_DGRAM, 0], NO_TYPE),
            ([libc::AF_INET, libc::SOCK_DGRAM | cloexec, 0], NO_TYPE),
            ([libc::AF_INET6, libc::SOCK_RAW, 58], NO_TYPE),
            (
                [libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP],
                NO_PROTOCOL,
            ),
        ] {
            assert_eq!(socket(other), refused, "{other:?}");
        }
        let pair = |kind| {
            run(
                &program,
                &call(libc::SYS_socketpair, &[libc::AF_UNIX, kind, 0]),
            )
        };
        assert_eq!(pair(libc::SOCK_STREAM | cloexec), ALLOW);
        assert_eq!(pair(libc::SOCK_DGRAM), NO_TYPE);
    }

    #[test]
    fn data_cannot_connect_on_its_way() {
        let program = supervised().unwrap();
        for (number, before) in [
            (libc::SYS_sendto, 3),
            (libc::SYS_sendmsg, 2),
            (libc::SYS_sendmmsg, 3),
        ] {
            let with = |flags: i32| {
                let mut arguments = vec![0; before];
                arguments.push(flags);
                run(&program, &call(number, &arguments))
            };
            assert_eq!(with(libc::MSG_NOSIGNAL), ALLOW);
            assert_eq!(with(libc::MSG_FASTOPEN | libc::MSG_NOSIGNAL), REFUSE);
        }
    }
}
