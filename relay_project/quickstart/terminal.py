"""What the newcomer reads: calm lines, in colour only on a terminal that wants it."""

import os
import shlex
import shutil
import textwrap
from datetime import datetime
from pathlib import Path
from typing import TextIO

from relay_project.mail.text import clean
from relay_project.quickstart.first_mail import RECIPIENT, SENDER, Arrival
from relay_project.supervise import Death
from sending.journey import Step, StepKind

BOLD, DIM, RED, GREEN = "1", "2", "31", "32"
TIME_WIDTH = 9  # "1,234 ms"
TITLE_WIDTH = 32
NARROWEST = 60  # columns; narrower terminals wrap by themselves


class Terminal:
    """Writes to one stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._colour = stream.isatty() and "NO_COLOR" not in os.environ  # no-color.org
        self._width = max(NARROWEST, shutil.get_terminal_size((100, 24)).columns)

    def say(self, text: str = "", style: str = "") -> None:
        """Write one line."""
        self._stream.write(self._styled(text, style) + "\n")
        self._stream.flush()

    def step(self, name: str, detail: str) -> None:
        """Write what has been done: a name and a few words."""
        self.say(f"  {name:<14}{detail}")

    def event(self, since: datetime, at: datetime, title: str, detail: str = "", style: str = "") -> None:
        """Write one thing that happened, with its time in milliseconds."""
        milliseconds = max(0, round((at - since).total_seconds() * 1000))
        time = self._styled(f"{milliseconds:,} ms".rjust(TIME_WIDTH), DIM)
        indent = " " * (TIME_WIDTH + TITLE_WIDTH + 4)
        room = max(20, self._width - len(indent))
        lines = textwrap.wrap(clean(detail), room, break_on_hyphens=False) or [""]
        self.say(f"{time}  {self._styled(title.ljust(TITLE_WIDTH), style)}  {lines[0]}".rstrip())
        for line in lines[1:]:
            self.say(indent + line)

    def _styled(self, text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if style and self._colour else text


def tell_arrival(terminal: Terminal, arrival: Arrival, base_url: str) -> None:
    """Print the journey step by step: what the client saw and what was recorded, by time, then dkimpy's verdict."""
    answer, since = arrival.answer, arrival.answer.posted_at
    steps = [
        Step(since, "POST /api/console/sends", f"to {base_url}, with an API key"),
        *arrival.journey.steps,
        Step(answer.answered_at, "Answer 200", f"message id {answer.message_id}"),
    ]
    for step in sorted(steps, key=lambda step: step.at):
        if step.kind is StepKind.SMTP:
            terminal.event(since, step.at, "  " + _shortened(step.title, TITLE_WIDTH - 2), step.detail, DIM)
        else:
            terminal.event(since, step.at, step.title, step.detail)
    for signature in arrival.signatures:
        verdict = "valid" if signature.valid else f"NOT valid: {signature.reason}"
        style = GREEN if signature.valid else RED
        detail = f"{signature.selector}._domainkey.{signature.domain}: {verdict}"
        terminal.event(since, arrival.checked_at, "DKIM checked by dkimpy", detail, style)


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def tell_how_to_go_on(terminal: Terminal, base_url: str, link: str, api_key: str, logs: Path) -> None:
    """Print the console's address, the sign-in link, the key, a curl line for the next mail, and where things are."""
    body = f'{{"from": "{SENDER}", "to": "{RECIPIENT}", "subject": "The next one", "body_text": "Hello"}}'
    terminal.step("Console", f"{base_url}/console/")
    terminal.step("Sign in", f"{link}  (once, within the hour)")
    terminal.step("API key", api_key)
    terminal.step("Logs", str(logs))
    terminal.say()
    terminal.say("  Send the next one:")
    terminal.say()
    terminal.say(f"    curl {base_url}/api/console/sends \\")
    terminal.say(f"      -H 'Authorization: Bearer {api_key}' -H 'Content-Type: application/json' \\")
    terminal.say(f"      -d {shlex.quote(body)}")
    terminal.say()


def tell_death(terminal: Terminal, death: Death, log: str) -> None:
    """Print which process ended, how, what it wrote last, and when it starts again."""
    terminal.say(
        f"  {death.name} ended ({death.how}) after {death.after_seconds:.0f} s and starts again in "
        f"{death.pause_seconds:.0f} s; {log}",
        RED,
    )
    for line in death.last_lines:
        terminal.say(f"    {clean(line, 300)}", DIM)
