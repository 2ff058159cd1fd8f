"""Every setting with its unit, range and meaning; values come from flag, variable, file or default."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unjam.errors import UsageError
from unjam.measures import parse_duration, parse_size

NOT_SETTINGS = ("UNJAM__", "UNJAM_JOB_", "UNJAM_TEST_")
"""Variables that unjam gives to its own processes and jobs begin so: never taken for a mistyped setting."""

_DERIVED = Path("derived")
"""Compared by identity: a folder nobody chose lies under `home`."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a setting may be. `read` makes the value of a text or TOML value and the folder it starts from."""

    help: str
    read: Callable[[Any, Path], Any]
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()


def _path(value: Any, base: Path) -> Path:
    return base / Path(_text(value, base)).expanduser()


def _text(value: Any, _base: Path) -> str:
    if not isinstance(value, str | os.PathLike) or not str(value):
        raise UsageError(f"{value!r} is not a text")
    return str(value)


def _whole(value: Any, _base: Path) -> int:
    try:
        if isinstance(value, bool | float):
            raise ValueError
        return int(value)
    except (TypeError, ValueError):
        raise UsageError(f"{value!r} is not a whole number") from None


def _number(value: Any, _base: Path) -> float:
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(value)
    except (TypeError, ValueError):
        raise UsageError(f"{value!r} is not a number") from None


def _duration(value: Any, _base: Path) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UsageError(f"{value!r} is not a duration")
    return parse_duration(value)


def _size(value: Any, _base: Path) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UsageError(f"{value!r} is not a size")
    return parse_size(value)


def _flag(value: Any, _base: Path) -> bool:
    if isinstance(value, bool):
        return value
    known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if isinstance(value, str) and value.strip().lower() in known:
        return known[value.strip().lower()]
    raise UsageError(f"{value!r} is neither true nor false")


def _names(value: Any, _base: Path) -> tuple[str, ...]:
    items = value.split(",") if isinstance(value, str) else list(value)
    return tuple(name.strip() for name in items if name.strip())


def _store(value: Any, base: Path) -> str:
    """`sqlite:///PATH` (PATH relative or absolute), a bare path, or `postgresql://...`."""
    text = _text(value, base)
    if text.startswith(("postgresql://", "postgres://")):
        return text
    scheme, separator, _rest = text.partition("://")
    if separator and scheme != "sqlite":
        raise UsageError(f"{text!r}: a store is sqlite:///PATH or postgresql://...")
    name = text.removeprefix("sqlite:///").removeprefix("sqlite://")
    return sqlite_url(_path(name.replace("%25", "%") if separator else name, base))


def _ffmpeg(value: Any, base: Path) -> str:
    text = _text(value, base)
    return text if text in ("pinned", "system") else str(_path(text, base))


def sqlite_url(path: Path) -> str:
    """The store URL of the SQLite file at an absolute path."""
    return "sqlite:///" + str(path).replace("%", "%25")


def _rule(
    help: str,
    read: Callable[[Any, Path], Any],
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
) -> dict[str, Rule]:
    return {"rule": Rule(help, read, unit, low, high, choices)}


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one process. What is left out follows from `home` and from the machine."""

    home: Path = field(default=_DERIVED, metadata=_rule("state folder: store, logs, unfinished work", _path))
    store: str = field(
        default="", metadata=_rule("where jobs live: sqlite:///PATH or postgresql://...", _store)
    )
    ffmpeg: str = field(
        default="pinned",
        metadata=_rule("ffmpeg: 'pinned' (of the wheel), 'system' (on PATH, >= 5.1) or a path", _ffmpeg),
    )
    work_root: Path = field(
        default=_DERIVED, metadata=_rule("folder of finished units of unfinished jobs", _path)
    )
    log_root: Path = field(default=_DERIVED, metadata=_rule("folder of the attempts' log files", _path))
    slots: int = field(
        default=0, metadata=_rule("CPU slots of this machine for all its jobs", _whole, "slots", 1, 4096)
    )
    memory_bytes: int = field(
        default=0,
        metadata=_rule("memory of this machine for all its jobs; else 90 % of it", _size, "bytes", 2**20),
    )
    lease_ttl: float = field(
        default=30.0,
        metadata=_rule(
            "a job whose worker was silent this long is taken over", _duration, "seconds", 2, 3600
        ),
    )
    renew_every: float = field(
        default=10.0,
        metadata=_rule(
            "how often leases are renewed; at most lease_ttl / 2", _duration, "seconds", 0.2, 1800
        ),
    )
    grace: float = field(
        default=5.0, metadata=_rule("time between TERM and KILL", _duration, "seconds", 0, 600)
    )
    poll_every: float = field(
        default=1.0,
        metadata=_rule("a worker looks for jobs at least this often", _duration, "seconds", 0.05, 60),
    )
    attach_ttl: float = field(
        default=10.0,
        metadata=_rule("jobs of a `run` that vanished are paused after this", _duration, "seconds", 3, 3600),
    )
    containment: str = field(
        default="auto",
        metadata=_rule(
            "how attempts are fenced in. auto: as root a PID namespace if possible, else the process tree. "
            "pidns: insists on one, which for an ordinary user lies in a user namespace",
            _text,
            choices=("auto", "pidns", "tree"),
        ),
    )
    pipelines: tuple[str, ...] = field(
        default=(), metadata=_rule("more modules that hold pipelines, separated by commas", _names)
    )
    keep_finished_days: float = field(
        default=30.0, metadata=_rule("ended jobs are forgotten after this", _number, "days", 0, 36500)
    )
    log_max_bytes: int = field(
        default=64 * 2**20, metadata=_rule("a log longer than this loses its middle", _size, "bytes", 2**16)
    )
    host_id: str = field(
        default="",
        metadata=_rule("what tells this machine from the others of a store; else its machine id", _text),
    )
    nice: int = field(
        default=0, metadata=_rule("niceness of jobs: 0 normal, 19 only when idle", _whole, "", 0, 19)
    )
    background: bool = field(
        default=False,
        metadata=_rule("jobs yield to everything else: niceness at least 10, disk only when idle", _flag),
    )

    def __post_init__(self) -> None:
        home = default_home(os.environ) if self.home is _DERIVED else self.home
        derived: dict[str, Any] = {"home": home}
        if not self.store:
            derived["store"] = sqlite_url(home / "unjam.db")
        for name, folder in (("work_root", "work"), ("log_root", "logs")):
            if getattr(self, name) is _DERIVED:
                derived[name] = home / folder
        if not self.slots:
            derived["slots"] = available_cpus()
        if not self.memory_bytes:
            derived["memory_bytes"] = available_memory() * 9 // 10
        for name, value in derived.items():
            object.__setattr__(self, name, value)


RULES: dict[str, Rule] = {f.name: f.metadata["rule"] for f in dataclasses.fields(Settings)}


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings in force and, for each, where its value comes from."""

    settings: Settings
    origins: Mapping[str, str]


def load(
    flags: Mapping[str, Any] | None = None,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    user_config: Path | None = None,
) -> Settings:
    """The settings in force: flag > UNJAM_* > ./unjam.toml > user config > default. Raises UsageError."""
    return load_with_origins(flags, env=env, cwd=cwd, user_config=user_config).settings


def load_with_origins(
    flags: Mapping[str, Any] | None = None,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    user_config: Path | None = None,
) -> Loaded:
    """Like `load`, with the origin of every value. A flag whose value is None was not given."""
    env = os.environ if env is None else env
    cwd = Path.cwd() if cwd is None else cwd
    values: dict[str, Any] = {"home": default_home(env)}
    origins = dict.fromkeys(RULES, "default")
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    for name in given:
        if name not in RULES:
            raise UsageError(f"{name}: no such setting{near_match(name, RULES)}; see `unjam config show`")
    sources = (
        *_from_file(default_user_config(env) if user_config is None else user_config),
        *_from_file(cwd / "unjam.toml"),
        *_from_env(env, cwd),
        *((name, f"flag --{name.replace('_', '-')}", value, cwd) for name, value in given.items()),
    )
    for name, origin, raw, base in sources:
        values[name] = _checked(name, raw, base, origin)
        origins[name] = origin
    settings = Settings(**values)
    if settings.renew_every > settings.lease_ttl / 2:
        raise UsageError(
            f"renew_every ({settings.renew_every:g} s, {origins['renew_every']}) is more than half of "
            f"lease_ttl ({settings.lease_ttl:g} s): one late renewal would lose the lease"
        )
    return Loaded(settings, origins)


def as_environment(settings: Settings) -> dict[str, str]:
    """The settings as UNJAM_* variables, so that a process started from here reads exactly the same."""
    result = {}
    for name in RULES:
        value = getattr(settings, name)
        result[_variable(name)] = ",".join(value) if isinstance(value, tuple) else str(value)
    return {name: text for name, text in result.items() if text}


def default_home(env: Mapping[str, str]) -> Path:
    """The XDG state folder of unjam."""
    return _xdg(env, "XDG_STATE_HOME", ".local/state")


def default_user_config(env: Mapping[str, str]) -> Path:
    """The user's own configuration file."""
    return _xdg(env, "XDG_CONFIG_HOME", ".config") / "config.toml"


def _xdg(env: Mapping[str, str], variable: str, fallback: str) -> Path:
    # The specification says that a relative path in these variables is to be ignored.
    if (chosen := env.get(variable, "")).startswith("/"):
        return Path(chosen) / "unjam"
    home = Path(env["HOME"]) if env.get("HOME", "").startswith("/") else Path.home()
    return home / fallback / "unjam"


def available_cpus() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int:
    """Bytes of memory of this machine, or of the control group that holds it."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(limit).read_text().strip()
        except OSError:
            continue  # another version of control groups, or none
        if text.isdigit():
            total = min(total, int(text))
    return total


_Source = tuple[str, str, Any, Path]


def _variable(name: str) -> str:
    return f"UNJAM_{name.upper()}"


def _from_env(env: Mapping[str, str], cwd: Path) -> list[_Source]:
    known = {_variable(name): name for name in RULES}
    found: list[_Source] = []
    for variable, value in env.items():
        if not variable.startswith("UNJAM_") or variable.startswith(NOT_SETTINGS) or not value:
            continue
        if variable not in known:
            raise UsageError(f"{variable}: no such setting{near_match(variable, known)}")
        found.append((known[variable], variable, value, cwd))
    return found


def _from_file(path: Path) -> list[_Source]:
    if not path.is_file():
        return []
    import tomllib

    try:
        table = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as TOML: {error}") from error
    for key in table:
        if key not in RULES:
            raise UsageError(f"{path}: no such setting: {key}{near_match(key, RULES)}")
    return [(key, str(path), value, path.parent) for key, value in table.items()]


def _checked(name: str, raw: Any, base: Path, origin: str) -> Any:
    rule = RULES[name]
    try:
        value = rule.read(raw, base)
    except (UsageError, TypeError, AttributeError) as error:
        raise UsageError(f"{origin}: {name}: {error}") from error
    if rule.choices and value not in rule.choices:
        raise UsageError(f"{origin}: {name} is one of {', '.join(rule.choices)}, not {value!r}")
    if (rule.low is not None and value < rule.low) or (rule.high is not None and value > rule.high):
        raise UsageError(f"{origin}: {name} = {value:g} is out of range: {show_range(rule)}")
    return value


def show_range(rule: Rule) -> str:
    """The range of a setting for people."""
    if rule.choices:
        return " | ".join(rule.choices)
    if rule.low is None:
        return ""
    low, high = (str(edge).removesuffix(".0") for edge in (rule.low, rule.high))
    return (
        f"{low} to {high} {rule.unit}" if rule.high is not None else f"at least {low} {rule.unit}"
    ).rstrip()


def near_match(word: str, known: Mapping[str, Any] | tuple[str, ...] | list[str]) -> str:
    """ "; did you mean ...?" for the closest known word, else nothing."""
    import difflib

    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""
