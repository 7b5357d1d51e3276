# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From photos of bins to a counted bin
#
# A distribution centre keeps a record of what lies in every bin. Robots carry the bins past cameras; picking and stowing go
# wrong now and then. This notebook goes the whole way from photos and records to an endpoint that counts the items in a
# photo: **fetch** by a list, **look** at the data, **split** it, **push** it to a bucket, **tune**, **train** with debugging
# and profiling, **read the reports**, **deploy**, **predict**, **clean up**.
#
# It runs in two places, by one setting. With `CLOUD = "local"` everything happens on this machine, with no account and no
# network: bintally draws the bins itself, and `bintally cloud local` is the managed service, jobs, bucket, endpoint and
# all, behind the same calls. With `CLOUD = "cloud.toml"` the same cells run on AWS, on real bins;
# `docs/aws-first-run.md` says what the file needs (bucket, role, images) and what it costs. Each step tells its most before
# anything is made; one that may cost more than the file's `cost_limit` stops the notebook and says so.

# %% tags=["parameters"]
CLOUD = "local"  # or the path of a file with [cloud] settings: the same cells on AWS
WORK = "pipeline-work"  # a folder for all that this notebook makes
PHOTOS = 1500  # drawn bins, or real ones to fetch
EPOCHS = 10  # of the training
TUNE_JOBS, TUNE_EPOCHS = 4, 4  # trainings of the tuning job, and how long each is
BACKBONE = ""  # on AWS: s3://… of the pretrained snapshot, where containers have no internet

# %% [markdown]
# ## How a step is taken
#
# Every step below is a verb of the `bintally` program, and works the same in a terminal. The function shows the command,
# passes on what it says while it works, stops the notebook when it fails, and gives back what `--json` prints.

# %%
import atexit
import json
import os
import shlex
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import matplotlib.pyplot as plt
from IPython.display import Image, Markdown, display
from matplotlib.image import imread

work = Path(WORK)
work.mkdir(parents=True, exist_ok=True)
plt.rcParams.update({"figure.dpi": 80, "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})


def bintally(*words, quiet=False, lines=False):
    """Runs a verb; with --json among the words, gives back what it printed (`lines`: one value a line)."""
    as_json = "--json" in words
    print("$ bintally", shlex.join(map(str, words)))
    command = [sys.executable, "-m", "bintally", *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    notes = []
    reader = threading.Thread(target=lambda: notes.extend(process.stderr))
    reader.start()
    out = process.stdout.read()
    reader.join()
    if process.wait():
        raise RuntimeError("".join(notes[-5:]))
    if not quiet:
        print("".join(notes) + ("" if as_json else out))
    if lines:
        return [json.loads(line) for line in out.splitlines()]
    return json.loads(out) if as_json else None


def caption(text):
    """A line below a plot."""
    display(Markdown(f"*{text}*"))


# %% [markdown]
# ## Where the photos are
#
# The public dataset is a bucket of photos, `bin-images/<id>.jpg`, and records, `metadata/<id>.json`. Here, bintally draws an
# object store laid out in the same way: bins with elastic bands, items that hide each other, series of the same bin minutes
# apart. The course's list, `file_list.json`, names the records to take, grouped by how many items they expect; for drawn
# bins we write one ourselves, of bins with one to five items.

# %%
if CLOUD == "local":
    from bintally.data.draw import DrawSettings, draw_store

    SOURCE = work / "store"
    if not SOURCE.exists():
        easy = {
            "alike_sizes": 1.0,
            "copies": 0.2,
            "same_colours": 0.05,
            "bands": 0.3,
            "blurred": 0.06,
            "lighting": 0.5,
        }
        drawn = draw_store(SOURCE, DrawSettings(num_photos=PHOTOS, seed=0, size=128, products=150, **easy))
        print(
            f"{drawn.num_photos:,} photos of {drawn.num_series:,} bins; {drawn.hidden_share:.0%} of the items is hidden"
        )
    wanted = {str(count): [] for count in range(1, 6)}
    for path in sorted(SOURCE.glob("metadata/*.json")):
        count = str(json.loads(path.read_bytes())["EXPECTED_QUANTITY"])
        if count in wanted:
            wanted[count].append(f"data/metadata/{path.name}")
    (work / "file_list.json").write_text(json.dumps(wanted))
else:
    SOURCE = "s3://aft-vbi-pds"  # and the course's own file_list.json in the work folder
listed = json.loads((work / "file_list.json").read_bytes())
print({count: len(paths) for count, paths in listed.items()}, listed["1"][0])

# %% [markdown]
# ## Fetch
#
# Photo and record come together, many requests at once. What is whole already is not asked for again, and what is missing
# or malformed in the store is listed in `fetch-report.json` and stops nothing.

# %%
bins = work / "bins"
limit = [] if CLOUD == "local" else ["--limit", PHOTOS]
fetched = bintally("fetch", SOURCE, "--list", work / "file_list.json", "--to", bins, *limit, "--json")

# %% [markdown]
# ## Look
#
# Before anything is learnt: how many items lie in a bin, how many photos have a sibling, which is another photo of the same
# bin at another moment, and how many are blurred.

# %%
summary = bintally("summary", bins, "--json", quiet=True)
counts = {int(count): number for count, number in summary["counts"]["exact"].items()}
fig, ax = plt.subplots(figsize=(6, 2.4))
ax.bar(list(counts), list(counts.values()), color="#3b82c4")
ax.set(xlabel="items in the bin, by its record", ylabel="photos")
plt.show()
caption(
    f"{summary['photos']:,} photos. {summary['series']['sibling_share']:.0%} have a sibling of the same bin, "
    f"{summary['counts']['over_five_share']:.0%} hold more than five items, {summary['blur']['share']:.0%} lie below the "
    f"measure of blur{', which was set for larger photos than these' if CLOUD == 'local' else ''}."
)

# %% [markdown]
# And the photos themselves: what a camera sees of a bin, with the number of items that its record expects. The bands and
# the pile hide a good part of them. This is what makes counting hard, for people too.

# %%
fig, axes = plt.subplots(5, 8, figsize=(9, 5.8))
for row, one in zip(axes, [c for c in summary["examples"]["by_count"] if c["name"] in "12345"]):
    for ax, photo in zip(row, one["photos"] + [None] * 8):
        ax.axis("off")
        if photo is not None:
            ax.imshow(imread(bins / "bin-images" / f"{photo}.jpg"))
    row[0].set_title(f"{one['name']} items", loc="left", fontsize=9)
plt.tight_layout()
plt.show()
caption("Some photos of each count.")

# %% [markdown]
# ## Split
#
# Photos of the same bin, minutes apart, must not lie on both sides of the split, or the counter is tested on what it was
# trained on. bintally splits by such series, into four parts: *train* is learnt from; *validation* chooses the epoch and
# the recipe; *calibration* makes the probabilities honest; *test* is scored at the end.

# %%
split = work / "split.parquet"
parts = bintally("split", bins, "--counts", "1-5", "--seed", 0, "--to", split, "--json", quiet=True)
rows = "\n".join(
    f"| {name} | {part['photos']:,} | {part['groups']:,} | {' | '.join(map(str, part['per_class']))} |"
    for name, part in parts["parts"].items()
)
display(Markdown(f"| part | photos | groups | {' | '.join(parts['classes'])} |\n|---|{'--:|' * 7}\n{rows}"))
caption(f"Photos of each part and count; {parts['leaking_test_photos']} test photos have a sibling in train.")

# %% [markdown]
# ## The service
#
# On this machine, `bintally cloud local` is started here and says by which variables it is found; from then on, boto3 and
# every `bintally cloud` verb talk to it as they would to AWS. On AWS there is nothing to start: credentials come from the
# usual chain.

# %%
if CLOUD == "local":
    settings, config = {}, []
    log = (work / "service.log").open("w")
    command = [
        sys.executable,
        "-m",
        "bintally",
        "cloud",
        "local",
        "--to",
        str(work / "cloud"),
        "--port",
        "0",
        "--json",
    ]
    service = subprocess.Popen([*command, "--set", "local.s3_port=0"], stdout=subprocess.PIPE, stderr=log, text=True)
    atexit.register(service.terminate)  # when the notebook is closed before its last cell
    environment = json.loads(service.stdout.readline())
    os.environ.update(environment)
    print("\n".join(f"{name}={value}" for name, value in environment.items() if "KEY" not in name))
else:
    settings, config = tomllib.loads(Path(CLOUD).read_text())["cloud"], ["--config", CLOUD]
    if "region" in settings:  # for the bucket and the endpoint, too
        os.environ["AWS_REGION"] = settings["region"]
BUCKET = settings.get("bucket", "bintally")

# %% [markdown]
# ## Push
#
# The split goes to the bucket as managed image jobs read it, a folder a part and count, with its manifest. Every object is
# checked after it was sent, and a second push sends only what changed.

# %%
DATA = f"s3://{BUCKET}/bins"
pushed = bintally("push", split, DATA, "--json")
print(pushed)

# %% [markdown]
# ## Tune
#
# A tuning job starts several trainings with different settings, reads the objective off their logs and chooses the next
# settings by what it has seen. The objective is the negative log-likelihood of the validation photos: unlike accuracy it
# also rewards honest doubt. What varies is what the course varies, the learning rate and the batch size. On this machine a
# small network is trained from scratch; on AWS the recipe `seed` trains a linear head on a pretrained ResNet50.

# %%
RECIPE = "demo" if CLOUD == "local" else "seed"
space = work / "search.space.toml"
space.write_text(
    "[train]\nhead_lr = { low = 3e-4, high = 1e-2, log = true }\nbatch_size = { choices = [16, 32, 64] }\n"
)
limits = ["--jobs", TUNE_JOBS, "--parallel", 2, "--strategy", "Bayesian"]
backbone = ["--backbone", BACKBONE] if BACKBONE else []
tuning = bintally(
    *("cloud", "tune", DATA, "--recipe", RECIPE, "--space", space, *limits, *backbone),
    *("--set", f"train.epochs={TUNE_EPOCHS}", "--json", *config),
)

# %% [markdown]
# What the trainings came to, the best one first. A lead this small may be luck: `bintally tune`, which runs without a
# service, repeats the best with other seeds and says so.

# %%
done = [one for one in tuning["trainings"] if one["value"] is not None]
fig, ax = plt.subplots(figsize=(6, 2.6))
for size in ("16", "32", "64"):
    some = [one for one in done if one["tuned"]["train.batch_size"].strip('"') == size]
    ax.scatter(
        [float(one["tuned"]["train.head_lr"]) for one in some], [one["value"] for one in some], label=f"batch {size}"
    )
ax.set(xscale="log", xlabel="learning rate", ylabel="validation nll")
ax.legend(frameon=False)
plt.show()
caption(f"Negative log-likelihood of the {len(done)} trainings of {tuning['name']}; lower is better.")
best = {name: value.strip('"') for name, value in done[0]["tuned"].items()}
best

# %% [markdown]
# ## Train, with debugging and profiling
#
# The training job gets the best settings. `--watch` reads gradients, weights, activations and losses while it trains and
# holds the debug rules against them; `--profile` measures where a step's time goes and tries what should make it faster.
# When it is over, the job has evaluated itself on the test part and exported a model; both come back with `--to`.

# %%
RUN = work / "trained"
chosen = [word for name, value in best.items() for word in ("--set", f"{name}={value}")]
job = bintally(
    *("cloud", "train", DATA, "--recipe", RECIPE, *chosen, "--set", f"train.epochs={EPOCHS}", *backbone),
    *("--watch", "--profile", "--set", "profile.steps=12", "--set", "profile.try_steps=8"),
    *("--to", RUN, "--json", *config),
)
print(job["name"], job["status"], *(f"{one['status']} {one['seconds']:.0f} s" for one in job["steps"]), sep="\n  ")

# %% [markdown]
# ## Read the reports
#
# First the learning curves: where the validation loss turns upwards while the training loss goes on falling, the network
# learns its photos by heart. The epoch that is kept is the best one on the validation part.

# %%
display(Image(filename=str(RUN / "output" / "curves.png"), width=850))
caption("Loss, accuracy and error over the epochs; dotted: the epoch that is kept.")

# %% [markdown]
# What the debug rules found, and what people do about it. Classes are numbered from 0, the smallest count. The thresholds are
# the familiar ones; `bintally watch` judges the same records by others.

# %%
verdicts = {path.stem: json.loads(path.read_bytes()) for path in sorted((RUN / "output" / "watch").glob("*.json"))}
fired = {name: one for name, one in verdicts.items() if one["RuleTriggered"]}
lines = [
    f"- **{name}**, {one['Violations']} finding{'s' * (one['Violations'] != 1)}; "
    f"step {one['Details']['findings'][0]['step']}: {one['Details']['findings'][0]['message']}. {one['Details']['advice']}"
    for name, one in fired.items()
]
quiet = ", ".join(sorted(verdicts.keys() - fired.keys()))
display(Markdown("\n".join(lines or ["No rule fired."]) + f"\n\nQuiet: {quiet}."))

# %% [markdown]
# Where a training step's time goes, and what would make it faster: each piece of advice was tried, and says how much it gave.

# %%
profile = json.loads((RUN / "output" / "profile" / "profile.json").read_bytes())
fig, ax = plt.subplots(figsize=(8, 1.3))
left = 0
for name, one in profile["phases"].items():
    ax.barh(0, 100 * one["share"], left=left, label=name.replace("_", " "))
    left += 100 * one["share"]
ax.set(yticks=[], xlabel="% of a step", xlim=(0, 100))
ax.legend(frameon=False, ncols=5, loc="lower left", bbox_to_anchor=(0, 1))
plt.show()
caption(f"{profile['photos_per_second']:.0f} photos a second. {profile['headline']}")
display(Markdown("\n".join(f"- {one['line']}" for one in profile["advice"])))

# %% [markdown]
# And how well it counts, on photos of bins that it never saw, beside a counter that never looks at the photo and gives
# each the most frequent count. The intervals come from drawing groups of photos again and again.

# %%
found = json.loads((RUN / "output" / "evaluation" / "evaluation.json").read_bytes())
own = found["scopes"][0]
figures, blind = (own["calibrated"] or own["raw"])["figures"], own["blind"]["figures"]
table = [
    f"| {name} | {figures[key]['value']:.3f} | {figures[key]['low']:.3f} to {figures[key]['high']:.3f} | {blind[key]:.3f} |"
    for key, name in (("accuracy", "accuracy"), ("within_one", "within one"), ("rmse", "RMSE"), ("nll", "log-loss"))
]
display(Markdown("| | counter | 95 % interval | never looks |\n|---|--:|--:|--:|\n" + "\n".join(table)))
caption(f"{own['num_photos']} photos of the test part. " + " ".join(f"{one}." for one in found["warnings"]))

# %% [markdown]
# All of it in one document, the report that the course asks for, as a page and as PDF: definition, data, method, benchmark,
# tuning, training, findings, results beside the published ones, examples right and wrong, cost.

# %%
for name, told in (("tuning", tuning), ("job", job)):
    (work / f"{name}.json").write_text(json.dumps(told))
jobs = ["--job", work / "tuning.json", "--job", work / "job.json"]
bintally("report", RUN / "output", "--photos", split, *jobs, "--to", work / "report.html", "--pdf")

# %% [markdown]
# ## Deploy
#
# The model goes behind an endpoint. On AWS it costs by the hour from here on, until the last cell.

# %%
endpoint = bintally("cloud", "deploy", job["name"], "--name", "bin-counter", "--json", *config)
print(endpoint["name"], endpoint["status"], endpoint["model"], sep="\n  ")

# %% [markdown]
# ## Predict
#
# An example photo of the test part. A count without a probability is of no use to somebody who has to decide whether to walk
# to a bin, so the endpoint answers with a probability for every count.

# %%
example = next((one for one in found["sample"] if one["right"]), found["sample"][0])
photo = bins / "bin-images" / f"{example['photo_id']}.jpg"
answer = bintally("cloud", "predict", "bin-counter", photo, "--json", quiet=True)


def show(photo, answer, record):
    """A photo beside the distribution over counts that it was answered with."""
    _, (left, right) = plt.subplots(1, 2, figsize=(7.5, 2.9), width_ratios=(1, 1.4))
    left.imshow(imread(photo))
    left.axis("off")
    shares = {count: share for count, share in enumerate(answer["probabilities"]) if count > 0}
    colours = ["#3f9e5a" if count == record else "#3b82c4" for count in shares]
    right.bar(list(shares), [100 * share for share in shares.values()], color=colours)
    right.set(xlabel="items", ylabel="probability, %", xticks=list(shares))
    plt.tight_layout()
    plt.show()
    caption(
        f"Photo {photo.stem}: counted {answer['count']} ({answer['probability']:.0%}), expected {answer['expected']:.1f}; "
        f"the record says {record} (green)."
    )


show(photo, answer, example["label"])

# %% [markdown]
# The same by boto3 alone, as any program would ask: the photo's bytes go in, JSON comes out.

# %%
import boto3

runtime = boto3.client("sagemaker-runtime", region_name=settings.get("region") or os.environ.get("AWS_REGION"))
told = runtime.invoke_endpoint(EndpointName="bin-counter", ContentType="image/jpeg", Body=photo.read_bytes())
json.loads(told["Body"].read())

# %% [markdown]
# And some more photos of the test part, picked by chance: what its answers are usually like.

# %%
some = found["sample"][:8]
paths = [bins / "bin-images" / f"{one['photo_id']}.jpg" for one in some]
answers = bintally("cloud", "predict", "bin-counter", *paths, "--json", quiet=True, lines=True)
fig, axes = plt.subplots(2, 4, figsize=(9, 5))
for ax, one, path, said in zip(axes.flat, some, paths, answers):
    ax.imshow(imread(path))
    ax.axis("off")
    right = said["count"] == one["label"]
    ax.set_title(
        f"{said['count']} ({said['probability']:.0%}), record {one['label']}", color="#2c7a43" if right else "#b3352f"
    )
plt.tight_layout()
plt.show()
caption("Counted, with its probability, and the record; green where they agree.")

# %% [markdown]
# ## Clean up
#
# What bintally made with the service bears its tag, and nothing else is touched: the endpoint, its configuration and its
# model are removed. What the jobs wrote stays in the bucket, and the command says how to remove that as well. On this
# machine the service is ended too.

# %%
bintally("cloud", "destroy", "--yes", *config)
if CLOUD == "local":
    service.terminate()
    service.wait(60)
    log.close()
