"""Pipelines by name, and what is asked of their parameters."""

import subprocess
import sys

import pytest

from unjam.errors import NotFound, UsageError
from unjam.jobs.model import InputFile
from unjam.pipelines import registry

FILM = InputFile("a.mkv", "/a.mkv")


@pytest.mark.parametrize("name", sorted(registry.BUILT_IN))
def test_built_in_pipelines_are_what_they_say(name: str) -> None:
    definition = registry.get(name)
    assert definition.name == name
    assert definition.summary
    start = registry.start_of(name)
    assert set(definition.preload) <= set(start.preload)
    assert start.isolation == definition.isolation


def test_knowing_how_to_start_a_pipeline_imports_nothing_heavy() -> None:
    code = "import sys, unjam.pipelines.registry as r; r.start_of('convert'); print('av' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"


def test_a_module_of_the_users_own() -> None:
    modules = ("tests.pipelines.test_runner",)
    assert "script" in registry.names(modules)
    assert registry.get("script", modules).name == "script"


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(NotFound, match="did you mean convert"):
        registry.get("convrt")
    with pytest.raises(NotFound, match="known: convert"):
        registry.get("zzz")
    with pytest.raises(UsageError, match="cannot be imported"):
        registry.names(("no.such.module",))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"preset": "mp5"}, "preset='mp5'"),
        ({"crf": "99"}, "crf='99'"),
        ({"crf": "good"}, "crf='good'"),
        ({"segment_seconds": 0}, "segment_seconds=0"),
        ({"segment_secs": 5}, "did you mean segment_seconds?"),
        ({"container": "mkv"}, "container belongs to preset=remux, not to preset=mp4"),
        ({"preset": "audio", "crf": 30}, "crf belongs to preset=mp4, not to preset=audio"),
    ],
)
def test_wrong_parameters_are_named(values: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        registry.get("convert").validate(values)
    assert said in str(caught.value)


def test_strings_of_a_command_line_become_values() -> None:
    params = registry.get("convert").validate({"segment_seconds": "5", "crf": "30", "verify": "full"})
    assert params.model_dump(exclude_defaults=True) == {"segment_seconds": 5.0, "crf": 30, "verify": "full"}


@pytest.mark.parametrize(
    ("values", "suffix", "cpus"),
    [
        ({}, ".mp4", 4),
        ({"preset": "remux", "container": "mkv"}, ".mkv", 1),
        ({"preset": "audio", "format": "opus"}, ".opus", 1),
    ],
)
def test_suffix_and_needs_follow_the_preset(values: dict[str, object], suffix: str, cpus: int) -> None:
    definition = registry.get("convert")
    params = definition.validate(values)
    assert definition.output_suffix(params, FILM) == suffix
    assert definition.needs(params, 16).cpu == cpus
    assert definition.needs(params, 1).cpu == 1


def test_every_parameter_says_what_it_means() -> None:
    for name in registry.BUILT_IN:
        for field, info in registry.get(name).params.model_fields.items():
            assert info.description, f"{name}.{field}"
