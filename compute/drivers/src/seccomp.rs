//! System calls that no service needs and that have often been a way into the kernel.
//!
//! A short list of what is refused, not a long one of what is allowed: software of any kind runs
//! here, and namespaces, dropped capabilities and no-new-privileges do the main work. Refused calls
//! fail with EPERM. Calls of another architecture are refused altogether.

use libc::{BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter};

const REFUSED: [libc::c_long; 33] = [
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
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
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

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: Option<u32> = Some(0xc000_003e);
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: Option<u32> = Some(0xc000_00b7);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ARCHITECTURE: Option<u32> = None;

/// x86-64 numbers from here on are calls of the x32 variant.
const X32: u32 = 0x4000_0000;

/// Returns the filter; none on an architecture for which we do not know it.
pub fn filter() -> Option<Vec<sock_filter>> {
    let architecture = ARCHITECTURE?;
    let load = |offset| step(BPF_LD | BPF_W | BPF_ABS, offset, 0, 0);
    let answer = |value| step(BPF_RET | BPF_K, value, 0, 0);
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs();
    let count = u8::try_from(REFUSED.len()).ok()?;

    // struct seccomp_data: the number at 0, the architecture at 4.
    let mut program = vec![
        load(4),
        step(BPF_JMP | BPF_JEQ | BPF_K, architecture, 0, count + 3),
        load(0),
        step(BPF_JMP | BPF_JGE | BPF_K, X32, count + 1, 0),
    ];
    for (left, number) in (0..count).rev().zip(REFUSED) {
        let number = u32::try_from(number).ok()?;
        program.push(step(BPF_JMP | BPF_JEQ | BPF_K, number, left + 1, 0));
    }
    program.push(answer(libc::SECCOMP_RET_ALLOW));
    program.push(answer(refuse));
    Some(program)
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
    fn run(program: &[sock_filter], number: u32, architecture: u32) -> u32 {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let step = program[at];
            at += 1;
            match u32::from(step.code) {
                code if code == BPF_LD | BPF_W | BPF_ABS => {
                    loaded = if step.k == 0 { number } else { architecture };
                }
                code if code == BPF_JMP | BPF_JEQ | BPF_K => {
                    at += usize::from(if loaded == step.k { step.jt } else { step.jf });
                }
                code if code == BPF_JMP | BPF_JGE | BPF_K => {
                    at += usize::from(if step.k <= loaded { step.jt } else { step.jf });
                }
                _ => return step.k,
            }
        }
    }

    #[test]
    fn listed_calls_are_refused_and_others_allowed() {
        let program = filter().unwrap();
        let architecture = ARCHITECTURE.unwrap();
        let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs();
        for number in REFUSED {
            assert_eq!(
                run(&program, u32::try_from(number).unwrap(), architecture),
                refuse
            );
        }
        for number in [
            libc::SYS_read,
            libc::SYS_openat,
            libc::SYS_execve,
            libc::SYS_clone,
        ] {
            let number = u32::try_from(number).unwrap();
            assert_eq!(run(&program, number, architecture), libc::SECCOMP_RET_ALLOW);
        }
        assert_eq!(run(&program, 0, 1), refuse);
        assert_eq!(run(&program, X32, architecture), refuse);
    }
}
