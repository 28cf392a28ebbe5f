"""Reading a CSV of addresses: whatever is in it, a line is a row, or bad with its number, and memory stays small."""

import csv
import io
import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sending.suppressions.read_csv import (
    MAX_LINE,
    MAX_LINES,
    BadLine,
    Defaults,
    Row,
    UnreadableFile,
    guard,
    read_rows,
    read_time,
    unguard,
)  # fmt: skip

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
ANN, BOB = "ann@one.example", "bob@one.example"


def read(text: str | bytes, defaults: Defaults | None = None) -> list[Row | BadLine]:
    raw = text.encode() if isinstance(text, str) else text
    return list(read_rows(io.BytesIO(raw).read, defaults or Defaults(), NOW))


def emails(text: str | bytes) -> list[str]:
    return [row.email for row in read(text) if isinstance(row, Row)]


def bad(text: str | bytes) -> list[int]:
    return [row.line for row in read(text) if isinstance(row, BadLine)]


@pytest.mark.parametrize(
    "text",
    [
        f"{ANN}\n{BOB}\n", f"{ANN}\r\n{BOB}", f"{ANN}\r{BOB}\r", f"\n\n{ANN}\n\n{BOB}\n\n", f"EMAIL\n{ANN}\n{BOB}\n",
        f"\ufeffEmail address,Name\n{ANN},Ann\n{BOB},Bob\n", f"name;e-mail\nAnn;{ANN}\n;{BOB}\n",
        f"id\temail\n1\t{ANN}\n2\t{BOB}\n",
        f'"{ANN}"\n"{BOB}"\n', f"  {ANN}  \n{BOB.upper()}\n", f"email,reason\n{ANN}\n{BOB},bounce,further,cells\n",
    ],
)  # fmt: skip
def test_files_as_people_have_them(text: str) -> None:
    """Lesson C8: one spelling for each address."""
    assert emails(text) == [ANN, BOB]
    assert bad(text) == []


def test_columns_without_a_heading_stand_as_in_an_export() -> None:
    [row] = read(f'{ANN},bounce,"550, gone",News,2027-01-31\n')
    assert row == Row(1, ANN, "bounce", "550, gone", "news", datetime(2027, 1, 31, tzinfo=UTC))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "“nonsense” is not a valid email address."), (f"{ANN},weather", "“weather” is not a reason"),
        (f"{ANN},,,{'x' * 65}", "is not the name of a list"), (f"{ANN},,,,soon", "“soon” is not a time"),
        (f"{ANN},,,,2001-01-01", "“2001-01-01” is over already."), (",bounce", "“” is not a valid email address."),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_with_its_line(line: str, message: str) -> None:
    [good, wrong] = read(f"{BOB}\n{line}\n")
    assert isinstance(good, Row)
    assert isinstance(wrong, BadLine)
    assert wrong.line == 2
    assert message in wrong.message


def test_octets_that_are_no_text_spoil_their_line_only() -> None:
    assert emails(b"ann\xff@one.example\nbob@one.example\n") == [BOB]
    assert bad(b"ann\xff@one.example\nbob@one.example\n") == [1]
    with pytest.raises(UnreadableFile):
        emails(f"{ANN}\n".encode("utf-16"))


def test_a_line_without_an_end_is_skipped_and_told() -> None:
    text = f"{ANN}\n{'x' * (20 * MAX_LINE)}\n{BOB}\n"
    assert (emails(text), bad(text)) == ([ANN, BOB], [2])
    assert bad(f"{ANN}\n{'x' * (20 * MAX_LINE)}") == [2]
    assert emails(f"{ANN}\n{'x' * MAX_LINE}y\n{BOB}\n") == [ANN, BOB]


def test_a_quote_that_is_never_closed_swallows_a_few_lines_at_most() -> None:
    text = f'{ANN}\n"lost\n' + "".join(f"p{number}@one.example\n" for number in range(100))
    found = emails(text)
    assert found[0] == ANN
    assert len(found) >= 100 - MAX_LINES
    assert len(bad(text)) == 1


def test_a_description_may_have_lines() -> None:
    [row, other] = read(f'email,description\n{ANN},"one\ntwo"\n{BOB},\n')
    assert isinstance(row, Row)
    assert isinstance(other, Row)
    assert (row.description, other.line) == ("one\ntwo", 4)


@given(st.binary(max_size=300))
def test_nothing_raises_but_a_file_that_is_no_text(raw: bytes) -> None:
    try:
        found = read(raw)
    except UnreadableFile:
        return
    assert all(isinstance(one, Row | BadLine) for one in found)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40), max_size=4))
def test_cells_come_back_from_a_csv_that_we_wrote(cells: list[str]) -> None:
    """An export's guard against formulas is taken away again, also from what looks like a guard."""
    assert [unguard(guard(cell)) for cell in cells] == cells
    text = io.StringIO()
    csv.writer(text).writerow([guard(cell) for cell in cells])
    assert not any(cell[:1] in "=+-@\t\r" for cell in map(guard, cells) if cell)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2027-01-31", datetime(2027, 1, 31, tzinfo=UTC)), ("2027-01-31T12:00:00Z", datetime(2027, 1, 31, 12, tzinfo=UTC)),
        ("2027-01-31T12:00:00+02:00", datetime(2027, 1, 31, 10, tzinfo=UTC)), ("1801440000", datetime(2027, 2, 1, tzinfo=UTC)),
        ("", None), ("soon", None), ("9" * 20, None), ("0001-01-01T00:00:00+14:00", None),
        ("99999999999", datetime(5138, 11, 16, 9, 46, 39, tzinfo=UTC)),
    ],
)  # fmt: skip
def test_times(text: str, moment: datetime | None) -> None:
    assert read_time(text) == moment


def test_memory_does_not_grow_with_the_file() -> None:
    lines = 60_000
    line = b"somebody.%07d@domain-%03d.example,bounce,550 5.1.1 no such user here\n"

    class Source:
        """A stream that makes its lines as they are asked for."""

        def __init__(self) -> None:
            self.at = 0

        def read(self, size: int) -> bytes:
            until = min(lines, self.at + size // 70)
            chunk = b"".join(line % (number, number % 500) for number in range(self.at, until))
            self.at = until
            return chunk

    warm = sum(isinstance(row, Row) for row in read_rows(Source().read, Defaults(), NOW))
    assert warm == lines
    tracemalloc.start()
    count = sum(isinstance(row, Row) for row in read_rows(Source().read, Defaults(), NOW + timedelta(seconds=1)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == lines
    assert peak < 2_000_000, f"{peak:,} octets for {lines:,} lines of 70"
