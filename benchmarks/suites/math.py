"""Word problems and arithmetic: GSM8K, MathQA and ASDiv as lm-eval asks them, without examples in the prompt.

No embedded data set holds them, so the suite needs `--source hub`. ASDiv has one public split, which is cut in two
halves by a hash of each document.
"""

from benchmarks.suites import Suite

MATH = Suite(
    name="math",
    summary="GSM8K, MathQA and ASDiv; needs --source hub",
    tasks=("gsm8k", "mathqa", "asdiv"),
    headline={"gsm8k": "exact_match", "mathqa": "acc_norm", "asdiv": "acc"},
    protocol="lm-eval",
)
