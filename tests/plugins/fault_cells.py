"""How many fault cells a run went through, at its end."""

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    cells = {"passed": 0, "failed": 0}
    for outcome in cells:
        for report in terminalreporter.getreports(outcome):
            cells[outcome] += sum(
                n for name, n in report.user_properties if name == "fault cells" and report.when == "call"
            )
    if any(cells.values()):
        terminalreporter.write_line(f"fault cells: {cells['passed']} right, {cells['failed']} wrong")
