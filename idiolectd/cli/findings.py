"""The findings of ``check`` and ``client check``, and their output."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from idiolectd.cli.exits import ExitCode, worst
from idiolectd.cli.output import put, put_json

Verdict = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    check: str
    verdict: Verdict
    message: str
    code: ExitCode = ExitCode.DONE


def report_findings(findings: Sequence[Finding], *, json: bool) -> ExitCode:
    """Writes the findings; returns the exit code of the worst."""
    if json:
        put_json([{k: v for k, v in asdict(finding).items() if k != "code"} for finding in findings])
    else:
        for finding in findings:
            put(f"{finding.verdict:8} {finding.check}: {finding.message}")
    return worst(finding.code for finding in findings)
