"""A skipped or xfailed test fails the run, unless tests/allowed_skips.txt names it and its reason."""

from collections.abc import Generator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ALLOWED_FILE = Path(__file__).parent.parent / "allowed_skips.txt"


@dataclass(frozen=True, slots=True)
class Allowed:
    """A pattern of test ids and a pattern of reasons."""

    test: str
    reason: str

    def covers(self, test: str, reason: str) -> bool:
        return fnmatchcase(test, self.test) and fnmatchcase(reason, self.reason)


def read_allowed(text: str) -> list[Allowed]:
    """Parse lines of `TEST PATTERN | REASON PATTERN`; `#` begins a comment."""
    allowed = []
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            test, separator, reason = line.partition("|")
            if not separator:
                raise ValueError(f"{ALLOWED_FILE.name}: no '|' in {line!r}")
            allowed.append(Allowed(test.strip(), reason.strip()))
    return allowed


def skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str | None:
    """Why a test did not really run; None for one that did."""
    if hasattr(report, "wasxfail"):
        return f"xfail: {report.wasxfail}"
    if not report.skipped:
        return None
    longrepr = report.longrepr
    text = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    return text.removeprefix("Skipped: ")


class SkipGuard:
    """Collects the skips that nobody allowed and turns them into a failed run."""

    def __init__(self, allowed: list[Allowed]) -> None:
        self.allowed = allowed
        self.refused: list[str] = []

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        reason = skip_reason(report)
        if reason is not None and not any(entry.covers(report.nodeid, reason) for entry in self.allowed):
            self.refused.append(f"{report.nodeid}: {reason}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        # Before the terminal reporter, which prints its summary inside this hook.
        if self.refused and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        yield

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.refused:
            terminalreporter.section(f"skips that {ALLOWED_FILE.name} does not allow", red=True)
            for line in self.refused:
                terminalreporter.write_line(line)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(SkipGuard(read_allowed(ALLOWED_FILE.read_text())), "unjam-skip-guard")
