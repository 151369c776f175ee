"""Five tasks of GLUE and SuperGLUE: sentiment, entailment, paraphrase and cause, under lm-eval's own definitions."""

from benchmarks.suites import Suite

NLU = Suite(
    name="nlu",
    summary="five tasks of GLUE and SuperGLUE, log-likelihood of the choices",
    tasks=("sst2", "rte", "mrpc", "cb", "copa"),
    headline=dict.fromkeys(("sst2", "rte", "mrpc", "cb", "copa"), "acc"),
)
