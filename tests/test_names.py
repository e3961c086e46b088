"""Names of a set: what went in comes out, and only what is asked for is decoded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fromnoise.images import open_images
from fromnoise.images.names import END, Names, names_file

NAMES = st.text(st.characters(exclude_characters=END, exclude_categories=()))  # lone surrogates, too: file names


@given(st.lists(NAMES, max_size=20))
def test_names_come_back_alone_in_parts_and_together(names: list[str]) -> None:
    found = Names(names_file(names))
    assert found == names and len(found) == len(names)
    assert [found[i] for i in range(-len(names), len(names))] == names + names
    assert found[1:-1:2] == tuple(names[1:-1:2])
    with pytest.raises(IndexError):
        found[len(names)]


def test_a_name_cannot_shift_those_after_it() -> None:
    assert Names(names_file([f"a{END}b", "c"]))[1] == "c"


def test_to_open_a_packed_set_decodes_no_list_of_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few, those that the checks of the test run look at: the time does not grow with the number of images."""
    first, decoded = open_images("menagerie:200", size=(8, 8)), list[int]()
    name = Names._name
    monkeypatch.setattr(Names, "_name", lambda self, i: (decoded.append(i), name(self, i))[1])
    again = open_images("menagerie:200", size=(8, 8))
    assert len(decoded) < 8 and not again.values.flags.owndata
    assert again.names == first.names
