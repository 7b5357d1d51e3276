"""Training on several machines that share no disk: what the first one has on its own is told to the others."""

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from bintally import files
from bintally.card import CARD_FILE, ModelCard, read_card
from bintally.errors import BintallyError, RunError
from bintally.learn import run as run_folder


def is_first_process() -> bool:
    """Whether this is the first process of the first host, before or after Fabric has started."""
    return os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("NODE_RANK", "0") == "0"


def share(fabric: Fabric, value: bytes) -> bytes:
    """The bytes that the first process holds. Every process calls this; what the others hold does not matter.

    As tensors: Fabric's own broadcast of objects pickles them.
    """
    first = fabric.global_rank == 0
    size = torch.tensor([len(value)], dtype=torch.int64, device=fabric.device)
    torch.distributed.broadcast(size, src=0)
    data = torch.zeros(int(size.item()), dtype=torch.uint8, device=fabric.device)
    if first and value:
        data.copy_(torch.frombuffer(bytearray(value), dtype=torch.uint8))
    if len(data):
        torch.distributed.broadcast(data, src=0)
    return data.cpu().numpy().tobytes()


def begin(
    fabric: Fabric, run: Path, digest: str, look: Callable[[], Mapping[str, Any] | None]
) -> dict[str, Any] | None:
    """What the first host's run folder says, with its checkpoint, on every host.

    Args:
        fabric: launched.
        run: each host's run folder; those of the others get the first one's checkpoints, and nothing else.
        digest: the manifest's on this host.
        look: looks at the run folder; called on the first process alone.

    Returns:
        What `look` returned there.

    Raises:
        RunError: what `look` raised there; or the hosts hold different photos.
    """
    told: dict[str, Any] = {"digest": digest, "before": None, "error": ""}
    if fabric.global_rank == 0:
        try:
            told["before"] = look()
        except BintallyError as error:
            told["error"] = str(error)
    told = json.loads(share(fabric, json.dumps(told).encode()))
    if told["error"]:
        raise RunError(told["error"])
    differs = torch.tensor([float(told["digest"] != digest)], device=fabric.device)
    torch.distributed.all_reduce(differs)
    if differs.item():
        raise RunError(
            "the hosts hold different photos: give each of them all (S3DataDistributionType FullyReplicated)"
        )
    for name in (run_folder.CHECKPOINT, run_folder.REFIT_CHECKPOINT):
        checkpoint = run / name
        goes_on = fabric.global_rank == 0 and told["before"] and checkpoint.exists()
        held = checkpoint.read_bytes() if goes_on else b""
        held = share(fabric, held)
        if fabric.node_rank and fabric.local_rank == 0:
            if held:
                files.write_bytes(checkpoint, held)
            else:
                checkpoint.unlink(missing_ok=True)  # of a run that the first host knows nothing of
    fabric.barrier()
    before: dict[str, Any] | None = told["before"]
    return before


def card_of(fabric: Fabric, run: Path) -> ModelCard:
    """The run's card, on every host."""
    mine = (run / CARD_FILE).read_bytes() if fabric.global_rank == 0 else b""
    with tempfile.TemporaryDirectory(prefix="bintally-card-") as name:
        (Path(name) / CARD_FILE).write_bytes(share(fabric, mine))
        return read_card(Path(name), check_files=False)


def broken_off(error: RuntimeError) -> RunError | None:
    """What to say when the other processes were lost; None when the error is of another kind."""
    text = str(error)
    lost = isinstance(error, torch.distributed.DistError) or "gloo" in text.lower() or "NCCL" in text
    if not lost:
        return None
    line = text.strip().splitlines()[0][:200]
    return RunError(f"the other processes of this training were lost: see what they say of it ({line})")
