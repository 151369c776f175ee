"""Where a block lies."""

from __future__ import annotations

import pytest
from block_names import PLACES

from smoe import place


@pytest.mark.parametrize("block", PLACES)
def test_the_layer_is_the_first_number_inside_a_name_and_the_projection_its_last_part(block):
    assert place(block) == PLACES[block]
