"""The contestants of this repository: tests hold them to more than what every contestant promises."""

from __future__ import annotations

BUILT_IN = """
    lora lora-own rslora dora pissa adalora molora mola alphalora eva-experts random-experts inverse-experts lora-smoe
    smoe-type smoe-global smoe-attention smoe-mlp smoe-proportional smoe-released hydralora full frozen
    experts ranks sensitive-ranks random-ranks inverse-ranks fim-lora eva-lora gora
    adamole ld-mole smora loramoe mixlora goat dmep guilomo
""".split()
