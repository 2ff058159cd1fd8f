"""Attacks on the settings: who wins, what is refused, what is derived."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from unjam.errors import UsageError
from unjam.measures import parse_duration, parse_size, show_duration, show_size
from unjam.settings import RULES, Loaded, Settings, as_environment, load, load_with_origins


class World:
    """A folder, a user configuration and an environment of their own."""

    def __init__(self, root: Path) -> None:
        self.cwd = root / "project"
        self.cwd.mkdir()
        self.user_config = root / "config.toml"
        self.env = {"HOME": str(root / "me")}

    def load(self, **flags: Any) -> Loaded:
        return load_with_origins(flags, env=self.env, cwd=self.cwd, user_config=self.user_config)

    def error(self, **flags: Any) -> str:
        with pytest.raises(UsageError) as caught:
            self.load(**flags)
        return str(caught.value)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_each_source_wins_over_the_one_below(world: World) -> None:
    assert (world.load().settings.grace, world.load().origins["grace"]) == (5.0, "default")
    world.user_config.write_text("grace = 1\n")
    assert (world.load().settings.grace, world.load().origins["grace"]) == (1.0, str(world.user_config))
    (world.cwd / "unjam.toml").write_text('grace = "2s"\n')
    assert world.load().settings.grace == 2
    assert world.load().origins["grace"] == str(world.cwd / "unjam.toml")
    world.env["UNJAM_GRACE"] = "3"
    assert (world.load().settings.grace, world.load().origins["grace"]) == (3.0, "UNJAM_GRACE")
    assert (world.load(grace="4").settings.grace, world.load(grace="4").origins["grace"]) == (
        4.0,
        "flag --grace",
    )
    assert world.load(grace=None).settings.grace == 3


def test_first_use_needs_no_configuration(world: World) -> None:
    home = Path(world.env["HOME"]) / ".local/state/unjam"
    settings = world.load().settings
    assert settings.home == home
    assert settings.store == f"sqlite:///{home}/unjam.db"
    assert (settings.work_root, settings.log_root) == (home / "work", home / "logs")
    assert settings.slots >= 1
    assert settings.memory_bytes > 2**20


def test_the_state_folder_follows_xdg_and_ignores_a_relative_one(world: World, tmp_path: Path) -> None:
    world.env["XDG_STATE_HOME"] = str(tmp_path / "state")
    assert world.load().settings.home == tmp_path / "state/unjam"
    world.env["XDG_STATE_HOME"] = "relative"
    assert world.load().settings.home == Path(world.env["HOME"]) / ".local/state/unjam"


def test_everything_in_the_home_follows_the_home(world: World, tmp_path: Path) -> None:
    world.env["UNJAM_HOME"] = str(tmp_path / "h")
    settings = world.load().settings
    assert settings == Settings(home=tmp_path / "h")
    assert settings.store == f"sqlite:///{tmp_path}/h/unjam.db"


def test_paths_are_relative_to_where_they_were_written(world: World) -> None:
    (world.cwd / "unjam.toml").write_text('work_root = "w"\n')
    world.user_config.write_text('log_root = "l"\n')
    settings = world.load().settings
    assert settings.work_root == world.cwd / "w"
    assert settings.log_root == world.user_config.parent / "l"


@pytest.mark.parametrize("text", ["jobs.db", "sqlite:///jobs.db"])
def test_a_relative_store_is_made_absolute(world: World, text: str) -> None:
    world.env["UNJAM_STORE"] = text
    assert world.load().settings.store == f"sqlite:///{world.cwd}/jobs.db"


def test_an_absolute_store_and_postgresql_stay(world: World) -> None:
    for url in ("sqlite:////var/jobs.db", "postgresql://host/db"):
        world.env["UNJAM_STORE"] = url
        assert world.load().settings.store == url
    world.env["UNJAM_STORE"] = "mysql://host/db"
    assert "a store is sqlite:///PATH or postgresql://" in world.error()


def test_an_unknown_variable_is_an_error_that_names_the_near_match(world: World) -> None:
    world.env["UNJAM_STOER"] = "x"
    assert world.error() == "UNJAM_STOER: no such setting; did you mean UNJAM_STORE?"


def test_variables_of_jobs_and_of_our_own_processes_are_no_settings(world: World) -> None:
    world.env |= {"UNJAM_JOB_ID": "j1", "UNJAM__FD": "3", "UNJAM_TEST_SEED": "1"}
    assert world.load().origins["store"] == "default"


def test_an_unknown_key_is_an_error_that_names_file_and_near_match(world: World) -> None:
    path = world.cwd / "unjam.toml"
    path.write_text("slot = 2\n")
    assert world.error() == f"{path}: no such setting: slot; did you mean slots?"


@pytest.mark.parametrize(
    "text", ["slots = ", "\x00", "[slots]\nx = 1", "slots = [1]", "slots = 1.5", "slots = true"]
)
def test_a_file_that_makes_no_sense_is_named(world: World, text: str) -> None:
    path = world.cwd / "unjam.toml"
    path.write_text(text)
    assert str(path) in world.error()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("slots", "0", "1 to 4096 slots"),
        ("slots", "two", "not a whole number"),
        ("grace", "-1", "not a duration"),
        ("grace", "11m", "0 to 600 seconds"),
        ("containment", "docker", "auto, pidns, tree"),
        ("memory_bytes", "1kB", "at least"),
        ("memory_bytes", "lots", "not a size"),
        ("nice", "20", "0 to 19"),
        ("background", "maybe", "neither true nor false"),
    ],
)
def test_values_out_of_range_name_setting_value_and_range(
    world: World, name: str, value: str, words: str
) -> None:
    world.env[f"UNJAM_{name.upper()}"] = value
    message = world.error()
    assert f"UNJAM_{name.upper()}" in message
    assert name in message
    assert words in message


def test_renewing_too_late_to_keep_a_lease_is_refused(world: World) -> None:
    world.env["UNJAM_LEASE_TTL"] = "15"
    assert "renew_every (10 s, default) is more than half of lease_ttl (15 s)" in world.error()


def test_a_process_started_with_our_environment_reads_the_same_settings(tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path / "a home",
        slots=3,
        lease_ttl=4.5,
        renew_every=0.7,
        pipelines=("a.b", "c"),
        nice=5,
        background=True,
    )
    env = {**as_environment(settings), "HOME": str(tmp_path)}
    assert load(env=env, cwd=tmp_path, user_config=tmp_path / "none") == settings
    # Also an attempt or a tool below it, which gets the same variables in another folder.
    assert load(env=env, cwd=Path("/"), user_config=tmp_path / "none") == settings


def test_every_setting_has_its_help_and_a_rule() -> None:
    assert [f.name for f in fields(Settings)] == list(RULES)
    assert all(len(rule.help) > 10 for rule in RULES.values())


def test_settings_need_no_heavy_module() -> None:
    code = (
        "import sys, unjam.settings; print({'pydantic','rich','platformdirs','tomllib'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("5m", 300),
        ("2h", 7200),
        ("1h30m", 5400),
        ("250ms", 0.25),
        ("1.5 m", 90),
        (7, 7),
    ],
)
def test_durations(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "5x", "5m3", "-5", "5 minutes", "1e3", "nan"])
def test_no_durations(text: str) -> None:
    with pytest.raises(UsageError, match="not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096", 4096),
        ("512MiB", 512 * 2**20),
        ("4GB", 4 * 10**9),
        ("1.5 gib", 3 * 2**29),
        ("2G", 2**31),
        (9, 9),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "5 apples", "-1", "1e9"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(UsageError, match="not a size"):
        parse_size(text)


def test_durations_and_sizes_for_people() -> None:
    assert [show_duration(s) for s in (0.42, 42, 200, 7500, 200_000)] == [
        "0.4 s",
        "42 s",
        "3 min 20 s",
        "2 h 5 min",
        "2 d 7 h",
    ]
    assert [show_size(b) for b in (0, 812, 2_200_000, 7_900_000_000)] == ["0 B", "812 B", "2.2 MB", "7.9 GB"]
