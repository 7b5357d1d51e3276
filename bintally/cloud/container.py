"""The contract of a managed training container: what the job is asked, where its data lie, where its results belong.

A program in such a container finds everything below one folder, /opt/ml (BINTALLY_OPT_ML names another one):
`input/config/{hyperparameters,inputdataconfig,resourceconfig}.json`, `input/data/<channel>`; it writes `model`,
`output/data`, `output/failure` and `checkpoints`. In the service's own images a toolkit says the same by SM_* variables,
which take precedence. Nothing here trains: the command line does, with what it finds here.
"""

import contextlib
import json
import re
import shutil
import socket
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bintally import files
from bintally.card import CARD_FILE
from bintally.errors import BintallyError, SettingsError

ROOT = Path("/opt/ml")
CONFIG = "input/config"
DATA = "input/data"
SPLIT_FILE = "split.parquet"
BACKBONE_CHANNEL = "backbone"
PART_CHANNELS = ("train", "training", "validation", "valid", "val", "calibration", "test")
PORT = 29_507
"""Where the first of several hosts waits for the others, unless MASTER_PORT says otherwise."""

SHOWN = 1024
"""So many characters of the failure file are what the service tells as the reason."""

_NOT_REPORTED = {"checkpoints", "model.safetensors", "backbone.json"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What the surroundings of a training job say.

    Attributes:
        root: /opt/ml, or what stands for it.
        hyperparameters: name → value, as strings; those that are meant for the service's toolkits are left out.
        channels: name → folder of its data.
        hosts: all machines of the job, in an order that all of them agree on.
        host: this machine's name among them.
        interface: network interface that the hosts talk over; empty when nobody said.
        num_gpus: of this machine, as far as somebody said.
        model: the folder whose contents become the job's model.
        output_data: the folder whose contents are kept beside it.
        failure: the file that tells why a job failed.
        checkpoints: the folder that survives an interruption.
    """

    root: Path
    hyperparameters: Mapping[str, str]
    channels: Mapping[str, Path]
    hosts: tuple[str, ...]
    host: str
    interface: str
    num_gpus: int
    model: Path
    output_data: Path
    failure: Path
    checkpoints: Path

    @property
    def rank(self) -> int:
        """This host's place among all."""
        return self.hosts.index(self.host)

    @property
    def run(self) -> Path:
        """The run folder: a job that is started again finds it there and goes on."""
        return self.checkpoints / "run"

    @property
    def profile(self) -> Path:
        """Where the profile is kept: beside the run, since it is made before there is one."""
        return self.checkpoints / "profile"


def root_of(environ: Mapping[str, str]) -> Path:
    """/opt/ml, or what BINTALLY_OPT_ML names."""
    return Path(environ.get("BINTALLY_OPT_ML") or ROOT)


def in_container(environ: Mapping[str, str]) -> bool:
    """Whether a training job's hyperparameters lie here, or its toolkit's variables are set."""
    return (root_of(environ) / CONFIG / "hyperparameters.json").is_file() or "SM_HPS" in environ


def failure_file(environ: Mapping[str, str]) -> Path:
    """Where a failure is told; known even when nothing else of the surroundings can be read."""
    return Path(environ.get("SM_OUTPUT_DIR") or root_of(environ) / "output") / "failure"


def read_container(environ: Mapping[str, str]) -> Container:
    """Reads what the surroundings say.

    Raises:
        SettingsError: a file is damaged or says what this program cannot do.
    """
    root = root_of(environ)
    raw = _said(environ, "SM_HPS") or _read(root / CONFIG / "hyperparameters.json", {})
    resources = _read(root / CONFIG / "resourceconfig.json", {})
    hosts = _said(environ, "SM_HOSTS") or resources.get("hosts") or ["algo-1"]
    host = environ.get("SM_CURRENT_HOST") or resources.get("current_host") or hosts[0]
    if host not in hosts:
        raise SettingsError(f"resourceconfig.json: this host, {host}, is none of {', '.join(map(str, hosts))}")
    interface = environ.get("SM_NETWORK_INTERFACE_NAME") or resources.get("network_interface_name") or ""
    return Container(
        root=root,
        hyperparameters=_plain(raw),
        channels=_channels(root, environ),
        hosts=tuple(hosts),
        host=host,
        interface=str(interface),
        num_gpus=int(environ.get("SM_NUM_GPUS") or 0),
        model=Path(environ.get("SM_MODEL_DIR") or root / "model"),
        output_data=Path(environ.get("SM_OUTPUT_DATA_DIR") or root / "output/data"),
        failure=failure_file(environ),
        checkpoints=root / "checkpoints",
    )


def find_data(container: Container) -> Path | dict[str, Path]:
    """The photos among the channels.

    Returns:
        A folder that holds a split manifest or class folders, or part's name → folder where each part is a channel.

    Raises:
        SettingsError: no channel holds photos as this program reads them.
    """
    others = {name: path for name, path in container.channels.items() if name != BACKBONE_CHANNEL}
    splits = [path for path in others.values() if (path / SPLIT_FILE).is_file()]
    if splits:
        first = others.get("data")
        return first if first in splits else splits[0]
    parts = {name: path for name, path in others.items() if name in PART_CHANNELS and _has_counts(path)}
    if parts:
        return parts
    for path in others.values():
        if any(_has_counts(path / name) for name in PART_CHANNELS):
            return path
    held = "; ".join(f"{name} ({_glance(path)})" for name, path in others.items()) or "none"
    raise SettingsError(
        f"no channel holds photos: give a channel `data` with what `bintally push` wrote, or channels `train` and "
        f"`validation` of class folders. The channels are: {held}"
    )


def rendezvous(container: Container, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables by which the processes of several hosts find each other; empty for a single host.

    What `environ` says already stays: MASTER_ADDR, MASTER_PORT and the interfaces' names.
    """
    if len(container.hosts) < 2:
        return {}
    found = {
        "MASTER_ADDR": container.hosts[0],
        "MASTER_PORT": str(PORT),
        "NODE_RANK": str(container.rank),
    }
    if container.interface in {name for _, name in socket.if_nameindex()}:
        found |= {"GLOO_SOCKET_IFNAME": container.interface, "NCCL_SOCKET_IFNAME": container.interface}
    kept = {name: environ[name] for name in found if name in environ and name != "NODE_RANK"}
    return found | kept


def wait_for_name(host: str, seconds: float = 300.0) -> None:
    """Waits until a host's name is known: hosts start one after the other, and their names with them.

    Raises:
        BintallyError: it is not known in time.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            socket.getaddrinfo(host, None)
            return
        except OSError as error:
            if time.monotonic() >= until:
                raise BintallyError(f"the host {host} is not known by its name after {seconds:.0f} s") from error
        time.sleep(min(1.0, seconds / 10))


def write_failure(path: Path, error: BaseException) -> None:
    """Tells why the job failed: one line first, which is what the service shows, then where it came from.

    Args:
        path: the failure file.
        error: what ended the program.
    """
    line = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, BintallyError):
        line = f"{type(error).__name__}: {line}"
    text = line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"
    if not isinstance(error, BintallyError):
        text += "\n\n" + "".join(traceback.format_exception(error))
    files.write_text(path, f"{text}\n")


def forget_failure(path: Path) -> None:
    """Removes what an earlier try told, so that it does not look like this one's."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def deliver_model(exported: Path, container: Container) -> None:
    """Puts an exported model's files where the service takes the model from, its card last."""
    names = sorted((one for one in exported.iterdir() if one.is_file()), key=lambda one: one.name == CARD_FILE)
    for one in names:
        with files.replacing(container.model / one.name) as part:
            shutil.copyfile(one, part)


def deliver_reports(container: Container) -> None:
    """Copies what the run wrote beside weights and checkpoints to where the service keeps a job's output."""
    for folder, to in (
        (container.run, container.output_data),
        (container.profile, container.output_data / container.profile.name),
    ):
        for path in sorted(folder.rglob("*")):
            place = path.relative_to(folder)
            if path.is_file() and place.parts[0] not in _NOT_REPORTED and not path.name.startswith("."):
                with files.replacing(to / place, durable=False) as part:
                    shutil.copyfile(path, part)


def _channels(root: Path, environ: Mapping[str, str]) -> dict[str, Path]:
    config = _read(root / CONFIG / "inputdataconfig.json", {})
    for name, about in config.items():
        if isinstance(about, dict) and about.get("TrainingInputMode") == "Pipe":
            raise SettingsError(f"the channel {name} is given as a pipe: use the input mode File or FastFile")
    found = {name: root / DATA / name for name in config if (root / DATA / name).is_dir()}
    if not config and (root / DATA).is_dir():
        found = {one.name: one for one in sorted((root / DATA).iterdir()) if one.is_dir()}
    for variable, path in environ.items():
        if variable.startswith("SM_CHANNEL_") and Path(path).is_dir():
            found[variable.removeprefix("SM_CHANNEL_").lower()] = Path(path)
    return found


def _has_counts(path: Path) -> bool:
    return path.is_dir() and any(re.fullmatch(r"\d{1,4}\+?", one.name) and one.is_dir() for one in path.iterdir())


def _glance(path: Path) -> str:
    names = sorted(one.name for one in path.iterdir())
    return ", ".join([*names[:3], *(["…"] if len(names) > 3 else [])]) or "empty"


def _plain(raw: Mapping[str, Any]) -> dict[str, str]:
    # The service's toolkits write each value as JSON, strings in quotes; other callers write plain strings.
    plain = {}
    for name, value in raw.items():
        if name.startswith(("sagemaker_", "_")):
            continue
        if isinstance(value, str):
            text = value
            if len(value) > 1 and value[0] == value[-1] == '"':
                with contextlib.suppress(ValueError):
                    text = str(json.loads(value))
            plain[name] = text
        else:
            plain[name] = json.dumps(value)
    return plain


def _said(environ: Mapping[str, str], name: str) -> Any:
    if not environ.get(name):
        return None
    try:
        return json.loads(environ[name])
    except ValueError as error:
        raise SettingsError(f"the variable {name} is no JSON: {error}") from error


def _read(path: Path, otherwise: dict[str, Any]) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return otherwise
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot read {path}: {error}") from error
    if not isinstance(value, dict):
        raise SettingsError(f"{path} holds no JSON object")
    return value
