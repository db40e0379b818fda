"""Lists of addresses: what a line may be, what is said of one that is wrong, what a name's answer may be."""

from __future__ import annotations

import pytest

from redlatch.errors import InvalidInput
from redlatch.policy import lists
from redlatch.policy.networks import compiled, parse


def read(text: str) -> lists.Listed:
    return lists.read(text, source="list.txt")


@pytest.mark.parametrize(
    ("line", "entry", "comment"),
    [
        ("192.168.1.20", "192.168.1.20", ""),
        ("  192.168.1.20\r", "192.168.1.20", ""),
        ("192.168.1.20/32", "192.168.1.20", ""),
        ("192.168.1.0/24 # the house", "192.168.1.0/24", "the house"),
        ("192.168.1.0/24;office # 2", "192.168.1.0/24", "office # 2"),
        ("192.168.1.20 # a\x1b[31m\u202eb", "192.168.1.20", "a [31m b"),
        ("192.168.1.20 # " + "x" * 500, "192.168.1.20", "x" * 200),
        ("192.168.1.0 - 192.168.1.255", "192.168.1.0/24", ""),
        ("192.168.1.20-192.168.1.22", "192.168.1.20-192.168.1.22", ""),
        ("::ffff:192.168.1.20", "192.168.1.20", ""),
        ("2001:DB8::0/32", "2001:db8::/32", ""),
        ("0.0.0.0/0", "0.0.0.0/0", ""),
        ("Home.Example.ORG.", "home.example.org", ""),
    ],
)
def test_an_entry_has_one_form(line: str, entry: str, comment: str) -> None:
    """However it was written, an entry is stored and found again in its canonical form, which reads as itself."""
    found = read(line)
    assert found.entries == {entry: comment}
    again = lists.kept(found.text())
    assert (again.entries, again.intervals, again.names) == (found.entries, found.intervals, found.names)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("256.1.1.1", "a part is larger than 255: each part is 0 to 255"),
        ("010.0.0.1", "begins with 0, which some programs read as an octal number: write 10.0.0.1"),
        ("10.0.0.1/08x", "has no prefix length that IPv4 knows"),
        ("10.0.0.0/", "has no prefix length that IPv4 knows"),
        ("10.0.0.0/33", "a number from 0 to 32"),
        ("10.0.0.1/8", "write 10.0.0.0/8 for the whole subnet"),
        ("1.2.3", "for a subnet write 1.2.3.0/24"),
        ("10.0.0.9-10.0.0.1", "is backwards: write 10.0.0.1-10.0.0.9"),
        ("fe80::1%eth0", "leave it out: fe80::1"),
        ("10.0.0.1-::1", "write two ranges"),
        ("١٢٣.1.1.1", "is no address, range or subnet"),
        ("10.0.0.1 10.0.0.2", "is no address, range or subnet"),
        ("0.0.0.0 ads.example.org", "is no address, range or subnet"),
        ("kitchen", "or home.example.org"),
        ("*.example.org", "is no address, range or subnet"),
    ],
)
def test_a_bad_line_is_named_with_what_would_be_right(line: str, said: str) -> None:
    """Each is refused, on the command line and at its line of a file."""
    with pytest.raises(InvalidInput) as alone:
        lists.given([line])
    assert said.partition(":")[0] in f"{alone.value.message}: {alone.value.hint}"
    with pytest.raises(InvalidInput) as caught:
        read(f"10.0.0.1\n\n# fine\n{line}\n")
    assert caught.value.message.startswith("list.txt, line 4: ")
    assert said in caught.value.message


def test_bad_lines_of_a_long_file_are_named_by_their_numbers() -> None:
    """The first five of them, with the number of the rest, and nothing of the file is taken."""
    lines = ["10.0.0.1"] * 900_000
    lines[812_416] = "10.0.0.0.1"
    with pytest.raises(InvalidInput, match=r"^list\.txt, line 812,417: '10\.0\.0\.0\.1' is no address"):
        read("\n".join(lines))
    with pytest.raises(InvalidInput) as caught:
        read("x\n" * 12)
    assert caught.value.message.count("line ") == 5
    assert caught.value.message.endswith("; and 7 more")
    assert "nothing was stored" in caught.value.hint


def test_line_numbers_are_those_of_an_editor() -> None:
    """A form feed or a line separator of Unicode begins no line."""
    with pytest.raises(InvalidInput, match="line 2:"):
        read("10.0.0.1 # a\x0cb\u2028c\x1d\nx")


def test_progress_is_told_now_and_then() -> None:
    """(lines done, lines in all), some thirty times for a million lines."""
    told: list[tuple[int, int]] = []
    lists.read("10.0.0.1\n" * 100_000, source="", progress=lambda done, all_: told.append((done, all_)))
    assert told == [(number, 100_001) for number in range(0, 100_001, lists.STEP)]


def test_what_a_network_can_hold_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries, lines and names: each bound is said."""
    with pytest.raises(InvalidInput, match="33 DNS names"):
        read("\n".join(f"a{number}.example.org" for number in range(33)))
    monkeypatch.setattr(lists, "MOST_ENTRIES", 3)
    with pytest.raises(InvalidInput, match="has 4 entries"):
        read("\n".join(f"10.0.0.{number}" for number in range(4)))
    with pytest.raises(InvalidInput, match="has 7 entries"):
        read("10.0.0.1\n" * 7)
    assert read("10.0.0.1\n" * 6).entries == {"10.0.0.1": ""}


def test_the_fast_way_says_what_the_whole_parser_says() -> None:
    """Every plain entry is read as `parse` reads it."""
    for text in (
        "0.0.0.0",
        "255.255.255.255",
        "10.0.0.0/8",
        "128.0.0.0/1",
        "0.0.0.0/0",
        "1.2.3.4/31",
        "1.2.3.4/32",
    ):
        assert read(text).intervals == [parse(text)]


def test_more_is_taken_over_and_comments_are_replaced() -> None:
    """Adding says what is new; a comment is replaced by another one and kept where none is given."""
    present = read("10.0.0.1 # one\n10.0.0.2 # two\na.example.org")
    new = present.take(lists.given(["10.0.0.1", "10.0.0.2 # zwei", "10.0.0.3", "a.example.org", "b.example.org"]))
    assert new == ["10.0.0.3", "b.example.org"]
    assert present.text() == "10.0.0.1 # one\n10.0.0.2 # zwei\na.example.org\n10.0.0.3\nb.example.org"
    assert present.names == ["a.example.org", "b.example.org"]


def test_a_list_is_kept_as_text_and_comes_back() -> None:
    """Also what came into an empty one at once, what is there twice, and nothing."""
    empty = lists.kept("")
    assert empty.text() == ""
    first = lists.given(["10.0.0.1 # one", "10.0.0.1", "a.example.org", "a.example.org # again"])
    assert empty.take(first) == ["10.0.0.1", "a.example.org"]
    assert empty.text() == "10.0.0.1 # one\na.example.org # again"
    again = lists.kept(empty.text())
    assert (again.entries, again.intervals, again.names) == (empty.entries, empty.intervals, empty.names)
    assert lists.kept_line("10.0.0.1 # one # two") == ("10.0.0.1", "one # two")


def test_nothing_named_is_said() -> None:
    """An entry that is only a comment names no address."""
    with pytest.raises(InvalidInput, match="names no address"):
        lists.given(["# wall tablet"])


def test_a_network_holds_what_its_names_stand_for_now() -> None:
    """Names without an answer hold nobody; everything is merged."""
    listed = read("10.0.0.0/25\n10.0.0.128/25\na.example.org\nb.example.org")
    found = listed.network({"a.example.org": ["10.0.1.0", "2001:db8::1"]})
    assert found == compiled([parse("10.0.0.0-10.0.1.0"), parse("2001:db8::1")])


def test_within() -> None:
    """The entry that holds another one is named, never the entry itself."""
    others = [parse("10.0.0.1"), parse("10.0.0.0/24"), parse("::/0")]
    assert lists.within(parse("10.0.0.1"), others) == "10.0.0.0/24"
    assert lists.within(parse("10.0.0.0/24"), others) is None


@pytest.mark.parametrize(
    "address",
    ["", "nobody", "0.0.0.0", "127.0.0.1", "127.0.1.1", "224.0.0.251", "255.255.255.255", "::", "::1", "ff02::1",
     "::ffff:10.0.0.1", "fe80::1%eth0"],
)  # fmt: skip
def test_what_no_name_may_stand_for(address: str) -> None:
    """An answer that is nobody's, or this machine itself, is dropped: no name server opens a local proxy."""
    assert lists.usable_answers([address, "203.0.113.7"]) == ("203.0.113.7",)


def test_an_answer_is_sorted_and_bounded() -> None:
    """The same addresses in another order are the same answer; at most 16 of them count."""
    many = [f"10.0.0.{number}" for number in range(1, 31)]
    assert lists.usable_answers(reversed(many)) == tuple(many[:16])
    assert lists.usable_answers(["2001:db8::2", "10.0.0.2", "10.0.0.2"]) == ("10.0.0.2", "2001:db8::2")
