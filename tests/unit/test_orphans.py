"""The helper of the tests that says where orphans go."""

from __future__ import annotations

import pytest

from conformance.orphans import adopting_orphans, is_subreaper


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("wanted", [True, False])
def test_orphans_go_where_they_went_before_when_a_block_ends(before: bool, wanted: bool) -> None:
    """Also when it ends by an error: no suite finds what another one wanted."""
    with adopting_orphans(before):
        with pytest.raises(KeyError):
            _look_and_raise(wanted)
        assert before == is_subreaper()


def _look_and_raise(wanted: bool) -> None:
    with adopting_orphans(wanted):
        assert wanted == is_subreaper()
        raise KeyError
