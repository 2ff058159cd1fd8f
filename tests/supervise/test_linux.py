"""The few system calls and /proc readings."""

import os
import resource
import subprocess
from pathlib import Path

from tests.supervise.rig import in_subreaper
from unjam.supervise import linux


def test_a_name_with_spaces_and_parentheses_does_not_confuse_the_stat_file(tmp_path: Path) -> None:
    odd = tmp_path / "a) R 1 (b"
    odd.symlink_to("/bin/sleep")
    child = subprocess.Popen([str(odd), "60"])
    try:
        stat = linux.proc_stat(child.pid)
        assert stat is not None
        assert stat.ppid == os.getpid()
        assert stat.state in "RSD"
    finally:
        child.kill()
        child.wait()


def test_children_files_and_the_scan_agree() -> None:
    children = [subprocess.Popen(["/bin/sleep", "60"]) for _ in range(3)]
    try:
        pids = {child.pid for child in children}
        assert pids <= set(linux.children())
        assert pids <= set(linux.children_by_scan(os.getpid()))
        assert pids <= set(linux.descendants())
        assert pids <= set(linux.descendants_by_scan(os.getpid()))
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert not pids & set(linux.children())


def test_a_process_that_is_not_there_has_no_stat_and_no_children() -> None:
    gone = 2**22 + 5
    assert linux.proc_stat(gone) is None
    assert linux.children(gone) == []


def test_a_hole_gives_blocks_back_and_keeps_the_size(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * (1 << 20))
    fd = os.open(path, os.O_RDWR)
    try:
        os.fsync(fd)
        before = path.stat().st_blocks
        if linux.punch_hole(fd, 0, 512 * 1024):
            assert path.stat().st_blocks < before
            assert path.read_bytes() == b"\0" * (512 * 1024) + b"x" * (512 * 1024)
        assert path.stat().st_size == 1 << 20
        assert linux.punch_hole(fd, 0, 0) is False
    finally:
        os.close(fd)


def test_punching_a_pipe_is_refused_not_raised() -> None:
    read, write = os.pipe()
    assert linux.punch_hole(write, 0, 4096) is False
    os.close(read)
    os.close(write)


def test_dying_with_a_parent_that_is_already_dead_ends_at_once() -> None:
    def check() -> None:
        parent = subprocess.Popen(["/bin/true"])
        pidfd = os.pidfd_open(parent.pid)
        parent.wait()
        child = os.fork()
        if child == 0:
            linux.die_with(pidfd)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 125

    in_subreaper(check)


def test_without_descriptors_a_namespace_is_not_left_and_nothing_is_raised() -> None:
    def check() -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        assert linux.leave_new_pid_namespace() is False

    in_subreaper(check)
