"""What a notebook does with the committed records: open this file in an editor with cells, or run it as it is."""

# %% [markdown]
# Every record is a row, every document an outcome. `reports.frame` reads them; the rest is pandas.

# %%
from pathlib import Path

from reports.frame import blocks, outcomes, records

FOLDER = Path(__file__).resolve().parents[1] / "results" / "records" / "main"
runs = records(FOLDER)
runs = runs[(runs["suite"] == "commonsense") & (runs["match"] == "params")]

# %% Accuracy and size of the methods, mean over seeds
table = runs.groupby("method").agg(
    seeds=("seed", "nunique"),
    macro_accuracy=("macro_accuracy", "mean"),
    trainable_params=("trainable_params", "max"),
    minutes=("total_seconds", lambda seconds: seconds.mean() / 60),
)
print(table.sort_values("macro_accuracy", ascending=False).round(3).to_string())

# %% The same documents, answered by two methods: how often is exactly one of them right?
answers = outcomes(FOLDER)
answers = answers[answers["key"].isin(runs["key"])]
right = answers.pivot_table(index=["task", "document", "seed"], columns="method", values="outcome")
pair = right[["lora", "lora-smoe"]].dropna()
print("\nDocuments that exactly one of lora and lora-smoe gets right, by task:")
print((pair["lora"] != pair["lora-smoe"]).groupby("task").mean().map("{:.1%}".format).to_string())

# %% Where LoRA-SMoE puts its experts
experts = blocks(FOLDER)
experts = experts[experts["key"].isin(runs["key"]) & (experts["method"] == "lora-smoe")]
print("\nExperts of LoRA-SMoE by projection, mean over layers and seeds:")
print(experts.groupby("projection", sort=False)["experts"].mean().round(2).to_string())
