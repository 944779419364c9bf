"""Numbers that processes share through files: whole, added up once, and never a reason to fail."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from scoreboard.metric_values import Book, Series, StoredValue, read_folder

COUNTED = Series("counter", "done", "done_total", (("what", 'a "quoted" 龍'),))
OPEN = Series("gauge", "open", "open", ())
Opened = Callable[[], Book]


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    """A book in the folder, as another process would have it."""

    def open_one() -> Book:
        book = Book()
        book.keep_in(tmp_path)
        return book

    return open_one


def count(book: Book, series: Series, amount: float) -> StoredValue:
    value = StoredValue(series)
    book.register(value)
    book.add(value, amount)
    return value


def end(book: Book) -> None:
    """What the kernel does when a process ends."""
    assert book._file is not None
    assert book._file._descriptor is not None
    os.close(book._file._descriptor)


def total(book: Book, series: Series) -> float:
    return sum(values.get(series, 0.0) for values in book.of_host())


def test_each_process_knows_the_numbers_of_all(opened: Opened) -> None:
    books = [opened() for _ in range(3)]
    for amount, book in enumerate(books, start=1):
        count(book, COUNTED, amount)
        count(book, OPEN, 1)
    assert {total(book, COUNTED) for book in books} == {6}
    assert {total(book, OPEN) for book in books} == {3}


def test_the_counts_of_a_process_stay_and_its_gauges_go(opened: Opened, tmp_path: Path) -> None:
    first, second = opened(), opened()
    count(first, COUNTED, 2)
    count(first, OPEN, 5)
    end(first)
    assert (total(second, COUNTED), total(second, OPEN)) == (2, 0)
    third = opened()
    assert total(second, COUNTED) == 2
    # In any order: the number is made before or after the file is there.
    value = count(third, COUNTED, 1)
    assert (total(second, COUNTED), value.get()) == (3, 3)
    assert len(list(tmp_path.iterdir())) == 2, "a process goes on with the file of one that has ended"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 4096,
        b"\xff" * 4096,
        os.urandom(4096),
        struct.pack("<I", 16) + b'["counter",1,2]]' + struct.pack("<d", 1.0),
        struct.pack("<I", 16) + b"[" * 16 + struct.pack("<d", 1.0),
        b"SQLite format 3\0" * 100,
    ],
)
def test_files_of_another_sort_are_passed_over(opened: Opened, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "0.series").write_bytes(content)
    (tmp_path / "7.series").write_bytes(content)
    (tmp_path / "8.series").mkdir()
    os.mkfifo(tmp_path / "9.series")
    (tmp_path / "10.series").symlink_to("/dev/zero")
    book = opened()
    count(book, COUNTED, 1)
    assert total(opened(), COUNTED) == 1


def test_a_torn_file_is_read_up_to_the_tear(opened: Opened, tmp_path: Path) -> None:
    book, other = opened(), opened()
    names = [Series("counter", "done", "done_total", (("n", str(number)),)) for number in range(5)]
    for series in names:
        count(book, series, 1)
    whole = (tmp_path / "0.series").read_bytes()
    for length in range(0, len(whole), 7):
        (tmp_path / "0.series").write_bytes(whole[:length])
        found = list(read_folder(tmp_path, but="1.series"))
        assert sum(sum(values.values()) for values in found) == length * 5 // len(whole) == sum(map(len, found))
    assert total(other, names[0]) == 1


def test_not_a_number_is_no_number(opened: Opened, tmp_path: Path) -> None:
    book = opened()
    count(book, COUNTED, float("nan"))
    assert list(read_folder(tmp_path)) == [{}]


def test_a_folder_that_can_t_be_written_costs_only_the_sharing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file" / "folder", tmp_path / "file", Path("/proc")):
        book = Book()
        book.keep_in(folder)
        assert count(book, COUNTED, 2).get() == 2
        assert total(book, COUNTED) == 2


def told(book: Book) -> str:
    """What a scrape gets."""

    class Collected(Collector):
        def collect(self) -> list[Metric]:
            return list(book.families(book.of_host()))

    registry = CollectorRegistry()
    registry.register(Collected())
    return generate_latest(registry).decode()


@pytest.mark.parametrize(
    "key",
    [
        '["weird","done","done_total",{}]',
        '["counter","not a name","done_total",{}]',
        '["counter","done","done_total 1\\n",{}]',
        '["counter","","",{}]',
        '["counter","done","done_total",{"not a name":"x"}]',
        '["histogram","took","took_bucket",{"le":"x"}]',
        '["histogram","took","took_bucket",{"le":"nan"}]',
    ],
)
def test_what_prometheus_could_not_be_told_is_left_out(opened: Opened, tmp_path: Path, key: str) -> None:
    book = opened()
    count(book, COUNTED, 2)
    expected = told(book)
    encoded = key.encode()
    record = struct.pack("<I", len(encoded)) + encoded + struct.pack("<d", 1.0)
    (tmp_path / "9.series").write_bytes(record)
    assert told(book) == expected


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/etc/passwd")])
def test_what_is_no_file_is_no_slot(opened: Opened, tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "0.series")
    books = [opened(), opened()]
    for book in books:
        count(book, COUNTED, 1)
    assert {total(book, COUNTED) for book in books} == {2}


def test_a_histogram_is_added_up_as_prometheus_wants_it(opened: Opened) -> None:
    books = [opened(), opened()]
    for book in books:
        for bound, amount in (("0.5", 1), ("2.0", 2), ("+Inf", 4)):
            count(book, Series("histogram", "took", "took_bucket", (("le", bound),)), amount)
        count(book, Series("histogram", "took", "took_sum", ()), 10)
    books[0].explain("took", "How long")

    class Collected(Collector):
        def collect(self) -> list[Metric]:
            return list(books[0].families(books[0].of_host()))

    registry = CollectorRegistry()
    registry.register(Collected())
    assert generate_latest(registry).decode().splitlines() == [
        "# HELP took How long",
        "# TYPE took histogram",
        "took_sum 20.0",
        'took_bucket{le="0.5"} 2.0',
        'took_bucket{le="2.0"} 6.0',
        'took_bucket{le="+Inf"} 14.0',
        "took_count 14.0",
    ]
