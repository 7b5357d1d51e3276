"""The OpenAPI description, held against the server by Schemathesis, and photos damaged at random."""

import base64
import contextlib
import json
import random
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi import checks as conformance

from bintally.serve.openapi import describe
from bintally.serve.options import ServeSettings
from tests.model_folder import make_model, make_photo
from tests.serve.stand_in import Server, serving

CHECKS = [
    not_a_server_error,
    conformance.status_code_conformance,
    conformance.content_type_conformance,
    conformance.response_schema_conformance,
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("openapi"), ms=0.1) as running:
        yield running


def test_the_description_names_every_status_and_needs_no_token_without_one() -> None:
    plain, guarded = describe(ServeSettings()), describe(ServeSettings(token="x"))
    assert "security" not in json.dumps(plain)
    assert guarded["paths"]["/v1/count"]["post"]["security"] == [{"token": []}]
    assert "401" in guarded["paths"]["/metrics"]["get"]["responses"]
    assert "security" not in guarded["paths"]["/ping"]["get"]


def hold(server: Server, examples: int) -> None:
    config = SchemathesisConfig()
    schema = schemathesis.openapi.from_dict(describe(ServeSettings()), config=config)
    schema.config.update(base_url=server.url)
    tried = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
            strategy = operation.as_strategy(generation_mode=mode)

            @settings(
                max_examples=examples,
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=strategy)
            def run(case: schemathesis.Case) -> None:
                case.call_and_validate(base_url=server.url, checks=CHECKS)

            with contextlib.suppress(Unsatisfiable):  # nothing can be wrong about an operation without parameters
                run()
            tried += 1
    assert tried >= 6


def test_the_server_keeps_to_its_description(server: Server) -> None:
    hold(server, 25)
    assert not server.events("a mistake in bintally")


@pytest.mark.slow
def test_the_server_keeps_to_its_description_at_length(server: Server) -> None:
    hold(server, 1000)
    assert not server.events("a mistake in bintally")


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Bytes changed, cut, doubled, moved, mostly near the headers, where decoders decide."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 50))):
        place = min(int(len(out) * rng.random() ** 3), max(0, len(out) - 1))
        kind = rng.randrange(6)
        if kind == 0 and out:
            out[place] = rng.randrange(256)
        elif kind == 1:
            del out[place : place + rng.choice((1, 2, 100, len(out)))]
        elif kind == 2:
            out[place:place] = out[place : place + rng.randrange(1, 200)]
        elif kind == 3:
            out[place:place] = rng.randbytes(rng.randrange(1, 64))
        elif kind == 4 and out:
            out[place : place + 2] = rng.choice((b"\xff\xd8", b"\xff\xda", b"\xff\xff", b"\x00\x00", b"\xff\xc0"))
        else:
            del out[place:]
    return bytes(out)


def assault(server: Server, number: int) -> None:
    rng = random.Random(1)
    seeds = [make_photo(0, 300, 200, "JPEG"), make_photo(1, 60, 40, "PNG"), make_photo(2, 500, 500, "JPEG")]
    resident = Path(f"/proc/{server.process.pid}/statm")
    statuses: dict[int, int] = {}
    before = 0
    with httpx.Client(base_url=server.url, timeout=30) as client:
        for place in range(number):
            data = mutate(rng.choice(seeds), rng)
            kind = rng.choice(("image/jpeg", "image/png"))
            match rng.randrange(4):
                case 0:
                    answer = client.post("/v1/count", files=[("photos", ("a", data)), ("photos", ("b", seeds[0]))])
                case 1:
                    answer = client.post("/invocations", json={"photos": [base64.b64encode(data).decode()]})
                case 2:
                    answer = client.post("/v1/explain", content=data, headers={"content-type": kind})
                case _:
                    answer = client.post("/invocations", content=data, headers={"content-type": kind})
            statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
            assert answer.status_code in {200, 413, 422, 503, 504}, (place, answer.text)
            if place == number // 2:
                before = int(resident.read_text().split()[1])
        assert statuses[200] > number // 10
        assert statuses[422] > number // 10
        assert client.get("/ping").status_code == 200
    assert server.process.poll() is None
    assert int(resident.read_text().split()[1]) < before * 1.25
    assert not server.events("a mistake in bintally")


def test_damaged_photos_are_refused_with_a_reason(server: Server) -> None:
    assault(server, 400)


@pytest.mark.slow
def test_ten_thousand_damaged_photos(server: Server) -> None:
    assault(server, 10_000)


def test_the_engine_itself_meets_damaged_photos_well(tmp_path: Path) -> None:
    from bintally.serve.engine import Engine

    make_model(tmp_path / "model")
    engine = Engine.load(tmp_path / "model")
    rng = random.Random(2)
    seeds = [make_photo(0, 300, 200, "JPEG"), make_photo(1, 60, 40, "PNG")]
    assert len(engine.count([mutate(rng.choice(seeds), rng) for _ in range(200)])) == 200
