"""One attempt in a guardian's care: waits for go, starts the tree, keeps its clocks alone, ends it to the
last process.

It trusts nobody to be awake: a frozen worker changes neither the deadline nor the end of the lease, and a
dead one ends the tree within milliseconds.
"""

import os
import resource
import select
import signal
import socket
import traceback
from typing import Any, NoReturn

from unjam.supervise import attempt, kill, linux, nsinit, protocol, userns
from unjam.supervise.clocks import Clocks
from unjam.supervise.faults import FaultPoints
from unjam.supervise.memory import MemoryWatch
from unjam.supervise.usage import Sample, TreeUsage
from unjam.supervise.values import SHORT_OF, Killer

KILL_LIMIT = 2.0  # seconds after SIGKILL until what is left counts as stuck (uninterruptible sleep)
USAGE_SECONDS = 10.0
"""Silence after which what a tree uses is told again although it uses the same: as long as the worker looks
back for its use of CPU."""
EXIT_SHORT = 73  # PID 1 of the namespace could not fork

_HELD_BACK = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCONT}


class _Unstarted(Exception):
    """Nothing of the attempt ran; the worker has been told why."""


class Ward:
    """Life of one attempt as its guardian sees it.

    worker: pidfd of the worker.
    """

    def __init__(self, request: dict[str, Any], ctl: socket.socket, channel_fd: int, worker: int) -> None:
        self._request = request
        self._ctl = ctl
        self._channel_fd = channel_fd
        self._worker = worker
        limits = request["limits"]
        self._grace: float = limits["grace"]
        self._memory = MemoryWatch(limits["memory_bytes"])
        self._ids = userns.own_ids()  # an ordinary user's: his PID namespaces need a user namespace
        self._clocks = Clocks(limits["deadline"], self._grace)
        self._top = 0  # our child: the attempt, or PID 1 of its namespace
        self._top_fd = -1
        self._report_fd = -1  # where PID 1 of the namespace tells how the attempt ended
        self._status: int | None = None
        self._announced = False
        self._killed = 0
        self._reason: str | None = None
        self._peak = 0
        self._cpu = 0.0
        self._reaped_cpu = 0.0  # of this attempt: RUSAGE_CHILDREN has all the guardian ever reaped
        self._told: Sample | None = None
        self._told_twice = False  # that nothing changed
        self._told_at = 0.0
        self._over_memory = False
        self._oom: Killer | None = None

    def guard(self) -> bool:
        """From hello to the proof that nothing of the tree is left. True: this guardian may take another.

        Only after an attempt that ended by itself: whoever had to be ended is the reason for a clean start.
        """
        self._say({"ev": "hello", "pid": os.getpid()})
        try:
            self._wait_for_go()
            self._pass_by("go_heard")
            self._start()
        except _Unstarted:
            return False
        self._watch()
        self._pass_by("attempt_over")
        return self._end()

    def _pass_by(self, point: str) -> None:
        FaultPoints.from_environment().pass_by(point, self._request["name"].partition("/")[0])

    # -- before the attempt --------------------------------------------------------------------------------

    def _wait_for_go(self) -> None:
        """The worker stores our identity first, so nothing ever runs that its store does not know."""
        poller = select.poll()
        poller.register(self._ctl, select.POLLIN)
        poller.register(self._worker, select.POLLIN)
        while True:
            ready = dict(poller.poll())
            message, _ = protocol.receive(self._ctl) if self._worker not in ready else (None, [])
            if message is None:
                os._exit(0)
            if message["op"] == "go":
                self._clocks.go(message["lease_until"], linux.boottime())
                return
            if message["op"] in ("abandon", "stop", "kill"):
                self._finish_unstarted(message.get("reason") or "abandoned")

    def _finish_unstarted(self, reason: str, failure: str | None = None) -> NoReturn:
        self._reason = reason
        if failure:
            _note(failure)
        self._say_done(failure)
        raise _Unstarted

    def _start(self) -> None:
        overdue = self._clocks.act(linux.boottime())
        if overdue.ask is not None:
            self._finish_unstarted(overdue.ask, "the lease was over before the attempt began")
        containment = self._request["containment"]
        if containment == "pidns" and self._ids is None:
            try:
                linux.unshare(linux.CLONE_NEWPID)
            except OSError as error:
                if self._request["insist"]:
                    self._finish_unstarted("start_failed", str(error))
                containment = "tree"  # out of namespaces just now: the tree is still ours without one
        self._request["containment"] = containment
        self._memory.enclose(self._request["mark"], str(os.getpid()))
        try:
            self._fork()
        except OSError as error:
            # It may be born all the same: without a descriptor for it we could not watch it.
            kill.kill_my_children(self._on_reap)
            self._memory.leave()
            self._finish_unstarted(
                "short" if error.errno in SHORT_OF else "start_failed", f"fork: {error.strerror}"
            )

    def _fork(self) -> None:
        me = os.pidfd_open(os.getpid())
        inside = self._request["containment"] == "pidns"
        report_read, report_write = os.pipe() if inside else (-1, -1)
        gate, ours = os.pipe() if self._memory.group else (-1, -1)
        # Held back until the child has its handlers: a stop that comes this early must not be lost.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)
        pid = userns.fork_inside() if inside and self._ids else os.fork()
        if pid == 0:
            try:
                if gate >= 0:
                    _wait_at(gate, ours)
                self._become_child(me, report_read, report_write)
            except BaseException as error:  # noqa: BLE001 - the child's last words
                traceback.print_exc()
                if isinstance(error, OSError) and error.errno in SHORT_OF:
                    os._exit(EXIT_SHORT)
            finally:
                os._exit(72)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(me)
        # Ours must go, or the worker would never see the channel's end.
        os.close(self._channel_fd)
        self._top, self._top_fd = pid, os.pidfd_open(pid)
        if gate >= 0:
            self._memory.admit(pid)
            os.write(ours, b"g")
            os.close(gate)
            os.close(ours)
        if inside:
            os.close(report_write)
            self._report_fd = report_read
        else:
            self._announce(pid)

    def _become_child(self, guardian: int, report_read: int, report_fd: int) -> NoReturn:
        linux.die_with(guardian)
        os.setsid()
        self._ctl.close()
        os.close(self._worker)
        if report_fd >= 0:
            os.close(report_read)
            if self._ids:
                userns.settle(self._ids)
            # Here and not in the guardian: with this /proc it could not see its own children any more.
            linux.mount_private_proc()
            if self._ids:
                userns.drop_capabilities()
            child = os.fork()
            if child:
                os.close(self._channel_fd)
                nsinit.serve(child, report_fd)
            os.setsid()
            os.close(report_fd)
        os.close(guardian)
        attempt.run(self._request, self._channel_fd)

    def _announce(self, pid: int) -> None:
        self._announced = True
        held = self._request["containment"] + ("+cgroup" if self._memory.group else "")
        self._say({"ev": "started", "pid": pid, "containment": held, "at": linux.boottime()})

    # -- while it runs -------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Returns when the attempt has ended or must be killed now."""
        poller = select.poll()
        for fd in (self._ctl.fileno(), self._worker, self._top_fd):
            poller.register(fd, select.POLLIN)
        if self._report_fd >= 0:
            poller.register(self._report_fd, select.POLLIN)
        usage = TreeUsage(os.getpid(), uncounted=self._top if self._report_fd >= 0 else 0)
        next_sample = linux.boottime() + self._memory.first_look()
        while self._status is None:
            now = linux.boottime()
            verdict = self._clocks.act(now)
            if verdict.ask is not None:
                self._ask_to_end(verdict.ask)
            if verdict.kill:
                return
            wait = max(0.0, min(verdict.next_at, next_sample) - now)
            ready = dict(poller.poll(int(wait * 1000) + 1))
            if self._worker in ready:
                self._reason = self._reason or "worker_died"
                return
            if self._ctl.fileno() in ready and not self._obey():
                return
            if self._report_fd in ready and not self._announced:
                poller.unregister(self._report_fd)
                self._announce_inside()
            if self._top_fd in ready:
                return
            if linux.boottime() >= next_sample:
                next_sample = linux.boottime() + self._sample(usage)
                if self._over_memory:
                    self._reason = self._reason or "memory"
                    return
                kill.reap_all(self._on_reap)  # adopted orphans that ended by themselves

    def _announce_inside(self) -> None:
        """PID 1 has forked the attempt: its first child, whose number out here only /proc knows."""
        inside = linux.children(self._top)
        self._announce(inside[0] if inside else self._top)

    def _obey(self) -> bool:
        """One message of the worker. False: kill now."""
        message, _ = protocol.receive(self._ctl)
        if message is None:
            self._reason = self._reason or "worker_died"
            return False
        match message["op"]:
            case "renew":
                self._clocks.renew(message["lease_until"])
            case "stop":
                grace = message["grace"]
                self._clocks.stop(linux.boottime(), self._grace if grace is None else grace)
                self._ask_to_end(message["reason"])
            case "kill":
                self._reason = self._reason or message["reason"]
                return False
        return True

    def _ask_to_end(self, reason: str) -> None:
        """TERM, then CONT for a stopped one. Once: a second TERM makes ffmpeg drop the file's trailer."""
        if self._reason is not None:
            return
        self._reason = reason
        linux.send_pidfd(self._top_fd, signal.SIGTERM)
        linux.send_pidfd(self._top_fd, signal.SIGCONT)

    def _sample(self, usage: TreeUsage) -> float:
        """Look at what the tree uses; returns seconds until the next look."""
        cpu, rss, processes = usage.sample()
        # A child whose parent ignores SIGCHLD takes its time with it: never let the total go back.
        self._cpu = max(self._cpu, cpu + self._reaped_cpu)
        self._peak = max(self._peak, rss)
        self._tell(Sample(self._cpu, rss, processes))
        self._over_memory = self._memory.over(rss)
        return self._memory.look_again_in(rss)

    def _tell(self, sample: Sample) -> None:
        """Nothing new is told once, so that the worker knows that no CPU was used, and then every 10 s."""
        now, same = linux.boottime(), sample == self._told
        if same and self._told_twice and now - self._told_at < USAGE_SECONDS:
            return
        said = {"ev": "usage", "cpu": sample.cpu, "rss": sample.rss, "processes": sample.processes, "at": now}
        if self._say(said, socket.MSG_DONTWAIT):
            self._told, self._told_twice, self._told_at = sample, same, now

    # -- the end -------------------------------------------------------------------------------------------

    def _on_reap(self, pid: int, status: int, used: resource.struct_rusage) -> None:
        self._reaped_cpu += used.ru_utime + used.ru_stime
        self._peak = max(self._peak, used.ru_maxrss * 1024)
        if pid == self._top:
            self._status = status

    def _end(self) -> bool:
        """Kill to ECHILD (INV-ORPHAN), however long the kernel takes; then, and only then, say done."""
        if self._reason is not None:
            self._say({"ev": "killing"}, socket.MSG_DONTWAIT)
        again = False
        while True:
            gone, hit = kill.kill_my_children(self._on_reap, KILL_LIMIT, again=again)
            self._killed = max(self._killed, hit)
            if gone:
                break
            left = [(pid, stat.state) for pid in linux.descendants() if (stat := linux.proc_stat(pid))]
            self._say(
                {"ev": "stuck", "pids": [pid for pid, _ in left], "states": [state for _, state in left]},
                socket.MSG_DONTWAIT,
            )
            again = True
        if self._report_fd >= 0:
            self._status = self._status_inside()
            os.close(self._report_fd)
        os.close(self._top_fd)
        self._judge_memory()
        stays = self._may_stay()
        self._say_done(None, stays)
        return stays

    def _may_stay(self) -> bool:
        if not self._request["keep"] or self._reason is not None:
            return False
        if self._status is None or not os.WIFEXITED(self._status):
            return False  # it died by a signal: whatever sent that may have been at us too
        entered = self._request["containment"] == "pidns" and self._ids is None
        return not entered or linux.leave_new_pid_namespace()

    def _judge_memory(self) -> None:
        """Was it the kernel's killer? An attempt that lost a process to it and still did well, did well."""
        if self._status != 0:
            self._oom = self._memory.killer()
        self._peak = self._memory.peak() or self._peak
        self._memory.leave()
        if self._oom == "group":
            self._reason = self._reason or "memory"
        if self._reason == "memory" and self._memory.limit is not None:
            _note(f"ended for memory: peak {self._peak >> 20} MiB of {self._memory.limit >> 20} MiB")

    def _status_inside(self) -> int:
        """How the attempt ended, told by PID 1; or how PID 1 itself failed; if it was killed, so was the
        attempt."""
        status = nsinit.read_status(self._report_fd)
        if status is not None:
            return status
        if self._status is not None and os.WIFEXITED(self._status):
            short = os.WEXITSTATUS(self._status) == EXIT_SHORT
            self._reason = self._reason or ("short" if short else "start_failed")
            return self._status
        return signal.SIGKILL

    def _say_done(self, failure: str | None, stays: bool = False) -> None:
        done = {
            "ev": "done",
            "status": self._status,
            "reason": self._reason,
            "killed": self._killed,
            "cpu": max(self._cpu, self._reaped_cpu),
            "peak": self._peak,
            "failure": failure,
            "stays": stays,
            "oom": self._oom,
        }
        # A frozen worker may have left the socket full. The end must reach it: wait for room, or for its
        # death.
        poller = select.poll()
        poller.register(self._ctl, select.POLLOUT)
        poller.register(self._worker, select.POLLIN)
        while self._worker not in dict(poller.poll()):
            if self._say(done, socket.MSG_DONTWAIT):
                return

    def _say(self, message: protocol.Message, flags: int = 0) -> bool:
        """False when the worker's socket is full. A dead worker is not news here: its pidfd tells."""
        try:
            protocol.send(self._ctl, message, flags=flags)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True


def _wait_at(gate: int, ours: int) -> None:
    """The attempt stands still until it is in its control group: whoever joins later is outside of it."""
    os.close(ours)
    if not os.read(gate, 1):
        os._exit(72)  # the guardian died
    os.close(gate)


def _note(text: str) -> None:
    """Into the attempt's log, which our stderr is: whoever was killed could not say it there."""
    try:
        os.write(2, f"unjam: {text}\n".encode())
    except OSError:
        return  # a full disk must not keep the end from the worker
